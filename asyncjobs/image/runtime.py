"""The part of asyncjobs that runs in the workers' image, and what it needs.

It travels with the build: nothing of it is downloaded but its requirements, and it is always of the version that
brings the stack up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import asyncjobs

# What `asyncjobs.worker` imports, and no more: the image has no command line, no provisioning and no local engine.
PARTS = ("__init__.py", "errors.py", "jobs", "worker")
LIBRARIES = frozenset({"aiohttp", "boto3", "botocore", "psutil"})


@dataclass(frozen=True)
class Runtime:
    """What goes into the image.

    Args:
        files: Path below the directory of packages ("asyncjobs/worker/loop.py") and content, sorted by path.
        requirements: As in a requirements.txt ("aiohttp>=3.11"), sorted.
    """

    version: str
    files: tuple[tuple[str, bytes], ...]
    requirements: tuple[str, ...]


@cache
def runtime() -> Runtime:
    """The runtime of the asyncjobs that is running."""
    package = Path(asyncjobs.__file__).parent
    paths = [path for part in PARTS for path in _modules(package / part)]
    files = sorted((path.relative_to(package.parent).as_posix(), path.read_bytes()) for path in paths)
    declared = metadata.requires("asyncjobs") or []
    requirements = sorted(line for line in declared if re.split(r"[^\w.-]", line)[0] in LIBRARIES)
    return Runtime(asyncjobs.__version__, tuple(files), tuple(requirements))


def _modules(part: Path) -> list[Path]:
    return [part] if part.is_file() else list(part.rglob("*.py"))
