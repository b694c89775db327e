"""Ends the engine's tasks when the engine is killed and cannot do it itself.

A separate process that reads `add PID CREATED` and `del PID` from its standard input. The kernel closes that pipe
when the engine dies, however it dies; what is still listed then is ended. Portable, unlike PR_SET_PDEATHSIG, which
besides fires when the *thread* that started the child ends.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from asyncjobs.local.paths import EnginePaths, clean_environment, python_command, read_json, write_json
from asyncjobs.local.process_tree import created, end_orphans

GRACE_SECONDS = 3.0
_LARGEST_PID = 2**31


class TaskRegister:
    """The engine's side: what runs, told to the watchdog and written down for the next engine."""

    def __init__(self, paths: EnginePaths) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._tasks: dict[int, float] = {}
        self._process: subprocess.Popen[str] | None = None

    def reap_leftovers(self) -> list[int]:
        """End the tasks that an earlier, killed engine left, after checking that they are the same processes."""
        ended = end_orphans(_recorded(read_json(self._paths.tasks)), grace=GRACE_SECONDS)
        self._paths.tasks.unlink(missing_ok=True)
        return ended

    def add(self, pid: int) -> None:
        when = created(pid)
        if when is None:
            return
        with self._lock:
            self._tasks[pid] = when
            self._tell(f"add {pid} {when}")
            self._write()

    def remove(self, pid: int) -> None:
        with self._lock:
            if self._tasks.pop(pid, None) is not None:
                self._tell(f"del {pid}")
                self._write()

    def close(self) -> None:
        """End the watchdog; it ends whatever is still listed."""
        with self._lock:
            if self._process is None:
                return
            if self._process.stdin is not None:
                with suppress(OSError):
                    self._process.stdin.close()
            self._process.wait()
            self._process = None
            self._paths.tasks.unlink(missing_ok=True)

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.poll() is not None:
            self._process = self._spawn()
            lines = [f"add {pid} {when}" for pid, when in self._tasks.items()]
        else:
            lines = [line]
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("".join(f"{each}\n" for each in lines))
            self._process.stdin.flush()

    def _spawn(self) -> subprocess.Popen[str]:
        # Its own session: a signal for the engine's group must not take the watchdog with it.
        return subprocess.Popen(
            python_command("asyncjobs.local.watchdog"),
            stdin=subprocess.PIPE,
            env=clean_environment(self._paths.tmp),
            start_new_session=True,
            text=True,
        )

    def _write(self) -> None:
        write_json(self._paths.tasks, list(self._tasks.items()))


def _recorded(stored: object) -> list[tuple[int, float]]:
    """The well-formed entries of tasks.json."""
    found = []
    for entry in stored if isinstance(stored, list) else []:
        match entry:
            case [int(pid), float(when)] if 1 < pid < _LARGEST_PID:
                found.append((pid, when))
    return found


def watch(lines: Iterable[str]) -> dict[int, float]:
    """Follow the register until its end; what is still listed then."""
    tasks: dict[int, float] = {}
    for line in lines:
        match line.split():
            case ["add", pid, when]:
                tasks[int(pid)] = float(when)
            case ["del", pid]:
                tasks.pop(int(pid), None)
    return tasks


def main(stdin: TextIO) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_orphans(watch(stdin).items(), grace=GRACE_SECONDS)


if __name__ == "__main__":
    main(sys.stdin)
