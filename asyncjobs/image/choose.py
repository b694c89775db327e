"""Which builder makes the image."""

from __future__ import annotations

from typing import Literal

from asyncjobs.errors import ConfigError, NoEngineError
from asyncjobs.image.engine import connect
from asyncjobs.image.recipe import Builder, BuilderName
from asyncjobs.progress import Event, Progress


def choose(wanted: BuilderName | Literal["auto"], *, own_dockerfile: bool, progress: Progress) -> Builder:
    """Docker where an engine answers, else pure Python where no Dockerfile has to be followed.

    Raises:
        ConfigError: The Python builder was asked for, and the project has a Dockerfile of its own.
        NoEngineError: No engine answers, and it takes one.
    """
    if wanted == "python":
        if own_dockerfile:
            raise ConfigError(
                "The project has a Dockerfile of its own, which takes a Docker engine to follow.",
                hint="Leave `--builder` out, or take the Dockerfile away.",
            )
        return _python()
    try:
        return _docker()
    except NoEngineError as error:
        if wanted == "docker" or own_dockerfile:
            raise
        progress.emit(Event("image", "info", f"{error.what} The image is built without one."))
        return _python()


def _docker() -> Builder:
    client = connect()
    from asyncjobs.image.docker_builder import DockerBuilder

    return DockerBuilder(client)


def _python() -> Builder:
    from asyncjobs.image.python_builder import PythonBuilder

    return PythonBuilder()
