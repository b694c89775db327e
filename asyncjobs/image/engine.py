"""The Docker engine: where it is, and what stands in the way of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncjobs.errors import NoEngineError

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 10
# A build step may say nothing for as long as it takes to compile something.
_SILENCE_SECONDS = 3600
_PODMAN = "/run/podman/podman.sock"


def connect(env: Mapping[str, str] = os.environ) -> DockerClient:
    """A client of the engine that the `docker` command would use, else of Podman.

    Raises:
        NoEngineError: None answers; says why, and what to do.
    """
    from docker import DockerClient
    from docker.errors import DockerException

    settings = _settings(env)
    try:
        client = DockerClient(**settings, version="auto", timeout=_ANSWER_SECONDS)
    except (DockerException, OSError, ValueError) as error:
        raise _unavailable(error, settings["base_url"]) from error
    client.api.timeout = _SILENCE_SECONDS
    return client


def is_podman(client: DockerClient) -> bool:
    """Whether it is Podman behind Docker's API."""
    components = client.version().get("Components") or []
    return any("podman" in str(component.get("Name", "")).lower() for component in components)


def _settings(env: Mapping[str, str]) -> dict[str, Any]:
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    if env.get("DOCKER_HOST"):
        try:
            return dict(kwargs_from_env(environment=dict(env)))
        except DockerException as error:  # certificates that it names and that are not there
            raise _unavailable(error, env["DOCKER_HOST"]) from error
    return _context() or {"base_url": _socket(env)}


def _context() -> dict[str, Any]:
    """What `docker context use` chose: Docker Desktop, Colima and others are reached by it, not by the usual socket."""
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return {}
    if context is None or context.Name == "default" or not context.Host:
        return {}
    return {"base_url": context.Host, **({"tls": context.TLSConfig} if context.TLSConfig else {})}


def _socket(env: Mapping[str, str]) -> str:
    """The usual one, else Podman's where that is the only one there is."""
    runtime = env.get("XDG_RUNTIME_DIR")
    podman = [*([f"{runtime}/podman/podman.sock"] if runtime else []), _PODMAN]
    if _exists(DEFAULT.removeprefix("unix://")):
        return DEFAULT
    return next((f"unix://{path}" for path in podman if _exists(path)), DEFAULT)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return False  # a directory of somebody else's


def _unavailable(error: Exception, address: str) -> NoEngineError:
    numbers = {cause.errno for cause in _causes(error) if isinstance(cause, OSError)}
    why = f"{address}: {_shortest(error)}"
    if numbers & {errno.EACCES, errno.EPERM}:
        return NoEngineError(
            "The Docker engine does not let this user in.",
            why=why,
            hint="Add yourself to its group, `sudo usermod -aG docker $USER`, and log in again; "
            "or use Docker or Podman without root, and set DOCKER_HOST to its socket.",
        )
    if numbers & {errno.ENOENT, errno.ENOTDIR}:
        return NoEngineError(
            "There is no Docker engine.",
            why=f"{address} does not exist.",
            hint="Install and start Docker (https://docs.docker.com/get-docker/), or set DOCKER_HOST to the socket of "
            "the one you have; Podman's is there after `systemctl --user enable --now podman.socket`. With "
            "`--builder python` it takes none, for a project without a Dockerfile of its own.",
        )
    return NoEngineError(
        "The Docker engine does not answer.",
        why=why,
        hint="Start it (`sudo systemctl start docker`, or Docker Desktop), and look with `docker version`. "
        "DOCKER_HOST, where it is set, says where it is looked for.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it was raised from; requests and urllib3 keep theirs among the arguments too."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        around = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting += [each for each in around if isinstance(each, BaseException)]


def _shortest(error: BaseException) -> str:
    """The system's own words where there are some."""
    own = next((one for one in _causes(error) if isinstance(one, OSError) and one.strerror), None)
    return own.strerror if own is not None and own.strerror else str(error)
