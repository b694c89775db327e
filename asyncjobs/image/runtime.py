"""The part of asyncjobs that runs in the workers' image, and what it needs.

It travels with the build: nothing of it is downloaded but its requirements, and it is always of the version that
brings the stack up.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import asyncjobs

# What `asyncjobs.worker` imports, and no more: the image has no command line, no provisioning and no local engine.
PARTS = ("__init__.py", "errors.py", "jobs", "worker")
LIBRARIES = frozenset({"boto3", "botocore", "httptools", "orjson", "psutil"})


@dataclass(frozen=True)
class Runtime:
    """What goes into the image.

    Args:
        files: Path below the directory of packages ("asyncjobs/worker/loop.py") and content, sorted by path.
        requirements: As in a requirements.txt ("orjson>=3.10"), sorted.
    """

    version: str
    files: tuple[tuple[str, bytes], ...]
    requirements: tuple[str, ...]

    @property
    def wheel_name(self) -> str:
        return f"asyncjobs-{self.version}-py3-none-any.whl"

    def wheel(self) -> bytes:
        """The files as a wheel, for an installer: it knows what they need, and takes "asyncjobs" for there.

        https://packaging.python.org/en/latest/specifications/binary-distribution-format/
        """
        info = f"asyncjobs-{self.version}.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in self.requirements)
        metadata = f"Metadata-Version: 2.1\nName: asyncjobs\nVersion: {self.version}\n{needs}"
        tags = "Wheel-Version: 1.0\nGenerator: asyncjobs\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        members = [
            *self.files,
            (f"{info}/METADATA", metadata.encode()),
            (f"{info}/WHEEL", tags.encode()),
        ]
        record = "".join(f"{name},{_hash(content)},{len(content)}\n" for name, content in members)
        members.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode()))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                entry = zipfile.ZipInfo(name)  # of 1980, as always
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
        return out.getvalue()


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


def _hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
