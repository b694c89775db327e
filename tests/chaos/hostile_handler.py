"""Handlers that do to their process what a handler should not, and good ones; which one, the payload says."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from side_log import note

FLOOD_LINES, FLOOD_LINE = 5_000, "x" * 1000  # 5 MB
BOMB_BYTES = 64 << 20  # so much beyond what the process has: the machine is not to be hurt


def handle(job: Any) -> dict[str, Any]:
    kind = job.text
    note(f"{job.id} {job.attempt} {kind}")
    # Dying is the point; a file of each death is not.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    HOSTILE.get(kind, lambda: None)()
    if kind == "flood":
        sys.stdout.write(f"the last line of {job.id}\n")
    return {"job": job.id, "attempt": job.attempt}


def _bomb() -> None:
    """Ask for memory until there is none left."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BOMB_BYTES, before[1]))
    hoard = []
    try:
        while True:
            hoard.append(bytearray(16 << 20))
    finally:
        hoard.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


def _loop() -> None:
    while True:
        pass


def _flood() -> None:
    for _ in range(FLOOD_LINES):
        sys.stdout.write(FLOOD_LINE + "\n")


HOSTILE = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "bomb": _bomb,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),  # what the kernel does where memory runs out
    "loop": _loop,
    "exit": lambda: sys.exit(3),
    "flood": _flood,
}
