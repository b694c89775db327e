"""Builds and pushes images without an engine: the base image's layers, one of libraries, one of code.

The base image's layers are never unpacked. What is not in the repository yet goes there straight from this machine, and
what is there already costs one question.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

from docker import auth
from docker.errors import DockerException

from asyncjobs.errors import DockerError
from asyncjobs.image import needs, wheels
from asyncjobs.image.architecture import Architecture
from asyncjobs.image.archive import Entry
from asyncjobs.image.base import Base, Python, look_up
from asyncjobs.image.blobs import BlobCache
from asyncjobs.image.oci import Layer, make_config, make_manifest, write_layer
from asyncjobs.image.recipe import BaseImage, BuilderName, Recipe, Repository, content, fingerprint
from asyncjobs.image.reference import DOCKER_HUB, parse
from asyncjobs.image.registry import Blob, Registry, digest_of
from asyncjobs.image.uploads import Uploads
from asyncjobs.progress import Event, Progress

_STEP = "image"
# Written into the key of what is kept: another format is another layer.
_FORMAT = "asyncjobs libraries 1"
_APP = "app"
_SETTINGS: dict[str, Any] = {
    "User": "10001:10001",
    "WorkingDir": f"/{_APP}",
    "Entrypoint": None,
    # Else Fargate's volume there would be root's alone: see templates/project/Dockerfile.
    "Volumes": {"/tmp": {}},
    "Cmd": ["python", "-m", "asyncjobs.worker"],
}
# Bytecode is not in the image: it would depend on the Python that builds it. A task can write to /tmp only, and keeps
# it there for the processes that it starts later.
_VARIABLES = {"PYTHONUNBUFFERED": "1", "PYTHONPYCACHEPREFIX": "/tmp/pycache"}


class PythonBuilder:
    """Gives the same digest for the same recipe.

    Args:
        cache: What is kept on this machine; None for the usual place.
        uv: The program that installs libraries: "" for the one that is found, None for pip.
        sleep: Waits between tries of a request.
    """

    name: BuilderName = "python"

    def __init__(
        self, cache: BlobCache | None = None, uv: str | None = "", sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._cache = cache or BlobCache()
        self._uv = wheels.find_uv() if uv == "" else uv
        self._sleep = sleep

    def base(self, reference: str, architecture: Architecture | Literal["auto"]) -> BaseImage:
        """What a base image is now; "auto" is this machine's architecture where the image is there for it.

        Raises:
            ConfigError: It is no name of an image.
            DockerError: There is no such image, or none for that architecture, or the registry does not say.
        """
        digest, found = self._look_up(reference, "", architecture)
        return BaseImage(reference, digest, found.architecture)

    def publish(self, recipe: Recipe, repository: Repository, tag: str, progress: Progress) -> str:
        """Build the image and push it. Interrupted, it goes on from what is in the repository.

        Raises:
            ConfigError: A file of the project cannot be read.
            DockerError: A registry refused something, or there is no wheel of something.
            TokenExpiredError, TagTakenError: The push was refused for that reason.
        """
        _, base = self._look_up(recipe.base.reference, recipe.base.digest, recipe.architecture)
        host, _, path = repository.uri.partition("/")
        login = (repository.username, repository.password)
        registry = Registry(host, path, insecure=repository.insecure, credentials=login, sleep=self._sleep)
        with self._cache.temporary() as folder, Uploads(registry, _STEP, progress) as uploads:
            sister = base.registry.repository if base.registry.host == host else ""
            for layer in base.layers:
                uploads.add(layer.blob, partial(base.file, layer), sister)
            progress.emit(Event(_STEP, "info", f"looking into the base image {recipe.base.reference}"))
            python = base.python()
            libraries = self._libraries(recipe, python, progress)
            uploads.add(libraries.blob, lambda: self._cache.path(libraries.blob.digest))
            code = write_layer(_code(recipe, python), folder / "code")
            uploads.add(code.blob, lambda: folder / "code")
            config = make_config(base.config, [(libraries, "libraries"), (code, "code")], _settings(base))
            (folder / "config").write_bytes(config)
            uploads.add(Blob(digest_of(config), len(config)), lambda: folder / "config")
            recipe.check(tag)
            uploads.finish()
            manifest = make_manifest(config, [*base.layers, libraries, code])
            registry.tag(tag, manifest)
        self._cache.clear(time.time())
        return manifest.digest

    def _look_up(self, name: str, digest: str, architecture: Architecture | Literal["auto"]) -> tuple[str, Base]:
        asked = parse(name)
        registry = Registry(
            asked.host,
            asked.repository,
            insecure=asked.insecure,
            credentials=_login(asked.host),
            sleep=self._sleep,
        )
        return look_up(registry, digest or asked.version, architecture, self._cache)

    def _libraries(self, recipe: Recipe, python: Python, progress: Progress) -> Layer:
        """The layer of what requirements.txt and asyncjobs ask for: made again when that text changes."""
        required = needs.read(recipe)
        key = _key(recipe, python, required)
        kept = self._cache.read(key)
        if kept:
            layer = _layer(kept)
            if self._cache.find(layer.blob.digest, layer.blob.size):
                return layer
        progress.emit(Event(_STEP, "info", f"installing libraries for Python {python.version}"))
        with self._cache.temporary() as folder:
            runtime = folder / recipe.runtime.wheel_name
            runtime.write_bytes(recipe.runtime.wheel())
            asked = recipe.project / needs.REQUIREMENTS if required else None
            wheels.install(asked, runtime, python, recipe.architecture, folder / "installed", self._uv)
            layer = write_layer(wheels.installed(folder / "installed", python), folder / "layer")
            self._cache.discard(folder / "installed")
            self._cache.keep(folder / "layer", layer.blob.digest)
            (folder / "key").write_text(json.dumps(asdict(layer)), encoding="utf-8")
            self._cache.keep(folder / "key", key)
        return layer


def _layer(document: bytes) -> Layer:
    values = json.loads(document)
    return Layer(Blob(**values.pop("blob")), **values)


def _key(recipe: Recipe, python: Python, required: Mapping[str, bytes]) -> str:
    parts = [_FORMAT, recipe.architecture, *map(str, asdict(python).values())]
    parts += [recipe.runtime.version, *recipe.runtime.requirements]
    return f"libraries-{fingerprint([*parts, *(part for pair in required.items() for part in pair)])}"


def _code(recipe: Recipe, python: Python) -> Iterator[Entry]:
    """asyncjobs and the project. What changes most is a small layer of its own."""
    for name in recipe.files:
        yield f"{_APP}/{name}", *content(recipe.project / name)
    with zipfile.ZipFile(io.BytesIO(recipe.runtime.wheel())) as wheel:
        for name in sorted(wheel.namelist()):
            yield f"{wheels.site_packages(python)}/{name}", "-", wheel.read(name)


def _settings(base: Base) -> dict[str, Any]:
    inherited = dict(line.partition("=")[::2] for line in (base.config.get("config") or {}).get("Env") or [])
    variables = {**inherited, **_VARIABLES, "PATH": f"/{wheels.VENV}/bin:{base.path}"}
    return {**_SETTINGS, "Env": [f"{name}={value}" for name, value in variables.items()]}


def _login(host: str) -> tuple[str, str] | None:
    """What `docker login` has kept for a registry, or its credential helper gives; None for nobody."""
    known = auth.INDEX_NAME if host == DOCKER_HUB else host
    try:
        found = auth.load_config().resolve_authconfig(known) or {}
    except DockerException as error:
        raise DockerError(
            f"The login to the registry {host} cannot be read.",
            why=str(error),
            hint="Look at the credential helper that is named in ~/.docker/config.json.",
        ) from error
    user, password = found.get("Username") or found.get("username"), found.get("Password") or found.get("password")
    return (user, password) if user and password else None
