"""All that decides what a worker's image is, and the tag that stands for it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from asyncjobs.errors import ConfigError
from asyncjobs.image.architecture import Architecture
from asyncjobs.image.runtime import Runtime
from asyncjobs.progress import Progress

BuilderName = Literal["docker", "python"]


@dataclass(frozen=True)
class Repository:
    """Where an image goes.

    Args:
        uri: Without a tag: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/asyncjobs-demo".
        username: Of a token that was made for this push.
        insecure: Plain HTTP; only a registry on loopback is spoken to so.
    """

    uri: str
    username: str
    password: str
    insecure: bool = False


@dataclass(frozen=True)
class BaseImage:
    """An image to build on, as it is now.

    Args:
        reference: What it was asked for by: "public.ecr.aws/docker/library/python:3.12-slim".
        digest: "sha256:..." of what the reference stands for now.
        architecture: The one to build for; the image is there for it.
    """

    reference: str
    digest: str
    architecture: Architecture


@dataclass(frozen=True)
class Recipe:
    """The same recipe gives the same tag, and an image whose tag is in the registry is not built again.

    Args:
        project: The project's directory.
        files: Its files and symbolic links after .dockerignore: relative, with "/", sorted.
        dockerfile: The text of the Dockerfile.
        own_dockerfile: Whether it is the project's own, and not what `asyncjobs init` writes.
        bases: The images it builds on; the last is the one that the image itself starts from.
        runtime: The part of asyncjobs that a worker runs.
        base_image: What the configuration has in place of the Dockerfile's default; `bases` tell what came of it.
    """

    project: Path
    files: tuple[str, ...]
    dockerfile: str
    own_dockerfile: bool
    bases: tuple[BaseImage, ...]
    runtime: Runtime
    base_image: str | None = None

    @property
    def base(self) -> BaseImage:
        return self.bases[-1]

    @property
    def architecture(self) -> Architecture:
        return self.base.architecture

    @property
    def tag(self) -> str:
        """32 hexadecimal digits that change with anything that could change the image.

        Raises:
            ConfigError: A file of the project cannot be read.
        """
        return fingerprint(self._parts())[:32]

    def check(self, tag: str) -> None:
        """Raises ConfigError where the project is not what the tag was made of.

        What is built would carry the tag of something else, and could never be replaced.
        """
        if self.tag != tag:
            raise ConfigError("The project changed while its image was built.", hint="Run `asyncjobs up` again.")

    def _parts(self) -> Iterator[str | bytes]:
        yield from ("asyncjobs image 1", self.architecture, self.dockerfile)
        for base in self.bases:
            yield from (base.reference, base.digest)
        yield from (self.runtime.version, *self.runtime.requirements)
        for file in self.runtime.files:
            yield from file
        for name in self.files:
            yield from (name, *content(self.project / name))


def fingerprint(parts: Iterable[str | bytes]) -> str:
    """A SHA-256 in hexadecimal that also tells where each part ends."""
    digest = hashlib.sha256()
    for part in parts:
        data = os.fsencode(part) if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def content(file: Path) -> tuple[str, bytes]:
    """A file's mode and content as they count: "link" and its target, else "x" or "-" and its bytes.

    Of the permissions nothing else counts: they differ between two checkouts of the same commit.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        if file.is_symlink():
            return "link", os.fsencode(file.readlink())
        return "x" if file.stat().st_mode & stat.S_IXUSR else "-", file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read.",
            why=error.strerror or str(error),
            hint="All of the project goes into its image but what .dockerignore names.",
        ) from error


class Builder(Protocol):
    """Makes images of recipes. Raises DockerError where something outside of the project is in the way."""

    @property
    def name(self) -> BuilderName: ...

    def base(self, reference: str, architecture: Architecture | Literal["auto"]) -> BaseImage:
        """What a base image is now; "auto" leaves the architecture to the builder.

        Raises:
            DockerError: There is no such image, or none for that architecture, or nobody to ask.
        """

    def publish(self, recipe: Recipe, repository: Repository, tag: str, progress: Progress) -> str:
        """Build, and push under the tag.

        Returns:
            The digest that the registry has it by: "sha256:...".

        Raises:
            DockerError: It cannot be built or pushed.
        """
