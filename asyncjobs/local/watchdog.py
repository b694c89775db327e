"""Ends the engine's tasks when the engine is killed and cannot do it itself.

A separate process that reads `add PID CREATED` and `del PID` from its standard input, and `containers ID` once the
engine of that id runs some. The kernel closes that pipe when the engine dies, however it dies; what is still listed
then is ended. Portable, unlike PR_SET_PDEATHSIG, which
besides fires when the *thread* that started the child ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from typing import TextIO

from asyncjobs.errors import AsyncJobsError
from asyncjobs.local.paths import EnginePaths, clean_environment, python_command, read_json, write_json
from asyncjobs.local.process_tree import created, end_orphans

GRACE_SECONDS = 3.0
_LARGEST_PID = 2**31
_CONTAINERS = "containers"


class TaskRegister:
    """The engine's side: what runs, told to the watchdog and written down for the next engine.

    Args:
        docker_env: Where the Docker engine is.
    """

    def __init__(self, paths: EnginePaths, docker_env: Mapping[str, str]) -> None:
        self._paths = paths
        self._docker_env = docker_env
        self._containers = False
        self._lock = threading.Lock()
        self._tasks: dict[int, float] = {}
        self._process: subprocess.Popen[str] | None = None

    def reap_leftovers(self) -> list[int]:
        """End the tasks that an earlier, killed engine left, after checking that they are the same processes."""
        stored = read_json(self._paths.tasks)
        ended = end_orphans(_recorded(stored), grace=GRACE_SECONDS)
        if _CONTAINERS in (stored if isinstance(stored, list) else []):
            end_containers(self._paths.engine_id, self._docker_env)
        self._paths.tasks.unlink(missing_ok=True)
        return ended

    def containers(self, *, used: bool) -> None:
        """There may be containers of this engine from now on; or, not `used`, there are none any more."""
        with self._lock:
            self._containers = used
            self._tell(f"{_CONTAINERS} {self._paths.engine_id if used else ''}")
            self._write()

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
            lines += [f"{_CONTAINERS} {self._paths.engine_id}"] if self._containers else []
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
            env={**clean_environment(self._paths.tmp), "DOCKER_HOST": "", **self._docker_env},
            start_new_session=True,
            text=True,
        )

    def _write(self) -> None:
        write_json(self._paths.tasks, [*self._tasks.items(), *([_CONTAINERS] if self._containers else [])])


def _recorded(stored: object) -> list[tuple[int, float]]:
    """The well-formed entries of tasks.json."""
    found = []
    for entry in stored if isinstance(stored, list) else []:
        match entry:
            case [int(pid), float(when)] if 1 < pid < _LARGEST_PID:
                found.append((pid, when))
    return found


def watch(lines: Iterable[str]) -> tuple[dict[int, float], str]:
    """Follow the register until its end; processes, and the id of an engine with containers, that are listed then."""
    tasks: dict[int, float] = {}
    engine = ""
    for line in lines:
        match line.split():
            case ["add", pid, when]:
                tasks[int(pid)] = float(when)
            case ["del", pid]:
                tasks.pop(int(pid), None)
            case [str(kind), *ids] if kind == _CONTAINERS:
                engine = "".join(ids)
    return tasks, engine


def end_containers(engine: str, docker_env: Mapping[str, str]) -> None:
    """Remove what an engine left in Docker. If that cannot be reached, there is nobody to tell it to."""
    from asyncjobs.image.engine import connect
    from asyncjobs.local.containers import DockerFailure, remove_leftovers

    with suppress(AsyncJobsError, *DockerFailure), closing(connect(docker_env)) as client:
        remove_leftovers(client, engine)


def main(stdin: TextIO) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tasks, engine = watch(stdin)
    end_orphans(tasks.items(), grace=GRACE_SECONDS)
    if engine:
        end_containers(engine, os.environ)


if __name__ == "__main__":
    main(sys.stdin)
