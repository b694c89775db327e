"""Where a stack lives: its clients, its account and region, and how its image gets there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from asyncjobs.aws import Clients, Waiter, connect, connect_local, translated
from asyncjobs.commands.session import Session
from asyncjobs.config import Config
from asyncjobs.errors import ConfigError, NotFoundError
from asyncjobs.image.recipe import BuilderName
from asyncjobs.names import Names
from asyncjobs.progress import NullProgress, Progress
from asyncjobs.provision.api_access import ApiAccess
from asyncjobs.provision.context import Context
from asyncjobs.provision.given_image import architecture_of
from asyncjobs.provision.halt import Halt
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.lock import Lock
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.rest_api import RestApi
from asyncjobs.state import StackMemory

LOCAL_REGION = "us-east-1"
TasksAs = Literal["auto", "containers", "processes"]


@dataclass(frozen=True)
class Target:
    """Where one stack lives.

    Args:
        api_url: From a REST API's id and stage to where the stage answers.
        image: The image resource for a project directory; None stands for "no project at hand" (`down`).
    """

    name: Literal["aws", "local"]
    clients: Clients
    names: Names
    api_url: Callable[[str, str], str]
    image: Callable[[Path | None, Config, Progress], Resource]

    def context(self, config: Config, progress: Progress, *, wait: bool = True, halt: Halt | None = None) -> Context:
        waiter = Waiter(progress, sleep=(halt or Halt()).sleep)
        return Context(self.clients, self.names, waiter, config, self.api_url, wait)


def aws_target(session: Session, *, image: str | None = None, builder: BuilderName | None = None) -> Target:
    """The caller's AWS account.

    Args:
        image: One that exists, in place of one that is built.
        builder: What builds it, in place of `[worker] builder`.

    Raises:
        CredentialsError: No usable credentials.
        ConfigError: No region.
    """
    clients = connect(region=session.region, profile=session.profile)
    with translated():
        account = clients.sts.get_caller_identity()["Account"]
    names = Names(session.stack, account, clients.region)
    override = session.env.get("ASYNCJOBS_API_URL")

    def api_url(api: str, stage: str) -> str:
        suffix = "amazonaws.com.cn" if names.partition == "aws-cn" else "amazonaws.com"
        return override or f"https://{api}.execute-api.{names.region}.{suffix}/{stage}"

    def make_image(project: Path | None, config: Config, progress: Progress) -> Resource:
        if project is None:
            return GivenImage("", "")
        if image is None:
            # Only here: the Docker SDK costs a tenth of a second, and `down` needs neither it nor the project.
            from asyncjobs.commands.build import built_image

            return built_image(clients, names, project, config, progress, builder)
        with translated(f"image {image}"):
            return GivenImage(image, architecture_of(image, config.worker.architecture, clients.ecr))

    return Target("aws", clients, names, api_url, make_image)


def local_target(
    session: Session,
    progress: Progress,
    *,
    start: bool,
    image: str | None = None,
    builder: BuilderName | None = None,
    tasks: TasksAs = "auto",
) -> Target:
    """The local engine of this machine.

    Args:
        start: Start the engine if it does not run.
        image, builder: As of `aws_target`.
        tasks: How tasks shall run.

    Raises:
        NotFoundError: It does not run, and was not to be started.
    """
    from asyncjobs.local.control import LocalEngine

    engine = LocalEngine(session.state.local)
    info = engine.start(progress) if start else engine.running()
    if info is None:
        raise NotFoundError(
            f"The local engine is not running, so the stack {session.stack} is not either.",
            hint="Start it again, with the data it had: `asyncjobs up --local`.",
        )
    region = session.region or (session.memory.region if session.memory else LOCAL_REGION)
    clients = connect_local(info.endpoint_url, region, info.access_key)
    with translated():
        account = clients.sts.get_caller_identity()["Account"]

    def api_url(api: str, stage: str) -> str:
        return f"{engine.api_url(api)}/{stage}"

    names = Names(session.stack, account, region)

    def make_image(project: Path | None, config: Config, progress: Progress) -> Resource:
        # Only here: it needs the `local` extra, and the engine has said by now if that is missing.
        from asyncjobs.commands.local_image import LocalImages

        registry = info.endpoint_url.removeprefix("http://")
        images = LocalImages(engine, registry, clients, names, tasks=tasks, image=image, builder=builder)
        return images.of(project, config, progress)

    return Target("local", clients, names, api_url, make_image)


def tasks_as(session: Session, option: str | None) -> TasksAs:
    """How local tasks shall run: `--tasks`, ASYNCJOBS_TASKS, else what can be had.

    Raises:
        ConfigError: It is none of the three.
    """
    wanted = option or session.env.get("ASYNCJOBS_TASKS") or "auto"
    if wanted not in ("auto", "containers", "processes"):
        raise ConfigError(f"Tasks cannot run as {wanted!r}.", hint="It is auto, containers or processes.")
    return cast(TasksAs, wanted)


def existing_target(session: Session) -> Target:
    """Where the stack was last brought up, else AWS.

    Raises:
        CredentialsError: There is no local stack of that name and there are no AWS credentials.
    """
    if session.is_local:
        return local_target(session, NullProgress(), start=False)
    return aws_target(session)


def target_of_api(session: Session) -> Target:
    """Where the stack is whose API ASYNCJOBS_API_URL names, if it is one of this machine's; else `existing_target`."""
    stack = session.state.stack_at(session.env.get("ASYNCJOBS_API_URL", ""))
    if stack is not None:
        session = replace(session, options=replace(session.options, stack=stack))
    return existing_target(session)


def no_stack(target: Target) -> NotFoundError:
    names = target.names
    return NotFoundError(
        f"There is no stack {names.stack} in account {names.account}, region {names.region}.",
        hint="Bring it up with `asyncjobs up`, or name another with `--stack` or `--region`.",
    )


def look_up(session: Session) -> StackMemory:
    """Find a stack's API and key by name and tag, and remember them.

    Raises:
        NotFoundError: There is no such stack.
    """
    target = existing_target(session)
    context = target.context(Config(), NullProgress())
    lock = Lock(context)
    with translated():
        api = RestApi(context, lock).read()
        if api is None:
            raise no_stack(target)
        access = ApiAccess(context, lock).read()
    key = access.outputs.get("key", "") if access else ""
    memory = StackMemory(target.name, target.names.region, api.outputs["url"], key)
    session.state.remember(session.stack, memory)
    return memory


def stop_unused_engine(session: Session, target: Target, progress: Progress) -> None:
    """The local engine goes away with its last stack, and its data with it."""
    if target.name != "local":
        return
    from asyncjobs.local.control import LocalEngine

    engine = LocalEngine(session.state.local)
    if not engine.stacks_left():
        engine.stop(progress)
        engine.forget()
