"""Which files of a project belong to its image: everything but what `.dockerignore` names.

The rules of https://docs.docker.com/build/concepts/context/#dockerignore-files: Go's path.Match patterns, `**`,
`!` for exceptions, and the last matching line wins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

# Never part of an image: history, environments and what Python writes by itself.
ALWAYS = (".git", ".venv", "venv", "**/__pycache__", "**/*.pyc", ".asyncjobs")


def project_files(project_dir: Path) -> list[str]:
    """Relative paths (with `/`) of the files and symbolic links of the project's image, sorted."""
    rules = _rules(project_dir)
    return sorted(path for path in _walk(project_dir) if not is_ignored(path, rules))


def _walk(root: Path) -> Iterator[str]:
    for directory, subdirectories, files in os.walk(root):
        relative = Path(directory).relative_to(root)
        links = [name for name in subdirectories if (Path(directory) / name).is_symlink()]
        # Walking into these could take minutes, and no pattern brings them back.
        subdirectories[:] = [name for name in subdirectories if name not in (".git", ".venv", "__pycache__", *links)]
        for name in [*files, *links]:
            yield (relative / name).as_posix()


def _rules(project_dir: Path) -> list[tuple[re.Pattern[str], bool]]:
    file = project_dir / ".dockerignore"
    lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
    # The project's own lines first: ours are not to be undone.
    return parse_rules([*lines, *ALWAYS])


def parse_rules(lines: Sequence[str]) -> list[tuple[re.Pattern[str], bool]]:
    """Patterns in order, each with whether it ignores (else it is an exception)."""
    rules = []
    for line in lines:
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        ignores = not pattern.startswith("!")
        cleaned = os.path.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        if cleaned and cleaned != ".":
            rules.append((_compile(cleaned), ignores))
    return rules


def is_ignored(path: str, rules: Sequence[tuple[re.Pattern[str], bool]]) -> bool:
    ignored = False
    for pattern, ignores in rules:
        if pattern.match(path):
            ignored = ignores
    return ignored


def _compile(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression; it also matches everything below a directory it names."""
    out = ""
    for token in re.findall(r"\*\*/?|\*|\?|\[[^\]]*\]|\\.|.", pattern):
        if token.startswith("**"):
            out += "(?:.*/)?" if token == "**/" else ".*"
        elif token == "*":
            out += "[^/]*"
        elif token == "?":
            out += "[^/]"
        elif token.startswith("["):
            out += token
        else:
            out += re.escape(token[-1])
    return re.compile(rf"{out}(?:/.*)?\Z", re.DOTALL)
