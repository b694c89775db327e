"""The engine's claim on its state directory: the lock it holds, and the file by which commands find it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asyncjobs import __version__
from asyncjobs.local.paths import EnginePaths, read_json, write_json

if TYPE_CHECKING:
    from asyncjobs.local.access import Endpoint

_LOCK_SECONDS = 2.0


def take_lock(paths: EnginePaths) -> int | None:
    """Take the engine's lock for as long as this process or its fork lives; None when another engine holds it.

    A bare descriptor that is never closed: only the kernel gives the lock back, at the very end of the process.
    """
    descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            # A command that looks whether an engine lives holds it for a moment.
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)


class Presence:
    """Announces the engine in engine.json, and sees that it stays announced.

    Args:
        lock: The descriptor of `take_lock`.
    """

    def __init__(self, paths: EnginePaths, lock: int) -> None:
        self.token = secrets.token_hex(32)
        self._paths = paths
        self._lock = lock
        self._info: dict[str, Any] | None = None

    def announce(self, endpoint: Endpoint, port: int) -> None:
        self._info = {
            "pid": os.getpid(),
            "port": port,
            "endpoint_url": endpoint.url,
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "token": self.token,
            "access_key": endpoint.access_key,
            "version": __version__,
        }
        write_json(self._paths.info, self._info)

    def confirm(self) -> bool:
        """Announce again if the file was damaged; False when the directory is gone, and nobody can find us any more."""
        mine = os.fstat(self._lock)
        try:
            there = self._paths.lock.stat()
        except OSError:
            return False
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            return False
        if self._info is not None and read_json(self._paths.info) != self._info:
            with contextlib.suppress(OSError):
                write_json(self._paths.info, self._info)
        return True

    def withdraw(self) -> None:
        self._info = None
        self._paths.info.unlink(missing_ok=True)
