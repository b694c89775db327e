"""What runs a handler: a slot takes one attempt at a time."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from asyncjobs.worker.outcome import Outcome


class StartError(Exception):
    """The handler cannot be run at all: it cannot be imported, or the program is not there."""


class Control:
    """How an attempt is told from outside that its result is no longer wanted."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._lock = threading.Lock()
        self._stopped = False
        self._stop: Callable[[], None] | None = None

    def on_stop(self, stop: Callable[[], None] | None) -> None:
        """How to end what runs now; called at once if it is to stop already."""
        with self._lock:
            self._stop = stop
            if not (self._stopped and stop):
                return
        stop()

    def stop(self) -> None:
        """End the attempt now."""
        self.cancelled.set()
        with self._lock:
            self._stopped = True
            stop = self._stop
        if stop:
            stop()

    @property
    def stopped(self) -> bool:
        return self._stopped


@dataclass(frozen=True)
class Attempt:
    """What a slot needs to run a job once.

    Args:
        directory: A folder of its own, which the caller deletes once the result is kept.
        timeout: Seconds.
    """

    job_id: str
    attempt: int
    max_attempts: int
    content_type: str
    payload: bytes
    directory: Path
    timeout: float
    on_progress: Callable[[float, str], None]
    control: Control


class Slot(Protocol):
    """Runs one attempt at a time; every one comes back as an outcome, none as an exception."""

    def start(self) -> None:
        """Get ready. Raises StartError."""

    def run(self, attempt: Attempt) -> Outcome: ...

    def close(self) -> None: ...


def kill_tree(pid: int) -> None:
    """SIGKILL the leader of a process group, everything it has started, and the rest of its group."""
    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # Whose parent has died is nobody's child any more, but still of the group.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
