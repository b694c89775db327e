"""Standard output and error of handlers in the worker's own process: each line is logged with its job."""

from __future__ import annotations

import io
import logging
import sys
from contextvars import ContextVar

from asyncjobs.worker.logs import Log

# The job that a thread or a task works on; what a handler starts with asyncio inherits it.
job_id: ContextVar[str | None] = ContextVar("job_id", default=None)
_rest: ContextVar[str] = ContextVar("rest", default="")  # of a line that is not complete


class ThreadOutput(io.TextIOBase):
    """A text stream that turns lines into log lines."""

    def __init__(self, log: Log, level: str) -> None:
        self._log = log
        self._level = level

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, rest = (_rest.get() + text).split("\n")
        _rest.set(rest)
        for line in filter(None, lines):
            self._log.write(self._level, line, jobId=job_id.get())
        return len(text)


class LogHandler(logging.Handler):
    """`logging` records with their level."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        # Left without one, basicConfig gives it its own, which says level and name once more.
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write(record.levelname.lower(), f"{record.name}: {self.format(record)}", jobId=job_id.get())


def install(log: Log) -> None:
    """From now on `print` and `logging` of any thread end up in the log."""
    sys.stdout = ThreadOutput(log, "info")
    sys.stderr = ThreadOutput(log, "warning")
    logging.basicConfig(level=logging.INFO, handlers=[LogHandler(log)])
