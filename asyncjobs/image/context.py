"""The build context: the project's files and, under `.asyncjobs/`, what a build is given besides."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath
from typing import IO

from asyncjobs.image.archive import add_file, add_folder
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
            add_folder(archive, folder)
        for name in names:
            add_file(archive, (name, "-", given[name]) if name in given else (name, *content(recipe.project / name)))


def _folders(names: list[str]) -> list[str]:
    return sorted({str(parent) for name in names for parent in PurePosixPath(name).parents if str(parent) != "."})
