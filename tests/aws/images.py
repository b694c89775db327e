"""A builder that needs neither an engine nor a registry: what it pushes is in moto's ECR at once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from sessions import ACCOUNT, REGION

from asyncjobs.aws import Clients
from asyncjobs.errors import DockerError
from asyncjobs.image.architecture import Architecture
from asyncjobs.image.recipe import BaseImage, BuilderName, Recipe, Repository
from asyncjobs.image.runtime import Runtime
from asyncjobs.progress import Progress, RecordingProgress
from asyncjobs.provision.image import BuiltImage

DIGEST = "sha256:" + "b" * 64


@dataclass
class PretendBuilder:
    """Args:
    refusals: Raised by the next pushes, one each.
    """

    name: BuilderName = "docker"
    refusals: list[DockerError] = field(default_factory=list)
    pushes: list[tuple[str, Repository]] = field(default_factory=list)

    def base(self, reference: str, architecture: Architecture | Any) -> BaseImage:
        return BaseImage(reference, DIGEST, "x86_64" if architecture == "auto" else architecture)

    def publish(self, recipe: Recipe, repository: Repository, tag: str, progress: Progress) -> str:
        self.pushes.append((tag, repository))
        if self.refusals:
            raise self.refusals.pop(0)
        return put_image(repository.uri.rpartition("/")[2], tag, {"config": {"digest": f"sha256:{tag}"}, "layers": []})


def put_image(repository: str, tag: str, manifest: dict[str, Any]) -> str:
    """As a push does, which is no call of a client's. Gives the digest."""
    ecr = get_backend("ecr")[ACCOUNT][REGION]
    kind = "application/vnd.oci.image.%s.v1+json" % ("index" if "manifests" in manifest else "manifest")
    text = json.dumps({"schemaVersion": 2, "mediaType": kind, **manifest})
    digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    ecr.put_image(repository, text, tag, image_manifest_mediatype=kind, digest=digest)
    return digest


def recipe(project: Path, architecture: Architecture = "x86_64") -> Recipe:
    files = tuple(sorted(file.name for file in project.iterdir()))
    return Recipe(
        project, files, "FROM base\n", False, (BaseImage("base", DIGEST, architecture),), Runtime("1", (), ())
    )


def built_image(
    clients: Clients, repository: str, project: Path, builder: PretendBuilder, progress: RecordingProgress | None = None
) -> BuiltImage:
    return BuiltImage(clients.ecr, repository, builder, lambda: recipe(project), progress or RecordingProgress())
