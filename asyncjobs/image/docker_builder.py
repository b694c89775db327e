"""Builds and pushes through a Docker engine, or Podman's copy of its API.

With the classic builder, which every engine since 20.10 has behind the same call; BuildKit speaks a protocol of its
own that the SDK does not.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Literal

from docker.errors import APIError

from asyncjobs.errors import DockerError
from asyncjobs.image import dockerfile, refusals
from asyncjobs.image.architecture import BY_ANY_NAME, Architecture
from asyncjobs.image.context import DOCKERFILE, write_context
from asyncjobs.image.engine import said_by, translated, whole
from asyncjobs.image.engine_bases import PLATFORMS, STEP, EngineBases, registry_digest
from asyncjobs.image.layers import Layers
from asyncjobs.image.prepare import BASE_ARGUMENT
from asyncjobs.image.recipe import BaseImage, BuilderName, Recipe, Repository
from asyncjobs.progress import Event, Progress

if TYPE_CHECKING:
    from docker import DockerClient

# Our Dockerfile gives it to what has no name, the stage that is not the image: the repository that the image goes to.
# One label for all would not do: deleting one stack's would delete what another's build is about to copy from.
STAGE_LABEL = "asyncjobs.repository"
REPOSITORY_ARGUMENT = "ASYNCJOBS_REPOSITORY"
# Where they come from may hold a password, so they are arguments of a build stage whose layers are not pushed.
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
_TAIL = 15
_IN_MEMORY = 16 * 1024 * 1024


class DockerBuilder:
    """The builder of whoever has an engine.

    Args:
        env: Where the settings of pip's index are looked up.
    """

    name: BuilderName = "docker"

    def __init__(self, client: DockerClient, env: Mapping[str, str] = os.environ) -> None:
        self._api: Any = client.api  # of which the SDK's types know half
        self._bases = EngineBases(client)
        self._env = env

    def base(self, reference: str, architecture: Architecture | Literal["auto"]) -> BaseImage:
        return self._bases.find(reference, architecture)

    def publish(self, recipe: Recipe, repository: Repository, tag: str, progress: Progress) -> str:
        """Build the image and push it.

        Raises:
            ConfigError: A file of the project cannot be read.
            DockerError: A step of the build failed, or a registry or the engine refused something.
            TokenExpiredError, TagTakenError: The push was refused for that reason.
        """
        with translated():
            for base in recipe.bases:
                self._bases.pull(base, progress)
            self._build(recipe, repository.uri, tag, progress)
            digest = self._push(repository, tag, progress)
            self._remove_older(repository.uri, tag)
        return digest

    def remove(self, uri: str) -> None:
        """Delete the images of a repository from the engine, and what building has left in it to build on."""
        with translated():
            for name in self._names(uri):
                self._delete(name)
            for image in self._api.images(filters={"dangling": True, "label": f"{STAGE_LABEL}={uri}"}):
                self._delete(image["Id"])

    def _build(self, recipe: Recipe, uri: str, tag: str, progress: Progress) -> None:
        name = f"{uri}:{tag}"
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as context:
            _write(recipe, tag, context)
            lines = self._api.build(
                fileobj=context,
                custom_context=True,
                dockerfile=DOCKERFILE,
                tag=name,
                buildargs=self._arguments(recipe, uri),
                platform=self._platform(recipe.architecture),
                use_config_proxy=True,
                rm=True,
                forcerm=True,
                decode=True,
            )
            self._follow(lines, recipe, progress)
        built = BY_ANY_NAME.get(str(self._api.inspect_image(name).get("Architecture")))
        if built != recipe.architecture:
            raise DockerError(
                f"The image came out for {built}, not for {recipe.architecture}.",
                hint="See whether the Dockerfile's last FROM has a `--platform` of its own.",
            )

    def _arguments(self, recipe: Recipe, uri: str) -> dict[str, str]:
        """Only what the Dockerfile takes: an engine may refuse others."""
        offered = {name: self._env[name] for name in PASSED_ON if self._env.get(name)}
        offered[REPOSITORY_ARGUMENT] = uri
        if recipe.base_image:
            offered[BASE_ARGUMENT] = recipe.base_image
        return {name: value for name, value in offered.items() if name in dockerfile.arguments(recipe.dockerfile)}

    def _platform(self, wanted: Architecture) -> str | None:
        """Named only where it differs: some engines then miss their own base image over its variant."""
        return None if wanted == self._bases.architecture() else PLATFORMS[wanted]

    def _follow(self, lines: Iterator[dict[str, Any]], recipe: Recipe, progress: Progress) -> None:
        step, tail = "", deque[str](maxlen=_TAIL)
        secrets = [value for name in PASSED_ON if (value := self._env.get(name))]
        for line in whole(lines):
            if "error" in line:
                raise _failed(step, [_without(each, secrets) for each in (*tail, line["error"])], recipe)
            for text in str(line.get("stream", "")).splitlines():
                text = "".join(char for char in text.strip() if char.isprintable())
                if text.startswith("Step "):
                    step = text.removeprefix("Step ")
                    tail.clear()
                    progress.emit(Event(STEP, "info", f"building, step {_without(step, secrets)}"))
                elif text:
                    tail.append(text)

    def _push(self, repository: Repository, tag: str, progress: Progress) -> str:
        layers, digest = Layers("pushing"), ""
        login = {"username": repository.username, "password": repository.password}
        try:
            for line in whole(self._api.push(repository.uri, tag, stream=True, decode=True, auth_config=login)):
                if "error" in line:
                    raise refusals.push_refused(repository.uri, line["error"])
                if said := layers.take(line):
                    progress.emit(Event(STEP, "info", said))
                digest = (line.get("aux") or {}).get("Digest", digest)
        except APIError as error:
            raise refusals.push_refused(repository.uri, said_by(error)) from error
        if not digest:
            digest = registry_digest(self._api.inspect_image(f"{repository.uri}:{tag}"), repository.uri) or ""
        return digest

    def _remove_older(self, uri: str, tag: str) -> None:
        """One image of a stack stays in the engine, with its layers for the next build; the registry has the others."""
        for name in self._names(uri):
            if name.startswith(f"{uri}:") and name != f"{uri}:{tag}":
                self._delete(name)

    def _names(self, uri: str) -> list[str]:
        """By tag, and by digest: that is all that an image has which was pulled to be run."""
        images = self._api.images(name=uri)
        names = [name for key in ("RepoTags", "RepoDigests") for image in images for name in image.get(key) or []]
        return [name for name in names if name.startswith((f"{uri}:", f"{uri}@"))]

    def _delete(self, image: str) -> None:
        with suppress(APIError):  # a container still runs from it, or another image is built on it
            self._api.remove_image(image)


def _write(recipe: Recipe, tag: str, stream: IO[bytes]) -> None:
    write_context(recipe, stream)
    recipe.check(tag)
    stream.seek(0)


def _failed(step: str, lines: list[str], recipe: Recipe) -> DockerError:
    said = lines[-1]
    if error := refusals.disk_full("\n".join(lines)):
        return error
    if error := refusals.not_emulated("\n".join(lines), recipe.architecture):
        return error
    which = "the project's Dockerfile" if recipe.own_dockerfile else "its requirements, most likely"
    return DockerError(
        f"The image cannot be built: step {step} failed." if step else "The image cannot be built.",
        why="\n       ".join(lines) if len(lines) > 1 else said,
        hint=f"Mend {which}, and run it again: the steps before it are kept.",
    )


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
