"""The build context: the project's files and, under `.asyncjobs/`, what a build is given besides."""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath
from typing import IO

from asyncjobs.image.recipe import Recipe, content

FOLDER = ".asyncjobs"
DOCKERFILE = f"{FOLDER}/Dockerfile"
REQUIREMENTS = "requirements.txt"


def write_context(recipe: Recipe, stream: IO[bytes]) -> None:
    """Write it as a tar archive, byte for byte the same for the same recipe.

    Sorted, with no times, no owners, and no more of the permissions than whether a file can be run: else the engine
    would find nothing in its cache after a fresh checkout.

    Raises:
        ConfigError: A file cannot be read.
    """
    given = {DOCKERFILE: recipe.dockerfile.encode(), f"{FOLDER}/{recipe.runtime.wheel_name}": recipe.runtime.wheel()}
    if REQUIREMENTS not in recipe.files:
        given[REQUIREMENTS] = b""  # a project that needs nothing has none
    names = sorted({*recipe.files, *given})
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in _folders(names):
            archive.addfile(_entry(folder, tarfile.DIRTYPE, 0o755))
        for name in names:
            if name in given:
                _add(archive, name, "-", given[name])
            else:
                _add(archive, name, *content(recipe.project / name))


def _folders(names: list[str]) -> list[str]:
    return sorted({str(parent) for name in names for parent in PurePosixPath(name).parents if str(parent) != "."})


def _add(archive: tarfile.TarFile, name: str, mode: str, data: bytes) -> None:
    if mode == "link":
        entry = _entry(name, tarfile.SYMTYPE, 0o777)
        entry.linkname = data.decode("utf-8", "surrogateescape")
        archive.addfile(entry)
        return
    entry = _entry(name, tarfile.REGTYPE, 0o755 if mode == "x" else 0o644)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, 0
    return entry
