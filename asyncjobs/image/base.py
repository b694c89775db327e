"""A base image in its registry: its layers, its configuration, and which Python is in it."""

from __future__ import annotations

import gzip
import json
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from asyncjobs.errors import DockerError
from asyncjobs.image.architecture import OF_IMAGES, Architecture, this_machine
from asyncjobs.image.blobs import BlobCache
from asyncjobs.image.oci import Layer, layers_of
from asyncjobs.image.refusals import wrong_architecture
from asyncjobs.image.registry import Blob, Registry, digest_of

# The registries' names: https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md
_ELSEWHERE = "Take another `base_image`, or a machine with a Docker engine and `--builder docker`."
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON = re.compile(r"(?:.*/)?bin/python3(?:\.\d+)?\Z")
_LIBC = re.compile(r"(?:.*/)?(?:libc\.so\.6|libc-2\.\d+\.so|ld-musl-\w+\.so\.1)\Z")
_GLIBC_SAYS = re.compile(rb"GNU C Library [^\n]{0,200}version (\d+\.\d+)")
_MOST_LINKS = 8


@dataclass(frozen=True)
class Python:
    """An interpreter in an image.

    Args:
        path: Absolute, and no link: "/usr/local/bin/python3.12".
        version: "3.12".
        libc: What wheels have to be built for.
        libc_version: glibc's, such as (2, 36); of musl (1, 2).
    """

    path: str
    version: str
    libc: Literal["glibc", "musl"]
    libc_version: tuple[int, int]


@dataclass(frozen=True)
class Base:
    """An image to build on, of one architecture.

    Args:
        name: With its registry, for a person.
        config: https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md
    """

    name: str
    registry: Registry
    cache: BlobCache
    architecture: Architecture
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]

    def file(self, layer: Layer) -> Path:
        """The layer on this machine, downloaded if it is not there yet.

        Raises:
            DockerError: It cannot be had.
        """
        return _file(self.registry, layer.blob, self.cache)

    @property
    def path(self) -> str:
        """What PATH is in its containers."""
        settings = (self.config.get("config") or {}).get("Env") or []
        return next((line[5:] for line in settings if line.startswith("PATH=")), _DEFAULT_PATH)

    def python(self) -> Python:
        """The interpreter that `python3` starts.

        Raises:
            DockerError: There is none, or it is not one that wheels are made for.
        """
        found: dict[str, str] = {}
        libc = ""
        for layer in self.layers:
            content = json.loads(self.cache.get(f"content-{layer.diff_id}", partial(self._look, layer)).read_bytes())
            found.update(content["python"])
            libc = content["libc"] or libc
        path = _resolved(found, self.path)
        version = re.search(r"python(3\.\d+)\Z", path)
        if version is None or not libc:
            raise DockerError(
                f"No Python is found in the base image {self.name}.",
                why="It has no python3 in its PATH, or no C library that is known.",
                hint=_ELSEWHERE,
            )
        kind, _, number = libc.partition(" ")
        major, minor = number.split(".")
        return Python(path, version[1], "musl" if kind == "musl" else "glibc", (int(major), int(minor)))

    def _look(self, layer: Layer, file: Path) -> None:
        """Write down what a layer has of Python and of the C library: reading a layer takes seconds."""
        try:
            with tarfile.open(self.file(layer), "r|*") as archive:
                content = _content(archive)
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DockerError(
                f"A layer of the base image {self.name} cannot be read.",
                why=f"{layer.media_type}: {error}",
                hint=_ELSEWHERE,
            ) from error
        file.write_text(json.dumps(content), encoding="utf-8")


def look_up(
    registry: Registry, version: str, wanted: Architecture | Literal["auto"], cache: BlobCache
) -> tuple[str, Base]:
    """The digest that a tag stands for now, and the image of it for an architecture.

    Args:
        wanted: "auto" is this machine's own, if there is one for it.

    Raises:
        DockerError: There is no such image, or none for that architecture.
    """
    name = f"{registry.host}/{registry.repository}{'@' if ':' in version else ':'}{version}"
    digest, document = _manifest(registry, version, cache)
    if "manifests" not in document:
        base = _image(name, registry, document, cache)
        offered = {base.architecture: base}
        return digest, offered[_chosen(name, wanted, offered)]
    parts = {
        known: entry["digest"]
        for entry in document["manifests"]
        if (where := entry.get("platform") or {}).get("os") == "linux"
        and (known := OF_IMAGES.get(where.get("architecture", "")))
    }
    _, part = _manifest(registry, parts[_chosen(name, wanted, parts)], cache)
    return digest, _image(name, registry, part, cache)


def _chosen(name: str, wanted: Architecture | Literal["auto"], offered: Iterable[Architecture]) -> Architecture:
    own = this_machine()
    has = sorted(offered)
    first = wanted if wanted != "auto" or not has else own if own in has else has[0]
    if first not in has:
        raise wrong_architecture(name, wanted, " and ".join(has))
    return first


def _manifest(registry: Registry, version: str, cache: BlobCache) -> tuple[str, dict[str, Any]]:
    content = cache.read(version) if version.startswith("sha256:") else None
    if content is None:
        content = registry.manifest(version).content
        cache.get(digest_of(content), lambda file: file.write_bytes(content))
    return digest_of(content), _document(content, registry)


def _image(name: str, registry: Registry, manifest: dict[str, Any], cache: BlobCache) -> Base:
    try:
        blob = Blob(manifest["config"]["digest"], manifest["config"]["size"])
        config = _document(_file(registry, blob, cache).read_bytes(), registry)
        architecture = OF_IMAGES[config["architecture"]]
        return Base(name, registry, cache, architecture, config, tuple(layers_of(manifest, config)))
    except (KeyError, TypeError, ValueError) as error:
        raise DockerError(
            f"{name} is no image for Linux on x86_64 or arm64.", why=f"{type(error).__name__}: {error}", hint=_ELSEWHERE
        ) from error


def _document(content: bytes, registry: Registry) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise DockerError(f"The registry {registry.host} does not answer like one.", hint="Check the image's name.")
    return document


def _file(registry: Registry, blob: Blob, cache: BlobCache) -> Path:
    def download(file: Path) -> None:
        with file.open("w+b") as out:
            registry.download(blob, out)

    return cache.get(blob.digest, download, blob.size)


def _content(archive: tarfile.TarFile) -> dict[str, Any]:
    python: dict[str, str] = {}
    libc = ""
    for entry in archive:
        name = posixpath.normpath(entry.name).lstrip("/")
        if _PYTHON.match(name) and not entry.isdir():
            # Where a hard link leads is said from the archive's root.
            python[f"/{name}"] = f"/{entry.linkname}" if entry.islnk() else entry.linkname
        elif _LIBC.match(name):
            if "ld-musl" in name:
                libc = "musl 1.2"
            elif (
                entry.isreg() and (stream := archive.extractfile(entry)) and (said := _GLIBC_SAYS.search(stream.read()))
            ):
                libc = f"glibc {said[1].decode()}"
    return {"python": python, "libc": libc}


def _resolved(found: Mapping[str, str], path: str) -> str:
    """Where `python3` leads; "" if it leads nowhere."""
    candidates = (f"{folder.rstrip('/')}/python3" for folder in path.split(":"))
    at = next((name for name in candidates if name in found), "")
    for _ in range(_MOST_LINKS):
        if not found.get(at):
            break
        at = posixpath.normpath(posixpath.join(posixpath.dirname(at), found[at]))
    return at
