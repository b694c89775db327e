"""What a Dockerfile says of itself: which images it builds on, which arguments it takes, and whether it is ours.

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping

from asyncjobs.assets import read_template
from asyncjobs.errors import ConfigError

# What earlier versions of `asyncjobs init` wrote: who kept it has no Dockerfile of their own either.
EARLIER = frozenset({"1c1c992cd4ed2c3250f7e0e25b6a4418efb4d98d84dbb90ae591f54a6644a309"})
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?:(?P<operator>:?[-+])(?P<word>[^}]*))?\}|(?P<plain>\w+))")
_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*\Z", re.IGNORECASE)
_ARG = re.compile(r"ARG\s+(?P<words>.+)", re.IGNORECASE)


def ours() -> str:
    """The Dockerfile of a project that has none of its own: what `asyncjobs init` writes."""
    return read_template("project/Dockerfile")


def is_ours(text: str) -> bool:
    """Whether it is what `asyncjobs init` writes, in this version or in an earlier one."""
    same = "\n".join(text.splitlines()) + "\n"
    return same == ours() or hashlib.sha256(same.encode()).hexdigest() in EARLIER


def bases(text: str, arguments: Mapping[str, str]) -> list[str]:
    """References of the images it builds on, each once; last the one that the image itself starts from.

    Args:
        arguments: Build arguments that come before the defaults in the file.

    Raises:
        ConfigError: It builds on none, or on one that is not named.
    """
    values: dict[str, str] = {}
    stages: dict[str, str] = {}
    found: list[str] = []
    for line in _instructions(text):
        if (arg := _ARG.match(line)) and not found:
            for word in arg["words"].split():
                name, _, default = word.partition("=")
                values[name] = arguments.get(name, _substituted(default.strip("\"'"), values))
        elif stage := _FROM.match(line):
            image = _substituted(stage["image"].strip("\"'"), values)
            image = stages.get(image.lower(), image)
            if not image:
                raise ConfigError(f"The Dockerfile has `{line}`, which names no image.", hint="Give it a default.")
            if stage["stage"]:
                stages[stage["stage"].lower()] = image
            found.append(image)
    real = [image for image in found if image != "scratch"]
    if not real:
        raise ConfigError("The Dockerfile builds on no image.", why="It has no FROM with anything but scratch.")
    return [*dict.fromkeys(image for image in real if image != real[-1]), real[-1]]


def arguments(text: str) -> set[str]:
    """Names of the build arguments that it takes."""
    found = (_ARG.match(line) for line in _instructions(text))
    return {word.partition("=")[0] for arg in found if arg for word in arg["words"].split()}


def _instructions(text: str) -> Iterator[str]:
    """Each instruction on one line, without comments."""
    joined = ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        joined += stripped
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        yield joined
        joined = ""
    if joined:
        yield joined


def _substituted(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = values.get(match["braced"] or match["plain"], "")
        operator, word = match["operator"] or "", match["word"] or ""
        if operator.endswith("-"):
            return found or word
        if operator.endswith("+"):
            return word if found else ""
        return found

    return _VARIABLE.sub(value, text)
