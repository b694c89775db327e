"""What `asyncjobs init` writes: the project under `templates/project/`, with the stack's name filled in."""

from __future__ import annotations

import re
import string
import unicodedata
from pathlib import Path

from asyncjobs.assets import templates_dir
from asyncjobs.errors import UsageError
from asyncjobs.names import STACK_PATTERN, STACK_RULE

# Only these hold `${stack}`: a dollar sign anywhere else is the file's own.
_FILLED_IN = {"asyncjobs.toml", "README.md"}
_LONGEST_STACK = 24


def stack_name_for(directory_name: str) -> str:
    """A valid stack name that resembles a directory's name: "Côte d'Azur Jobs" gives "cote-d-azur-jobs"."""
    ascii_name = unicodedata.normalize("NFKD", directory_name).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", ascii_name).strip("-")
    if not name:
        return "jobs"
    if not name[0].isalpha():
        name = f"jobs-{name}"
    return name[:_LONGEST_STACK].rstrip("-")


def write_project(directory: Path, *, stack: str) -> list[Path]:
    """Write a working project into a directory, which is made if need be.

    Returns:
        The files written, in alphabetical order.

    Raises:
        UsageError: A file of the project is there already, the directory cannot be written, or the stack's name is
            not valid. Nothing has been written then, unless the disk itself failed halfway.
    """
    if not STACK_PATTERN.match(stack):
        raise UsageError(f"{stack!r} is not a stack name.", why=f"A stack name has {STACK_RULE}.")
    contents = _contents(stack)
    _refuse_to_overwrite(directory, list(contents))
    written = []
    try:
        for relative, content in contents.items():
            target = directory / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(content)
            written.append(target)
    except OSError as error:
        raise UsageError(
            f"The project cannot be written to {directory}.",
            why=f"{error.filename or directory}: {error.strerror or error}.",
            hint="Name another directory: asyncjobs init DIR",
        ) from error
    return written


def _contents(stack: str) -> dict[Path, bytes]:
    source = templates_dir() / "project"
    contents = {}
    for path in sorted(source.rglob("*")):
        # A checkout whose handler was imported has compiled files beside it.
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            if path.name in _FILLED_IN:
                content = string.Template(content.decode()).substitute(stack=stack).encode()
            contents[path.relative_to(source)] = content
    return contents


def _refuse_to_overwrite(directory: Path, relatives: list[Path]) -> None:
    existing = [str(relative) for relative in relatives if _is_there(directory / relative)]
    if existing:
        raise UsageError(
            f"{directory} already has {', '.join(existing)}.",
            why="init never overwrites a file, and has written nothing.",
            hint="Move them away, or name another directory: asyncjobs init DIR",
        )


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or path.is_symlink()
    except OSError:
        return False  # writing will say what is wrong with the directory
