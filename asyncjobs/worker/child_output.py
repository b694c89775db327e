"""What a handler's process prints becomes log lines, each of the job that printed it."""

from __future__ import annotations

import array
import fcntl
import os
import select
import subprocess
import termios
import threading
from typing import IO, Any

from asyncjobs.worker.logs import Log, parse_record

LONGEST_LINE = 64 * 1024


class ChildOutput:
    """Both streams of a process, read to their ends."""

    def __init__(self, process: subprocess.Popen[bytes], log: Log) -> None:
        self._streams = [_Stream(process.stdout, "info", log), _Stream(process.stderr, "warning", log)]

    def belongs_to(self, **job: Any) -> None:
        """From now on; fields of the log lines."""
        for stream in self._streams:
            stream.job = job

    def end_job(self) -> None:
        """Log what the pipes still hold when the outcome is here already, lest it is taken for the next job's."""
        for stream in self._streams:
            stream.read_what_is_there()

    def join(self) -> None:
        """The process has ended; a child of its own may still hold the pipes."""
        for stream in self._streams:
            stream.thread.join(timeout=5)


class _Stream:
    """Read by a thread of its own, and by who cannot wait for that; whoever has the lock has the pipe."""

    def __init__(self, pipe: IO[bytes] | None, level: str, log: Log) -> None:
        if pipe is None:
            raise ValueError("the child has no pipe")
        self.job: dict[str, Any] = {}
        self._pipe = pipe
        self._level = level
        self._log = log
        self._rest = b""  # of a line that is not complete
        self._lock = threading.Lock()
        # Two may see that there is something, and only one get it.
        os.set_blocking(pipe.fileno(), False)
        self.thread = threading.Thread(target=self._pump, name=f"handler-{level}", daemon=True)
        self.thread.start()

    def read_what_is_there(self) -> None:
        """And no more, so that what a handler has left behind can flood without end."""
        with self._lock:
            if not self._pipe.closed:
                size = array.array("i", [0])
                fcntl.ioctl(self._pipe.fileno(), termios.FIONREAD, size)
                if size[0]:
                    self._read(size[0])
                self._end_line()

    def _pump(self) -> None:
        poll = select.poll()
        poll.register(self._pipe.fileno(), select.POLLIN)
        while not self._pipe.closed:
            poll.poll()
            with self._lock:
                if not self._read(LONGEST_LINE):
                    self._end_line()
                    self._pipe.close()

    def _read(self, most: int) -> bool:
        """False at the end of the stream."""
        try:
            data = os.read(self._pipe.fileno(), most)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._write(line)
        while len(self._rest) >= LONGEST_LINE:
            self._write(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        return bool(data)

    def _end_line(self) -> None:
        self._write(self._rest)
        self._rest = b""

    def _write(self, line: bytes) -> None:
        for start in range(0, len(line), LONGEST_LINE):
            text = line[start : start + LONGEST_LINE].decode("utf-8", "replace")
            self._log.write(*(parse_record(text) or (self._level, text)), **self.job)
