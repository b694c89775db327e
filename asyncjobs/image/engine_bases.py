"""The base images of a Docker engine: what they are now, and that the engine has them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from docker.errors import APIError, ImageNotFound

from asyncjobs.errors import DockerError
from asyncjobs.image import refusals
from asyncjobs.image.architecture import BY_ANY_NAME, Architecture
from asyncjobs.image.engine import said_by, translated, whole
from asyncjobs.image.layers import Layers
from asyncjobs.image.recipe import BaseImage
from asyncjobs.image.reference import parse
from asyncjobs.progress import Event, NullProgress, Progress

if TYPE_CHECKING:
    from docker import DockerClient

STEP = "image"
PLATFORMS: dict[Architecture, str] = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}
_EMULATION_SECONDS = 60


class EngineBases:
    """Looks base images up and pulls them. Not to be shared by threads."""

    def __init__(self, client: DockerClient) -> None:
        self._api: Any = client.api  # of which the SDK's types know half

    def architecture(self) -> Architecture:
        """The engine's own."""
        name = self._api.version().get("Arch", "")
        if name not in BY_ANY_NAME:
            raise DockerError(f"The Docker engine runs on {name}.", why="Fargate has x86_64 and arm64.")
        return BY_ANY_NAME[name]

    def find(self, reference: str, architecture: Architecture | Literal["auto"]) -> BaseImage:
        """An image as its registry has it now; "auto" is the engine's architecture.

        Where the registry cannot be asked, the engine's own copy counts: without a network, what was built once is
        found again.

        Raises:
            DockerError: There is no such image, or none for that architecture, or nobody to ask; or the engine cannot
                run programs for that architecture.
        """
        with translated():
            engine = self.architecture()
            wanted = engine if architecture == "auto" else architecture
            base = self._find(reference, wanted)
            if wanted != engine:
                self._try(base)
            return base

    def pull(self, base: BaseImage, progress: Progress) -> None:
        """Have the image in the engine, exactly as it was found.

        Raises:
            DockerError: It cannot be pulled, or has changed meanwhile.
        """
        if self._has(base):
            return
        layers = Layers(f"pulling {base.reference}:")
        try:
            lines = self._api.pull(base.reference, platform=PLATFORMS[base.architecture], stream=True, decode=True)
            for line in whole(lines):
                if "error" in line:
                    raise refusals.pull_refused(base.reference, line["error"], base.architecture)
                if said := layers.take(line):
                    progress.emit(Event(STEP, "info", said))
        except APIError as error:
            raise refusals.pull_refused(base.reference, said_by(error), base.architecture) from error
        if not self._has(base):
            raise DockerError(
                f"The base image {base.reference} has changed while its copy was pulled.", hint="Run it again."
            )

    def _find(self, reference: str, wanted: Architecture) -> BaseImage:
        local = self._local(reference)
        if local is not None and registry_digest(local, reference) is None:
            return _copy(local, reference, wanted)  # made on this machine: no registry knows it
        try:
            found = self._api.inspect_distribution(reference)
        except APIError as error:
            if local is None:
                raise refusals.pull_refused(reference, said_by(error), wanted) from error
            return _copy(local, reference, wanted)
        names = (BY_ANY_NAME.get(one.get("architecture", "")) for one in found.get("Platforms") or [])
        has = sorted({name for name in names if name})
        if has and wanted not in has:
            raise refusals.wrong_architecture(reference, wanted, " and ".join(has))
        return BaseImage(reference, found["Descriptor"]["digest"], wanted)

    def _try(self, base: BaseImage) -> None:
        """Run a program of the image: while planning, so that nothing is deployed before it is known."""
        self.pull(base, NullProgress())
        made = self._api.create_container(
            base.reference, ["-c", ":"], entrypoint="/bin/sh", platform=PLATFORMS[base.architecture]
        )
        try:
            self._api.start(made["Id"])
            self._api.wait(made["Id"], timeout=_EMULATION_SECONDS)
            said = self._api.logs(made["Id"], tail=5).decode(errors="replace")
        except APIError as error:
            said = said_by(error)
        finally:
            with suppress(APIError):
                self._api.remove_container(made["Id"], v=True, force=True)
        if refusal := refusals.not_emulated(said, base.architecture):
            raise refusal

    def _local(self, reference: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._api.inspect_image(reference)
        except ImageNotFound:
            return None
        return found

    def _has(self, base: BaseImage) -> bool:
        local = self._local(base.reference)
        if local is None:
            return False
        digests = (local["Id"], registry_digest(local, base.reference))
        return base.digest in digests and BY_ANY_NAME.get(str(local.get("Architecture"))) == base.architecture


def registry_digest(image: Mapping[str, Any], reference: str) -> str | None:
    """Under which digest the registry that a reference names has an image of the engine; None where it never was there.

    An image that was pushed or pulled under several names has a digest of each.
    """
    wanted = parse(reference)
    for name in image.get("RepoDigests") or []:
        known = parse(name)
        if (known.host, known.repository) == (wanted.host, wanted.repository):
            return known.version
    return None


def _copy(local: Mapping[str, Any], reference: str, wanted: Architecture) -> BaseImage:
    """The image that the engine itself has."""
    name = str(local.get("Architecture"))
    has = BY_ANY_NAME.get(name)
    if has != wanted:
        raise refusals.wrong_architecture(reference, wanted, has or name)
    # Its own id is a digest of its content too.
    return BaseImage(reference, registry_digest(local, reference) or str(local["Id"]), wanted)
