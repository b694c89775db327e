"""A project's requirements.txt and the files it includes."""

from __future__ import annotations

import re
from pathlib import Path

from asyncjobs.errors import ConfigError, DockerError
from asyncjobs.image.recipe import Recipe

REQUIREMENTS = "requirements.txt"
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_INCLUDE = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]*(?P<path>\S+)\Z")
_SOURCE = re.compile(r"-e\b|--editable\b|(?:\S+\s*@\s*)?(?:git|hg|svn|bzr)\+|(?:\S+\s*@\s*)?file:|[./~]|[A-Za-z]:[\\/]")


def read(recipe: Recipe) -> dict[str, bytes]:
    """Each file's content by its path in the project; nothing for a project that needs nothing.

    Raises:
        ConfigError: One cannot be read.
        DockerError: One asks for what has no wheel: a folder, or a repository of sources.
    """
    found: dict[str, bytes] = {}
    if REQUIREMENTS in recipe.files:
        _read(recipe.project, REQUIREMENTS, found)
    return found


def _read(project: Path, name: str, into: dict[str, bytes]) -> None:
    if name in into or "://" in name:
        return
    try:
        into[name] = (project / name).read_bytes()
        text = into[name].decode("utf-8-sig").replace("\\\n", " ")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name} cannot be read.", why=str(error)) from error
    for raw in text.splitlines():
        line = _COMMENT.sub("", raw).strip()
        if include := _INCLUDE.match(line):
            _read(project, (Path(name).parent / include["path"]).as_posix(), into)
        elif _SOURCE.match(line):
            raise DockerError(
                f"{name} asks for `{line}`, which is no wheel.",
                why="Without a Docker engine an image is made of wheels only.",
                hint="Name a released version, put your own modules beside the handler, or use `--builder docker`.",
            )
