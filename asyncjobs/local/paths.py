"""Where the local engine keeps its files, and the environment it runs in.

One directory per user holds everything, so nothing is written anywhere else and deleting it forgets all:

    engine.json     who runs: pid, port, token, access key (mode 0600)
    credentials.json  the access key, the same after a restart (mode 0600)
    engine.lock     held by the engine as long as it lives
    start.lock      held by the command that is starting it
    engine.log      what the engine and the emulator say
    ports.json      the ports of the engine and of each REST API, used again after a restart
    tasks.json      processes of running tasks, so that orphans of a killed engine are found
    scaling.json    scalable targets and scaling policies
    data/           the emulator's state, saved while it runs and when it stops; data/s3 holds the objects
    rest-apis/      what each deployment of a REST API deployed
    images/         snapshots of projects:  images/<stack>/<content hash>/app
    venvs/          requirements of projects: venvs/<hash of requirements and interpreter>
    tmp/            temporary files of the engine and its tasks
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncjobs.errors import ConfigError

# Enough to run programs, find certificates and import Python code. The rest of the person's environment
# (AWS credentials above all) is none of the engine's business.
_KEPT = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME", "PYTHONPATH", "SSL_CERT_FILE"}
# Where the Docker engine is.
_DOCKER = {"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR"}


@dataclass(frozen=True)
class EnginePaths:
    """The layout of one engine's state directory."""

    root: Path

    @property
    def info(self) -> Path:
        return self.root / "engine.json"

    @property
    def credentials(self) -> Path:
        return self.root / "credentials.json"

    @property
    def lock(self) -> Path:
        return self.root / "engine.lock"

    @property
    def start_lock(self) -> Path:
        return self.root / "start.lock"

    @property
    def log(self) -> Path:
        return self.root / "engine.log"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def tasks(self) -> Path:
        return self.root / "tasks.json"

    @property
    def registry(self) -> Path:
        return self.data / "registry"

    @property
    def engine_id(self) -> str:
        """What the engine's containers are known by: the same for the next engine of this directory."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    @property
    def scaling(self) -> Path:
        return self.root / "scaling.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def venvs(self) -> Path:
        return self.root / "venvs"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    def create(self) -> None:
        """Make the directories. The state belongs to one user: nobody else may look in.

        Raises:
            ConfigError: They cannot be made.
        """
        with self.usable():
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for directory in (self.data, self.images, self.venvs, self.tmp):
                directory.mkdir(exist_ok=True, mode=0o700)

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Translates what the file system refuses.

        Raises:
            ConfigError: The state directory cannot be used.
        """
        try:
            yield
        except OSError as error:
            raise self.unusable(error) from error

    def unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"The state folder {self.root} cannot be used.",
            why=f"{error.strerror or error}: {error.filename or self.root}",
            hint="Set ASYNCJOBS_STATE_DIR to a folder that you may write.",
        )


def write_json(path: Path, value: Any) -> None:
    """Replace a small file at once: a reader sees the old text or the new, and only the owner sees any."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The file's value, or None when it is missing or was cut off by a crash. It may be anything: check it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def import_paths() -> list[str]:
    """What must be on sys.path for a child to import asyncjobs: nothing when installed, else the checkout."""
    root = str(Path(__file__).resolve().parents[2])
    return [] if root.endswith(("site-packages", "dist-packages")) else [root]


def clean_environment(tmp: Path) -> dict[str, str]:
    """The environment of the engine and its helpers."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT | _DOCKER}
    search = [*import_paths(), *filter(None, [kept.get("PYTHONPATH", "")])]
    if search:
        kept["PYTHONPATH"] = os.pathsep.join(search)
    return {**kept, "TMPDIR": str(tmp), "PYTHONUNBUFFERED": "1"}


def docker_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in _DOCKER}


def python_command(module: str, *args: str) -> list[str]:
    """Run one of our modules in this interpreter. -P: files in the working directory must not shadow modules."""
    return [sys.executable, "-P", "-m", module, *args]
