"""What a handler's process prints becomes log lines, each of the job that printed it.

The pipes hold what a job printed when its outcome is here already. So the child ends each job's output with a mark, and
the next job is started only when the mark has come through.
"""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from typing import IO, Any

from asyncjobs.worker.logs import Log, parse_record

LONGEST_LINE = 64 * 1024
MARK = "\x1d"  # an ASCII group separator; then the number of the job in its process
MARK_SECONDS = 5.0  # a mark may be kept back: by another process in the middle of a line, or a log that is stuck


class OutputMarks:
    """The child's side: writes to the pipes themselves, wherever the handler has its output go."""

    def __init__(self) -> None:
        self._pipes = [os.dup(1), os.dup(2)]  # not inherited by programs that the handler starts
        self._number = 0

    def end_job(self) -> int:
        """After all output is flushed; the number of the job."""
        self._number += 1
        for pipe in self._pipes:
            with suppress(OSError):
                os.write(pipe, f"\n{MARK}{self._number}\n".encode())
        return self._number


class ChildOutput:
    """The worker's side: reads both streams to their ends, in threads."""

    def __init__(self, process: subprocess.Popen[bytes], log: Log) -> None:
        self._log = log
        self._job: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._open = 2
        self._marks = {"info": 0, "warning": 0}
        self._readers = [self._read(process.stdout, "info"), self._read(process.stderr, "warning")]

    def belongs_to(self, **job: Any) -> None:
        """From now on; fields of the log lines."""
        self._job = job

    def await_mark(self, number: int) -> None:
        """Return when all output of the job of this number is logged."""
        with self._changed:
            self._changed.wait_for(lambda: self._open < 2 or min(self._marks.values()) >= number, MARK_SECONDS)

    def join(self) -> None:
        """The process has ended; a child of its own may still hold the pipes."""
        for reader in self._readers:
            reader.join(timeout=5)

    def _read(self, stream: IO[bytes] | None, level: str) -> threading.Thread:
        if stream is None:
            raise ValueError("the child has no pipe")

        def pump() -> None:
            with stream:
                while line := stream.readline(LONGEST_LINE):
                    text = line.decode("utf-8", "replace").rstrip("\n")
                    if text.startswith(MARK) and text[1:].isdecimal():
                        self._passed(level, int(text[1:]))
                    elif text:
                        self._log.write(*(parse_record(text) or (level, text)), **self._job)
            with self._changed:
                self._open -= 1
                self._changed.notify_all()

        thread = threading.Thread(target=pump, name=f"handler-{level}", daemon=True)
        thread.start()
        return thread

    def _passed(self, level: str, number: int) -> None:
        with self._changed:
            self._marks[level] = number
            self._changed.notify_all()
