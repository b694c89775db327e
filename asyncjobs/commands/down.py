"""`asyncjobs down`: delete everything the stack owns, look again, and say what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asyncjobs.aws import translated
from asyncjobs.commands.confirm import ask, can_ask
from asyncjobs.commands.interrupt import interruptible
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, aws_target, local_target, stop_unused_engine
from asyncjobs.config import Config
from asyncjobs.console.progress import Display
from asyncjobs.errors import LeftoversError, UsageError
from asyncjobs.progress import NullProgress
from asyncjobs.provision.engine import Engine, Report, StepsFailedError
from asyncjobs.provision.halt import Halt
from asyncjobs.provision.plan import Plan, plan_down, read_all
from asyncjobs.provision.resource import NotOursError, Resource
from asyncjobs.provision.stack import stack_resources
from asyncjobs.state import StackMemory

DATA = ("table", "bucket")


def run(
    session: Session, *, target: str | None, yes: bool = False, keep_data: bool = False, timeout: float | None = None
) -> None:
    """Delete the stack.

    Args:
        target: "local" or "aws"; None means where it was last brought up, else AWS.
        keep_data: Leave the table and the bucket, for the next `up`.
        timeout: Seconds after which nothing new is begun and nothing waited for.

    Raises:
        LeftoversError: Something is left.
        StepsFailedError: It was interrupted.
        UsageError: It was not confirmed.
    """
    local = session.is_local_with(target)
    if local and not _has_engine_data(session):
        _nothing(session, "local")
        return
    with session.locked():
        _run(session, local=local, yes=yes, kept=DATA if keep_data else (), halt=Halt(timeout))


def _run(session: Session, *, local: bool, yes: bool, kept: Sequence[str], halt: Halt) -> None:
    display = Display(session.output)
    with display.shown():
        place = local_target(session, display, start=True) if local else aws_target(session)
        context = place.context(Config(), display, halt=halt)
        resources = stack_resources(context, place.image(None, Config(), display))
        plan = _plan(resources, kept, lambda error: session.output.say(f"Left alone: {error.what} {error.why}"))
    if _is_empty(plan):
        stop_unused_engine(session, place, NullProgress())
        _nothing(session, place.name)
        return
    if not yes:
        _confirm(session, place, plan)
    with display.shown():
        report = _delete(resources, plan, kept, display, halt)
        stop_unused_engine(session, place, display)
    # Which target the stack was on is still what a later command means.
    session.state.remember(session.stack, StackMemory(place.name, place.names.region))
    _show_report(session, place, report, kept)


def _delete(resources: list[Resource], plan: Plan, kept: Sequence[str], display: Display, halt: Halt) -> Report:
    failure = None
    try:
        with interruptible(halt):
            report = Engine(display, halt).down(plan)
    except StepsFailedError as error:
        if halt.halted:
            raise
        failure, report = error, error.report
    left = _plan(resources, kept, lambda _: None)
    if _is_empty(left):
        return report  # what failed was already gone, or somebody else's `down` did it
    titles = [step.resource.title for step in left.steps if step.resource.step != "image"]
    raise LeftoversError(
        f"Something is left: {', '.join(titles)}.",
        why=f"{failure.what}\n       {failure.why}".strip() if failure else "It was made, or made again, meanwhile.",
        hint=failure.hint if failure else "Run `asyncjobs down` again.",
        details={**(failure.details if failure else {}), "left": titles},
    ) from failure


def _plan(resources: list[Resource], kept: Sequence[str], on_namesake: Callable[[NotOursError], None]) -> Plan:
    with translated():
        plan = plan_down(resources, read_all(resources, on_namesake=on_namesake))
    return Plan(tuple(step for step in plan.steps if step.resource.step not in kept))


def _is_empty(plan: Plan) -> bool:
    """The image alone is no stack: one given from outside is not ours, a snapshot is only a cache."""
    return all(step.resource.step == "image" for step in plan.steps)


def _has_engine_data(session: Session) -> bool:
    return (session.state.local / "data").is_dir()


def _nothing(session: Session, target: str) -> None:
    if session.output.as_json:
        session.output.document({"stack": session.stack, "target": target, "deleted": [], "left": []})
    else:
        session.output.say(f"There is nothing to take down: the stack {session.stack} is not up.")


def _show_report(session: Session, target: Target, report: Report, kept: Sequence[str]) -> None:
    output = session.output
    if output.as_json:
        found = {"stack": session.stack, "target": target.name, "deleted": report.changed, "left": []}
        output.document({**found, "kept": list(kept)} if kept else found)
        return
    left = "the table and the bucket are kept" if kept else "nothing is left"
    count = len(report.steps)
    output.say(f"Stack {session.stack} is down: {count} resources deleted in {report.seconds:.1f} s, {left}.")
    if kept:
        output.say("`asyncjobs up` takes them back, `asyncjobs down` deletes them.")


def _confirm(session: Session, target: Target, plan: Plan) -> None:
    where = "on this machine" if target.name == "local" else f"in account {target.names.account}, {target.names.region}"
    steps = {step.resource.step for step in plan.steps}
    losses = _losses(target, steps)
    what = f"This deletes the stack {session.stack} {where}: {len(plan.steps)} resources, with {losses}."
    if can_ask(session):
        ask(session, f"{what} Delete it?", refused="Nothing was deleted.")
    elif target.name == "aws":
        raise UsageError(what, why="There is no terminal to ask at.", hint="Say so with `--yes`.")


def _losses(target: Target, steps: set[str]) -> str:
    """What cannot be had again: counts are those of this moment, and approximate as SQS says them."""
    parts = []
    if "queue" in steps:
        parts.append(f"about {_jobs_in_queue(target)} jobs in its queue")
    if "service" in steps:
        parts.append(f"{_running_tasks(target)} running tasks")
    if "table" in steps:
        parts.append("all job records")
    if "bucket" in steps:
        parts.append("all results")
    return ", ".join(parts) or "nothing that holds data"


def _jobs_in_queue(target: Target) -> int:
    sqs = target.clients.sqs
    with translated():
        url = sqs.get_queue_url(QueueName=target.names.queue)["QueueUrl"]
        found = sqs.get_queue_attributes(
            QueueUrl=url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
    return sum(map(int, found.values()))


def _running_tasks(target: Target) -> int:
    names = target.names
    with translated():
        found = target.clients.ecs.describe_services(cluster=names.cluster, services=[names.service])["services"]
    return found[0]["runningCount"] if found else 0
