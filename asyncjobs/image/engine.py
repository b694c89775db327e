"""The Docker engine: where it is, and what stands in the way of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncjobs.errors import DockerError, NoEngineError
from asyncjobs.image.refusals import disk_full

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.errors import APIError

DEFAULT = "unix:///var/run/docker.sock"
_ANSWER_SECONDS = 10
# A build step may say nothing for as long as it takes to compile something.
_SILENCE_SECONDS = 3600
_PODMAN = "unix:///run/podman/podman.sock"


def connect(env: Mapping[str, str] = os.environ, usual: str = DEFAULT) -> DockerClient:
    """A client of the engine that the `docker` command would use, else of Podman.

    Args:
        usual: Where an engine is that nothing else names.

    Raises:
        NoEngineError: None answers; says why, and what to do.
    """
    from docker import DockerClient
    from docker.errors import DockerException

    settings = _settings(env, usual)
    address = settings["base_url"]
    try:
        _knock(address)
        client = DockerClient(**settings, version="auto", timeout=_ANSWER_SECONDS)
    except (DockerException, OSError, ValueError) as error:
        raise _unavailable(error, address) from error
    client.api.timeout = _SILENCE_SECONDS
    return client


@contextmanager
def translated() -> Iterator[None]:
    """Within it, the Docker SDK's errors come out as DockerError."""
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        said = said_by(error)
        raise disk_full(said) or DockerError("The Docker engine refuses a call.", why=said) from error
    except (DockerException, OSError) as error:  # what the SDK lets through of requests is an OSError
        raise disk_full(str(error)) or DockerError(
            "The Docker engine has gone away.",
            why=str(error),
            hint="Look with `docker version` whether it runs, and run it again.",
        ) from error


def said_by(error: APIError) -> str:
    """The engine's own words."""
    return str(error.explanation or error)


def whole(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A stream of the engine's, read to its end even where who reads it stops: else the connection stays open."""
    try:
        for line in lines:  # noqa: UP028 - `yield from` would close it
            yield line
    finally:
        for _ in lines:
            pass


def _settings(env: Mapping[str, str], usual: str) -> dict[str, Any]:
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    if env.get("DOCKER_HOST"):
        try:
            return dict(kwargs_from_env(environment=dict(env)))
        except DockerException as error:  # certificates that it names and that are not there
            raise _unavailable(error, env["DOCKER_HOST"]) from error
    return _context(env) or {"base_url": _socket(env, usual)}


def _context(env: Mapping[str, str]) -> dict[str, Any]:
    """What `docker context use` chose: Docker Desktop, Colima and others are reached by it, not by the usual socket."""
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        named = env.get("DOCKER_CONTEXT")  # the SDK knows only what the configuration says
        context = ContextAPI.get_context(named) if named else ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return {}
    if context is None or context.Name == "default" or not context.Host:
        return {}
    return {"base_url": context.Host, **({"tls": context.TLSConfig} if context.TLSConfig else {})}


def _socket(env: Mapping[str, str], usual: str) -> str:
    """The usual one, else Podman's where that is the only one there is."""
    runtime = env.get("XDG_RUNTIME_DIR")
    podman = [*([f"unix://{runtime}/podman/podman.sock"] if runtime else []), _PODMAN]
    return next((address for address in (usual, *podman) if _exists(address)), usual)


def _exists(address: str) -> bool:
    try:
        return Path(address.removeprefix("unix://")).exists()
    except OSError:
        return False  # a directory of somebody else's


def _knock(address: str) -> None:
    """Raises OSError, with the system's own number, where nobody is behind a socket: the SDK makes a text of it."""
    if address.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(_ANSWER_SECONDS)
            door.connect(address.removeprefix("unix://"))


def _unavailable(error: Exception, address: str) -> NoEngineError:
    if isinstance(error, PermissionError):
        return NoEngineError(
            "The Docker engine does not let this user in.",
            why=f"{address}: {error.strerror}",
            hint="Add yourself to its group, `sudo usermod -aG docker $USER`, and log in again; "
            "or use Docker or Podman without root, and set DOCKER_HOST to its socket.",
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NoEngineError(
            "There is no Docker engine.",
            why=f"{address} does not exist.",
            hint="Install and start Docker (https://docs.docker.com/get-docker/), or set DOCKER_HOST to the socket of "
            "the one you have; Podman's is there after `systemctl --user enable --now podman.socket`. "
            "`--builder python` takes none, for a project without a Dockerfile of its own.",
        )
    return NoEngineError(
        "The Docker engine does not answer.",
        why=f"{address}: {getattr(error, 'strerror', None) or error}",
        hint="Start it (`sudo systemctl start docker`, or Docker Desktop), and look with `docker version`. "
        "DOCKER_HOST, where it is set, says where it is looked for.",
    )
