"""The "image" of the process runner: a snapshot of the project and an interpreter that has its requirements.

A reference reads `asyncjobs.local/<stack>:<content hash>`. Snapshots never change, so a deployment can roll back,
and a project edited while tasks run changes nothing until the next `up`. They are made in a temporary directory and
renamed; a virtual environment cannot be moved (its scripts hold its path), so it is complete when its marker is there.
"""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import re
import shutil
import site
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asyncjobs import __version__
from asyncjobs.errors import ConfigError
from asyncjobs.image.dockerignore import project_files
from asyncjobs.local.paths import EnginePaths, import_paths, read_json, write_json
from asyncjobs.local.requirements import Requirements, read_requirements
from asyncjobs.local.venvs import build_venv
from asyncjobs.progress import Event, Progress

REGISTRY = "asyncjobs.local"
DEFAULT_COMMAND = ("python", "-m", "asyncjobs.worker")
_REFERENCE = re.compile(rf"{re.escape(REGISTRY)}/(?P<stack>[a-z0-9-]+):(?P<hash>[0-9a-f]{{16,64}})\Z")
_KEPT_SNAPSHOTS = 5
_STEP = "image"


class UnknownImageError(Exception):
    """No snapshot has this reference."""


@dataclass(frozen=True)
class RunnableImage:
    """What a task needs of its image.

    Args:
        workdir: The snapshot of the project.
        path_prefix: Goes in front of PATH: where the interpreter and the requirements' programs are.
        python: The interpreter that `python` means.
        command: What runs when the task definition names no command.
    """

    workdir: Path
    path_prefix: str
    python: Path
    command: tuple[str, ...] = DEFAULT_COMMAND


class ProcessImages:
    """Builds, finds and removes images in one state directory. Several processes may do so at once."""

    def __init__(self, state_dir: Path) -> None:
        self._paths = EnginePaths(Path(state_dir).absolute())

    def build(self, project_dir: Path, stack: str, progress: Progress) -> str:
        """Make the project's image unless it exists, and return its reference.

        Raises:
            ConfigError: The project's requirements cannot be installed.
        """
        project = Path(project_dir).resolve()
        self._paths.create()
        with self._lock():
            requirements = _requirements(project)
            digest = content_hash(project, requirements)
            reference = f"{REGISTRY}/{stack}:{digest}"
            if self._usable(reference):
                os.utime(self._directory(stack, digest))
                progress.emit(Event(_STEP, "kept", f"unchanged, not built again ({digest[:12]})"))
                return reference
            progress.emit(Event(_STEP, "started", "taking a snapshot of the project"))
            venv = self._venv(requirements, project, progress)
            self._snapshot(project, stack, digest, venv)
            self._prune(stack, keep=digest)
        progress.emit(Event(_STEP, "done", f"built {digest[:12]}"))
        return reference

    def find(self, project_dir: Path, stack: str) -> str | None:
        """The reference of the project's image as the project is now; None when it has not been built.

        Raises:
            ConfigError: requirements.txt cannot be read.
        """
        project = Path(project_dir).resolve()
        reference = f"{REGISTRY}/{stack}:{content_hash(project, _requirements(project))}"
        return reference if self._usable(reference) else None

    def resolve(self, image: str) -> RunnableImage:
        """The image behind a reference.

        Raises:
            UnknownImageError: There is none.
        """
        match = _REFERENCE.match(image)
        if match is None:
            raise UnknownImageError(f"{image} is not an image of the process runner, and no containers are in use")
        directory = self._directory(match["stack"], match["hash"])
        manifest = read_json(directory / "image.json")
        if not isinstance(manifest, dict) or not isinstance(manifest.get("python"), str):
            raise UnknownImageError(f"{image}: not found")
        python = Path(manifest["python"])
        if not python.exists():
            raise UnknownImageError(f"{image}: its interpreter {python} is gone; run `asyncjobs up --local` again")
        return RunnableImage(workdir=directory / "app", path_prefix=str(python.parent), python=python)

    def remove(self, stack: str) -> None:
        """Delete the stack's snapshots, and the virtual environments that no other stack uses."""
        self._paths.create()
        with self._lock():
            shutil.rmtree(self._paths.images / stack, ignore_errors=True)
            used = {manifest.get("venv") for manifest in self._manifests()}
            for venv in self._paths.venvs.iterdir():
                if venv.name not in used:
                    shutil.rmtree(venv, ignore_errors=True)

    def _directory(self, stack: str, digest: str) -> Path:
        return self._paths.images / stack / digest

    def _usable(self, reference: str) -> bool:
        try:
            self.resolve(reference)
        except UnknownImageError:
            return False
        return True

    def _venv(self, requirements: Requirements, project: Path, progress: Progress) -> str | None:
        """The name of the environment with the requirements; None when this interpreter has them all."""
        if requirements.satisfied():
            return None
        name = hashlib.sha256(f"{requirements.text}\0{sys.version}\0{sys.prefix}".encode()).hexdigest()[:24]
        build_venv(self._paths.venvs / name, requirements, project, self._paths.tmp, progress)
        return name

    def _snapshot(self, project: Path, stack: str, digest: str, venv: str | None) -> None:
        temporary = self._paths.tmp / f"image-{uuid.uuid4().hex}"
        app = temporary / "app"
        app.mkdir(parents=True)
        for name in project_files(project):
            _copy(project / name, app / name)
        compileall.compile_dir(str(app), quiet=2, ddir=str(self._directory(stack, digest) / "app"))
        python = str(self._paths.venvs / venv / "bin" / "python") if venv else sys.executable
        write_json(temporary / "image.json", {"python": python, "venv": venv, "project": str(project)})
        final = self._directory(stack, digest)
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)

    def _prune(self, stack: str, keep: str) -> None:
        """Old snapshots go, but not the last few: a service may still roll back to them."""
        snapshots = sorted((self._paths.images / stack).iterdir(), key=lambda each: each.stat().st_mtime)
        for old in snapshots[:-_KEPT_SNAPSHOTS]:
            if old.name != keep:
                shutil.rmtree(old, ignore_errors=True)

    def _manifests(self) -> Iterator[dict[str, str]]:
        for file in self._paths.images.glob("*/*/image.json"):
            manifest = read_json(file)
            if isinstance(manifest, dict):
                yield manifest

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._paths.root / "images.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _requirements(project: Path) -> Requirements:
    try:
        return read_requirements(project / "requirements.txt")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("requirements.txt cannot be read.", why=str(error)) from error


def content_hash(project: Path, requirements: Requirements) -> str:
    """Changes with anything that could change what the worker does."""
    digest = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)

    add("asyncjobs process image 1", __version__, sys.version, sys.prefix, requirements.text)
    add(*import_paths(), *site.getsitepackages())
    for name in project_files(project):
        file = project / name
        if file.is_symlink():
            add(name, "link", str(file.readlink()))
        else:
            add(name, "x" if os.access(file, os.X_OK) else "-", file.read_bytes())
    return digest.hexdigest()[:32]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)
    if not target.is_symlink():
        # As in the container, where the root filesystem is read-only.
        target.chmod(target.stat().st_mode & 0o555)
