"""Virtual environments for requirements that the running interpreter does not have."""

from __future__ import annotations

import importlib.util
import os
import shutil
import site
import subprocess
import sys
import venv
from collections import deque
from pathlib import Path

from asyncjobs.errors import ConfigError
from asyncjobs.local.paths import import_paths
from asyncjobs.local.requirements import Requirements
from asyncjobs.progress import Event, Progress

_COMPLETE = ".complete"
_TAIL = 15
# Settings that would have pip install, or write, somewhere else than into the environment.
_MISLEADING = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_SRC", "PIP_LOG", "PIP_REPORT", "PIP_DRY_RUN"}
_SAID = ("Collecting ", "Downloading ", "Building wheel", "Installing collected")


def build_venv(directory: Path, requirements: Requirements, project: Path, tmp: Path, progress: Progress) -> None:
    """Create the environment and install into it, unless it is already complete. The caller holds the lock.

    Args:
        tmp: Where pip keeps its cache and its temporary files.

    Raises:
        ConfigError: pip could not install the requirements.
    """
    if (directory / _COMPLETE).exists():
        progress.emit(Event("requirements", "kept", "already installed"))
        return
    # What is there without its marker was left by an interrupted build.
    shutil.rmtree(directory, ignore_errors=True)
    progress.emit(Event("requirements", "started", f"installing {len(requirements.lines)} requirements"))
    has_pip = importlib.util.find_spec("pip") is not None
    venv.EnvBuilder(symlinks=True, with_pip=not has_pip).create(directory)
    _link_packages(directory)
    try:
        _install(directory, requirements, project, tmp, progress)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    (directory / _COMPLETE).touch()
    progress.emit(Event("requirements", "done", "installed"))


def _link_packages(directory: Path) -> None:
    """Let the environment import asyncjobs and boto3 from the running interpreter.

    The path file adds that interpreter's packages after the environment's own, so a version the project asks for
    wins; addsitedir also follows the path files there, which is how an editable install is found.
    """
    target = next((directory / "lib").glob("python*/site-packages"))
    parents = [*site.getsitepackages(), *import_paths()]
    lines = [f"import site; site.addsitedir({path!r})" for path in parents]
    (target / "asyncjobs_engine.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _install(directory: Path, requirements: Requirements, project: Path, tmp: Path, progress: Progress) -> None:
    wanted = directory / "requirements.txt"
    wanted.write_text(requirements.text + "\n", encoding="utf-8")
    tail: deque[str] = deque(maxlen=_TAIL)
    with subprocess.Popen(
        [*_pip(directory), "install", "--disable-pip-version-check", "--no-input", "-r", str(wanted)],
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_pip_environment(tmp),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().startswith(_SAID):
                progress.emit(Event("requirements", "info", line.strip()[:100]))
            else:
                tail.append(line.rstrip())
    if process.returncode != 0:
        raise ConfigError(
            "The project's requirements could not be installed.",
            why="\n".join(tail),
            hint="check requirements.txt and the network, then run `asyncjobs up --local` again",
        )


def _pip_environment(tmp: Path) -> dict[str, str]:
    """The person's environment, for their index, proxy and keys, but nothing in it leads out of the state folder."""
    kept = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    return {**kept, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp), "PIP_CACHE_DIR": str(tmp / "pip-cache")}


def _pip(directory: Path) -> list[str]:
    """The running interpreter's pip working on the new environment, which spares seconds of ensurepip."""
    python = str(directory / "bin" / "python")
    if importlib.util.find_spec("pip") is None:
        return [python, "-m", "pip"]
    return [sys.executable, "-m", "pip", "--python", python]
