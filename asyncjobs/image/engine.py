"""The Docker engine: where it is, and what stands in the way of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
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
    address = settings["base_url"]
    try:
        _knock(address)
        client = DockerClient(**settings, version="auto", timeout=_ANSWER_SECONDS)
    except (DockerException, OSError, ValueError) as error:
        raise _unavailable(error, address) from error
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
