"""Whether the running interpreter already has what a project's requirements.txt asks for."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_COMMENT = re.compile(r"(?:^|\s)#.*$")
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[ =]+(?P<path>\S+)\s*\Z")


@dataclass
class Requirements:
    """The lines of a requirements.txt and of the files it includes.

    Args:
        lines: Lines for pip, with paths made absolute and without asyncjobs itself: the interpreter that runs
            the engine has it, and a version from the index could not talk to this one.
    """

    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def satisfied(self) -> bool:
        """Whether nothing needs to be installed. A line we cannot judge (a URL, an option) does."""
        return all(_line_satisfied(line) for line in self.lines)


def read_requirements(file: Path) -> Requirements:
    """Read requirements.txt; a project without one asks for nothing.

    Raises:
        OSError: It is there and cannot be read, because it is a directory for example.
        UnicodeDecodeError: It is no text.
    """
    found = Requirements()
    if file.exists() or file.is_symlink():
        _read(file, found, seen=set())
    return found


def _read(file: Path, into: Requirements, seen: set[Path]) -> None:
    if file in seen:
        return
    seen.add(file)
    text = file.read_text(encoding="utf-8-sig").replace("\\\n", " ")
    for raw in text.splitlines():
        line = _COMMENT.sub("", raw).strip()
        include = _INCLUDE.match(line)
        if include and include.group(1) in ("-r", "--requirement"):
            _read((file.parent / include["path"]).resolve(), into, seen)
        elif include:
            into.lines.append(f"-c {(file.parent / include['path']).resolve()}")
        elif line and not _is_asyncjobs(line):
            into.lines.append(_absolute(line, file.parent))


def _absolute(line: str, directory: Path) -> str:
    """A local path (`./package`, `-e .`) means the directory of its file, wherever pip runs."""
    option, _, rest = line.rpartition(" ") if line.startswith("-e ") else ("", "", line)
    if rest.startswith(".") or rest.startswith(os.sep):
        rest = str((directory / rest).resolve())
    return f"{option} {rest}".strip()


def _is_asyncjobs(line: str) -> bool:
    try:
        return canonicalize_name(Requirement(line).name) == "asyncjobs"
    except InvalidRequirement:
        return False


def _line_satisfied(line: str) -> bool:
    try:
        return _satisfied(Requirement(line), seen=set())
    except InvalidRequirement:
        return False


def _satisfied(requirement: Requirement, seen: set[str], extra: str = "") -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return True
    if requirement.url is not None:
        return False
    key = str(requirement)
    if key in seen:
        return True
    seen.add(key)
    try:
        installed = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(installed.version, prereleases=True):
        return False
    needs = [Requirement(each) for each in installed.requires or []]
    extras = ["", *requirement.extras]
    return all(_satisfied(need, seen, wanted) for need in needs for wanted in extras)
