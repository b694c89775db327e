"""The image resource of a project that is built: the same on either target, whose ECR decides where it is pushed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from asyncjobs.aws import Clients
from asyncjobs.config import Config
from asyncjobs.image.choose import choose
from asyncjobs.image.prepare import prepare, read_dockerfile
from asyncjobs.image.recipe import BuilderName
from asyncjobs.names import Names
from asyncjobs.progress import Progress
from asyncjobs.provision.image import BuiltImage


def built_image(
    clients: Clients,
    names: Names,
    project: Path,
    config: Config,
    progress: Progress,
    builder: BuilderName | Literal["auto"] | None = None,
) -> BuiltImage:
    """The image of a project's workers.

    Args:
        builder: In place of `[worker] builder`.

    Raises:
        ConfigError: The Dockerfile cannot be read, or not followed by the builder that is asked for.
        NoEngineError: No Docker engine answers, and it takes one.
    """
    worker = config.worker
    _, own = read_dockerfile(project, worker)
    chosen = choose(builder or worker.builder, own_dockerfile=own, progress=progress)
    return BuiltImage(clients.ecr, names.repository, chosen, lambda: prepare(project, worker, chosen), progress)
