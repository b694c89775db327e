"""Ending a process with everything it started, and knowing a process again by more than its pid."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil


def created(pid: int) -> float | None:
    """When this process was created; with the pid that identifies it, because pids are given out again."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def same_process(pid: int, create_time: float) -> bool:
    now = created(pid)
    return now is not None and abs(now - create_time) < 0.5


def signal_group(leader: int, number: signal.Signals) -> None:
    """Signal the process group of a session leader that we started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def kill_tree(leader: int) -> None:
    """SIGKILL a session leader, its group, and descendants that made groups of their own."""
    descendants: list[psutil.Process] = []
    with suppress(psutil.Error):
        descendants = psutil.Process(leader).children(recursive=True)
    signal_group(leader, signal.SIGKILL)
    for process in descendants:
        with suppress(psutil.Error):
            process.kill()


def end_orphans(recorded: Iterable[tuple[int, float]], *, grace: float) -> list[int]:
    """SIGTERM, then after `grace` seconds SIGKILL, the recorded processes that are still the same ones."""
    mine = [pid for pid, create_time in recorded if same_process(pid, create_time)]
    for pid in mine:
        signal_group(pid, signal.SIGTERM)
    processes = []
    for pid in mine:
        with suppress(psutil.Error):
            processes.append(psutil.Process(pid))
    psutil.wait_procs(processes, timeout=grace)
    for pid in mine:
        kill_tree(pid)
    return mine
