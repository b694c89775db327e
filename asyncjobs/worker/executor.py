"""What runs a handler: a slot takes one attempt at a time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import psutil

from asyncjobs.worker.outcome import Outcome

T = TypeVar("T")


class StartError(Exception):
    """The handler cannot be run at all: it cannot be imported, or the program is not there."""


class Flag:
    """Raised once, seen from any thread; nobody can wait for it, so it costs next to nothing to make."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


class Control:
    """How an attempt is told from outside that its result is no longer wanted."""

    __slots__ = ("_stop", "_stopped", "cancelled")

    def __init__(self) -> None:
        self.cancelled = Flag()
        self._stopped = False
        self._stop: Callable[[], object] | None = None

    def on_stop(self, stop: Callable[[], object] | None) -> None:
        """How to end what runs now, from any thread, maybe more than once; called at once if it is to stop already."""
        # First this one and then a look, as `stop` does the other way round: one of the two sees the other's.
        self._stop = stop
        if self._stopped and stop:
            stop()

    def stop(self) -> None:
        """End the attempt now."""
        self.cancelled.set()
        self._stopped = True
        stop = self._stop
        if stop:
            stop()

    @property
    def stopped(self) -> bool:
        return self._stopped


@dataclass(slots=True)
class Attempt:
    """What a slot needs to run a job once.

    Args:
        payload: Bytes, or a file in the folder that holds them where they are many.
        folder: Where a folder of its own is made, when it is needed; the caller deletes it once the result is kept.
        timeout: Seconds.
    """

    job_id: str
    attempt: int
    max_attempts: int
    content_type: str
    payload: bytes | Path
    folder: str
    timeout: float
    on_progress: Callable[[float, str], None]
    control: Control
    has_directory: bool = False

    @property
    def directory(self) -> Path:
        # Made when it is asked for: a Path takes longer to make than all of an attempt, and few need one.
        return Path(self.folder)

    def make_directory(self) -> Path:
        directory = self.directory
        if not self.has_directory:
            self.has_directory = True
            directory.mkdir(parents=True, exist_ok=True)
        return directory


class BlockingSlot(Protocol):
    """Runs one attempt at a time, and keeps its caller waiting; every one comes back as an outcome."""

    def start(self) -> None:
        """Get ready. Raises StartError."""

    def run(self, attempt: Attempt) -> Outcome: ...

    def close(self) -> None: ...


class Slot(Protocol):
    """Runs one attempt at a time; every one comes back as an outcome, none as an exception."""

    async def start(self) -> None:
        """Get ready. Raises StartError."""

    async def run(self, attempt: Attempt) -> Outcome: ...

    async def close(self) -> None: ...


class InThread:
    """A blocking slot with a thread of its own to wait in."""

    def __init__(self, slot: BlockingSlot) -> None:
        self._slot = slot
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="slot")

    async def start(self) -> None:
        await self._in_thread(self._slot.start)

    async def run(self, attempt: Attempt) -> Outcome:
        return await self._in_thread(lambda: self._slot.run(attempt))

    async def close(self) -> None:
        await asyncio.to_thread(self._slot.close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def prefer_for_oom(pid: int) -> None:
    """Where memory runs out, the kernel ends this process rather than the worker with all of its jobs."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def oom_kills() -> int:
    """How often the kernel has ended a process of this container for its memory; 0 where it does not say.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    for file in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        with suppress(OSError, ValueError):
            for line in Path(file).read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def killed_by(number: int, kills_before: int, count: Callable[[], int]) -> str:
    """The reason of a death by signal: "OutOfMemory" where the kernel's count says so."""
    if number == signal.SIGKILL and count() > kills_before:
        return "OutOfMemory"
    return f"Crashed ({signal_name(number)})"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
