"""Log lines as JSON on standard output: one object a line, with the job's id where a job is at work."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import Any, TextIO

from asyncjobs.jobs.record import iso_time

# CloudWatch takes 256 KB an event; a longer line would be cut in the middle of its JSON.
LONGEST_MESSAGE = 200_000


class Log:
    """Writes whole lines, from any thread."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()

    def write(self, level: str, message: str, **fields: Any) -> None:
        line = {"time": iso_time(int(time.time() * 1000)), "level": level, "message": message[:LONGEST_MESSAGE]}
        text = json.dumps({**line, **{key: value for key, value in fields.items() if value is not None}}, default=str)
        with self._lock:
            print(text, file=self._stream, flush=True)

    def info(self, message: str, **fields: Any) -> None:
        self.write("info", message, **fields)

    def warning(self, message: str, **fields: Any) -> None:
        self.write("warning", message, **fields)

    def error(self, message: str, **fields: Any) -> None:
        self.write("error", message, **fields)


# A handler's process writes its `logging` records to standard error behind this character (an ASCII record
# separator), so that they keep their level and their line breaks; other lines there are plain text.
RECORD_MARK = "\x1e"


class RecordFormatter(logging.Formatter):
    """A `logging` record as one marked line."""

    def format(self, record: logging.LogRecord) -> str:
        message = f"{record.name}: {super().format(record)}"
        return RECORD_MARK + json.dumps({"level": record.levelname.lower(), "message": message})


def parse_record(line: str) -> tuple[str, str] | None:
    """Level and message of a marked line; None for any other line."""
    if not line.startswith(RECORD_MARK):
        return None
    try:
        record = json.loads(line[1:])
        return str(record["level"]), str(record["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
