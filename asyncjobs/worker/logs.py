"""Log lines as JSON on standard output: one object a line, with the job's id where a job is at work."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

import orjson

from asyncjobs.jobs.record import iso_time

# CloudWatch takes 256 KB an event; a longer line would be cut in the middle of its JSON.
LONGEST_MESSAGE = 200_000


def _encode(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE).decode()
    except TypeError:  # a lone surrogate, or a number beyond 64 bits
        return json.dumps(line, default=str) + "\n"


class Log:
    """Writes whole lines, from any thread, in the order in which they were written.

    In the thread of a loop it is told of, lines are written at the end of the loop's turn, many in one call; an error
    of that is raised by the next line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._pending: deque[str] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._error: Exception | None = None

    def write_in_turns_of(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Called in the loop's thread; None: write each line at once again."""
        self.flush()
        self._loop, self._thread = loop, threading.get_ident()

    def write(self, level: str, message: str, **fields: Any) -> None:
        line = {"time": iso_time(int(time.time() * 1000)), "level": level, "message": message[:LONGEST_MESSAGE]}
        if None in fields.values():
            fields = {key: value for key, value in fields.items() if value is not None}
        text = _encode({**line, **fields})
        if self._loop is not None and self._thread == threading.get_ident():
            if self._error is not None:
                raise self._error
            if not self._pending:
                self._loop.call_soon(self._flush_turn)
            self._pending.append(text)
        else:
            # What the loop said before, such as that this job has started, comes first.
            self.flush(text)

    def flush(self, last: str = "") -> None:
        """Write what is pending, and `last` after it."""
        with self._lock:
            # The loop may append meanwhile: each step is atomic, and what is not seen here is written by its turn.
            text = "".join([self._pending.popleft() for _ in range(len(self._pending))]) + last
            self._stream.write(text)
            self._stream.flush()

    def _flush_turn(self) -> None:
        try:
            self.flush()
        except Exception as error:
            self._error = error

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
