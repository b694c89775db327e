"""Standard output and error of handlers that run in threads: each line is logged with its thread's job."""

from __future__ import annotations

import io
import logging
import sys
import threading

from asyncjobs.jobs import ids
from asyncjobs.worker.logs import Log


class ThreadOutput(io.TextIOBase):
    """A text stream that turns lines into log lines."""

    def __init__(self, log: Log, level: str) -> None:
        self._log = log
        self._level = level
        self._lines = threading.local()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._lines, "rest", "") + text).split("\n")
        self._lines.rest = rest
        for line in filter(None, lines):
            self._log.write(self._level, line, jobId=_job_id())
        return len(text)


class LogHandler(logging.Handler):
    """`logging` records with their level."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write(record.levelname.lower(), f"{record.name}: {self.format(record)}", jobId=_job_id())


def _job_id() -> str | None:
    name = threading.current_thread().name
    return name if ids.is_well_formed(name) else None


def install(log: Log) -> None:
    """From now on `print` and `logging` of any thread end up in the log."""
    sys.stdout = ThreadOutput(log, "info")
    sys.stderr = ThreadOutput(log, "warning")
    logging.basicConfig(level=logging.INFO, handlers=[LogHandler(log)])
