"""Log lines as JSON on standard output: one object a line, with the job's id where a job is at work."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, TextIO

import orjson

from asyncjobs.jobs.record import iso_time

# CloudWatch takes 256 KB an event, and a longer line would be cut in the middle of its JSON.
LONGEST_LINE = 250_000  # bytes
_KEPT = 20_000  # characters of each text of such a line; one takes six bytes at most, and two texts may be long


def _encode(line: dict[str, Any]) -> str:
    try:
        data = orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a lone surrogate, or a number beyond 64 bits
        # As a surrogate is escaped here, so it is in JSON.
        text = json.dumps(line, default=str, ensure_ascii=False) + "\n"
        data = text.encode("utf-8", "backslashreplace")
    if len(data) > LONGEST_LINE and (cut := {key: _cut(value) for key, value in line.items()}) != line:
        return _encode(cut)
    return data.decode()


def _cut(value: Any) -> Any:
    return value[:_KEPT] if isinstance(value, str) else value


class Log:
    """Writes whole lines, from any thread, in the order in which they were written.

    In the thread of a loop it is told of, lines are written at the end of the loop's turn, many in one call; an error
    of writing is raised by the loop's next line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        # Taken again by its own thread where a finalizer prints while a line is written.
        self._lock = threading.RLock()
        self._writing = self._again = False
        self._pending: deque[str] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._turn = False  # the loop will flush
        self._error: Exception | None = None

    def write_in_turns_of(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Called in the loop's thread; None: write each line at once again."""
        self.flush()
        self._loop, self._thread = loop, threading.get_ident()

    def write(self, level: str, message: str, **fields: Any) -> None:
        line = {"time": iso_time(int(time.time() * 1000)), "level": level, "message": message}
        if None in fields.values():
            fields = {key: value for key, value in fields.items() if value is not None}
        text = _encode({**line, **fields})
        loop = self._loop if self._thread == threading.get_ident() else None
        if loop is not None and self._error is not None:
            raise self._error
        self._pending.append(text)
        if loop is None:
            # After what the loop said before, such as that this job has started.
            self.flush()
        elif not self._turn:
            self._turn = True
            loop.call_soon(self._flush_turn)

    def flush(self) -> None:
        """Write what is pending."""
        with self._lock:
            if self._writing:
                self._again = True
                return
            self._writing = self._again = True
            try:
                while self._again:
                    self._again = False
                    # No more than is there now: the loop may go on appending.
                    text = "".join([self._pending.popleft() for _ in range(len(self._pending))])
                    self._stream.write(text)
                    self._stream.flush()
            except Exception as error:
                self._error = error
                raise
            finally:
                self._writing = False

    def _flush_turn(self) -> None:
        self._turn = False
        with suppress(Exception):  # kept for the next line
            self.flush()

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
