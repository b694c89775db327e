"""A slot whose handler runs in a child process of its own: it survives whatever the handler does to its process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from asyncjobs.worker.child import Channel
from asyncjobs.worker.child_output import ChildOutput
from asyncjobs.worker.executor import (
    Attempt,
    StartError,
    kill_tree,
    killed_by,
    oom_kills,
    prefer_for_oom,
    signal_name,
)
from asyncjobs.worker.logs import Log
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded

START_SECONDS = 120.0
MOST_LEFT = 100  # threads and processes beyond the handler's own; libraries keep some on purpose
LOOK_EVERY = 20  # jobs; a look at all processes takes milliseconds
_POLL_SECONDS = 0.2


class ProcessSlot:
    """Keeps one child across jobs; a child that died, was killed or has gathered leftovers is replaced.

    Args:
        oom_kills: How often the kernel has ended a process for its memory.
    """

    def __init__(self, handler: str, log: Log, *, oom_kills: Callable[[], int] = oom_kills) -> None:
        self._handler = handler
        self._log = log
        self._oom_kills = oom_kills
        self._kills_before = 0
        self._jobs = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._output: ChildOutput | None = None

    def start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "asyncjobs.worker.child", str(theirs.fileno()), self._handler],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # so that the handler's whole family can be ended with it
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        prefer_for_oom(self._process.pid)
        theirs.close()
        self._connection = Connection(ours.detach())
        self._output = ChildOutput(self._process, self._log)
        self._await_ready()

    def run(self, attempt: Attempt) -> Outcome:
        try:
            self.start()
        except StartError as error:
            return Failed("StartError", str(error))
        process, connection, output = self._process, self._connection, self._output
        if process is None or connection is None or output is None:
            raise RuntimeError("the slot was closed")
        output.belongs_to(jobId=attempt.job_id, attempt=attempt.attempt)
        attempt.control.on_stop(lambda: kill_tree(process.pid))
        try:
            attempt.make_directory()
            self._kills_before = self._oom_kills()
            data = attempt.payload if isinstance(attempt.payload, bytes) else None
            Channel(connection).send(_order(attempt), data)
            return self._await_outcome(attempt, process, connection, output)
        except (EOFError, OSError):
            return self._death(attempt, process)
        finally:
            attempt.control.on_stop(None)

    def close(self) -> None:
        """End the child and everything it has started. An attempt's end and its canceller may both want to."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        output, self._output = self._output, None
        if process is not None:
            kill_tree(process.pid)
            process.wait()
        if output is not None:
            output.join()
        if connection is not None:
            connection.close()

    def _await_ready(self) -> None:
        connection = self._connection
        try:
            if connection is None or not connection.poll(START_SECONDS):
                raise StartError(f"importing the handler took longer than {START_SECONDS:.0f} s")
            message, _ = Channel(connection).receive()
        except (EOFError, OSError):
            message = {"type": "broken", "message": f"importing {self._handler} ended the process"}
        except StartError:
            self.close()
            raise
        if message["type"] != "ready":
            self.close()
            raise StartError(message["message"])

    def _await_outcome(self, attempt: Attempt, process: Any, connection: Connection, output: ChildOutput) -> Outcome:
        channel = Channel(connection)
        deadline = time.monotonic() + attempt.timeout
        told = False
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                self.close()
                return Failed("Timeout", f"the handler ran longer than {attempt.timeout:g} s and was ended")
            if attempt.control.cancelled.is_set() and not told:
                channel.send({"type": "cancel"})
                told = True
            if not connection.poll(min(left, _POLL_SECONDS)):
                # A grandchild may hold the connection open after the child itself has died.
                if process.poll() is not None and not connection.poll(0):
                    return self._death(attempt, process)
                continue
            message, data = channel.receive()
            if message["type"] != "progress":
                output.end_job()
                self._replace_if_littered(process, message["threads"])
                return _outcome(message, data)
            attempt.on_progress(message["fraction"], message["message"])

    def _replace_if_littered(self, process: subprocess.Popen[bytes], threads: int) -> None:
        """Threads and processes that handlers have left behind are borne, up to a number."""
        self._jobs += 1
        left = threads
        if self._jobs % LOOK_EVERY == 0:
            with suppress(psutil.NoSuchProcess):
                left += len(psutil.Process(process.pid).children(recursive=True))
        if left > MOST_LEFT:
            self._log.warning(f"the handler's process has gathered {left} threads and processes and is replaced")
            self.close()

    def _death(self, attempt: Attempt, process: subprocess.Popen[bytes]) -> Outcome:
        self.close()
        if attempt.control.stopped:
            return Stopped()
        code = process.wait()
        if code >= 0:
            return Failed(f"Crashed (exit {code})", f"the handler's process died: exit {code}")
        reason = killed_by(-code, self._kills_before, self._oom_kills)
        how = "the container's memory is used up" if reason == "OutOfMemory" else signal_name(-code)
        return Failed(reason, f"the handler's process died: {how}")


def _order(attempt: Attempt) -> dict[str, Any]:
    return {
        "type": "run",
        "id": attempt.job_id,
        "attempt": attempt.attempt,
        "maxAttempts": attempt.max_attempts,
        "contentType": attempt.content_type,
        "directory": attempt.folder,
        "file": str(attempt.payload) if isinstance(attempt.payload, Path) else None,
    }


def _outcome(message: dict[str, Any], data: bytes) -> Outcome:
    if message["type"] == "failed":
        return Failed(message["errorType"], message["message"], message["detail"], message["final"])
    kind = message["kind"]
    if kind == "json":
        return Succeeded(json_text=data.decode())
    if kind == "bytes":
        return Succeeded(data=data, content_type=message["contentType"])
    return Succeeded(file=Path(message["file"]), content_type=message["contentType"], is_value=message["isValue"])
