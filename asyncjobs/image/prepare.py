"""From a project's directory to the recipe of its image."""

from __future__ import annotations

from pathlib import Path

from asyncjobs.config import Worker
from asyncjobs.errors import ConfigError
from asyncjobs.image import dockerfile
from asyncjobs.image.dockerignore import project_files
from asyncjobs.image.recipe import Builder, Recipe
from asyncjobs.image.runtime import runtime

BASE_ARGUMENT = "BASE_IMAGE"


def read_dockerfile(project: Path, worker: Worker) -> tuple[str, bool]:
    """The text to build by, and whether it is the project's own.

    Raises:
        ConfigError: It cannot be read, or another than the usual one is named and is not there.
    """
    path = project / worker.dockerfile
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if worker.dockerfile != type(worker).model_fields["dockerfile"].default:
            raise ConfigError(
                f"There is no {worker.dockerfile} in {project}.",
                why="[worker] dockerfile names it.",
                hint="Correct that key, or leave it out: a project without a Dockerfile gets what `init` writes.",
            ) from None
        return dockerfile.ours(), False
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read.", why=str(error)) from error
    return (dockerfile.ours(), False) if dockerfile.is_ours(text) else (text, True)


def prepare(project: Path, worker: Worker, builder: Builder) -> Recipe:
    """The recipe, with the base images as they are now.

    Raises:
        ConfigError: The project's files do not fit its configuration.
        DockerError: A base image cannot be looked up, or is not there for the architecture.
    """
    text, own = read_dockerfile(project, worker)
    if worker.base_image and BASE_ARGUMENT not in dockerfile.arguments(text):
        raise ConfigError(
            f"[worker] base_image = {worker.base_image!r} would not be used.",
            why=f"{worker.dockerfile} has no `ARG {BASE_ARGUMENT}`.",
            hint=f"Begin it with `ARG {BASE_ARGUMENT}` and `FROM ${{{BASE_ARGUMENT}}}`, or leave the key out.",
        )
    references = dockerfile.bases(text, {BASE_ARGUMENT: worker.base_image} if worker.base_image else {})
    bases = tuple(builder.base(reference, worker.architecture) for reference in references)
    try:
        files = tuple(project_files(project))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The files of {project} cannot be read.", why=str(error)) from error
    return Recipe(project, files, text, own, bases, runtime(), worker.base_image)
