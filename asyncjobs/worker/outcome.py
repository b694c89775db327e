"""How an attempt ended."""

from __future__ import annotations

import json
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

RESULT_IN_MEMORY = 1024 * 1024  # bytes; a bigger one goes from process to process as a file
# NaN and Infinity are no JSON, whatever Python's default says.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(slots=True)
class Succeeded:
    """Exactly one of the three is set.

    Args:
        json_text: A JSON value as text.
        data: Bytes, of `content_type`.
        file: A file, of `content_type`.
        is_value: The file holds what would be `json_text`, were it not so big.
    """

    json_text: str | None = None
    data: bytes | None = None
    file: Path | None = None
    content_type: str = "application/json"
    is_value: bool = False


@dataclass(frozen=True)
class Failed:
    """Tried again while attempts are left, unless `final`.

    Args:
        error_type: An exception's name, "Timeout", "Crashed (SIGSEGV)", …
        detail: For the log only: a traceback.
    """

    error_type: str
    message: str
    detail: str = ""
    final: bool = False


@dataclass(frozen=True)
class Stopped:
    """Ended from outside: the worker is leaving, or the lease is lost."""


Outcome = Succeeded | Failed | Stopped


def rejected(message: str) -> Failed:
    return Failed("Rejected", message, final=True)


def from_value(value: Any) -> Outcome:
    """What a handler returned; a value that no JSON can hold is an error like an exception."""
    if isinstance(value, bytes | bytearray | memoryview):
        return Succeeded(data=bytes(value), content_type="application/octet-stream")
    if isinstance(value, Path):
        if not value.is_file():
            return Failed("InvalidResult", f"the handler returned the path {value}, and there is no such file")
        kind = mimetypes.guess_type(value.name)[0] or "application/octet-stream"
        return Succeeded(file=value.resolve(), content_type=kind)
    try:
        text = _encode(value)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the handler returned a {type(value).__name__} that is no JSON value: {error}"
        return Failed("InvalidResult", message)
    return Succeeded(json_text=text)


def spilled(outcome: Outcome, directory: Path) -> Outcome:
    """The same, a big result in a file of the folder: what it is handed to must not hold it in memory once more."""
    if not isinstance(outcome, Succeeded) or outcome.file is not None:
        return outcome
    # A character is one byte at least, and few results are near the limit.
    if len(outcome.json_text or outcome.data or b"") <= RESULT_IN_MEMORY:
        return outcome
    data = outcome.data if outcome.json_text is None else outcome.json_text.encode()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=directory, prefix=".result-", delete=False) as file:
            file.write(data or b"")
    except OSError as error:
        return Failed("ResultNotStorable", f"the result cannot be written to a file: {error.strerror}")
    return Succeeded(file=Path(file.name), content_type=outcome.content_type, is_value=outcome.json_text is not None)
