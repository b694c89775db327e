"""The job as a handler sees it."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAYLOAD_IN_MEMORY = 1024 * 1024  # bytes; a bigger one comes as a file
PAYLOAD_FILE = "payload"  # its name in the attempt's folder


class Reject(Exception):
    """Raised by a handler: the job can never succeed, so it fails at once and is not tried again."""


def _no_progress(fraction: float, message: str) -> None:
    pass


class Job:
    """One attempt of one job.

    A handler's tests make one by hand: `Job(b"some text", content_type="text/plain")`.

    Args:
        data: The payload, or the file that holds it.
        directory: A folder of this attempt's own, deleted after it. Without one, a temporary folder is made when it is
            asked for, and deleted with the job object.
        on_progress, is_cancelled, make_directory: How the runtime hears and speaks, and where a folder comes from.
    """

    def __init__(
        self,
        data: bytes | str | Path,
        *,
        id: str = "0000000000000-test",
        attempt: int = 1,
        max_attempts: int = 1,
        content_type: str = "application/octet-stream",
        directory: Path | None = None,
        make_directory: Callable[[], Path] | None = None,
        on_progress: Callable[[float, str], None] = _no_progress,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.id = id
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.content_type = content_type
        self._data = data.encode() if isinstance(data, str) else data
        self._directory = directory
        self._make_directory = make_directory
        self._on_progress = on_progress
        self._is_cancelled = is_cancelled

    @property
    def bytes(self) -> bytes:
        """The payload as it was submitted. One of hundreds of megabytes is better read from `path`, bit by bit."""
        if isinstance(self._data, Path):
            return self._data.read_bytes()
        return self._data

    @property
    def text(self) -> str:
        """The payload as UTF-8 text.

        Raises:
            Reject: It is none: no other attempt could read it either.
        """
        try:
            return self.bytes.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Reject(f"the payload is not UTF-8 text: {error}") from error

    def json(self) -> Any:
        """The payload as a JSON value.

        Raises:
            Reject: It is none.
        """
        try:
            return json.loads(self.bytes)
        except (ValueError, RecursionError) as error:
            raise Reject(f"the payload is not JSON: {error}") from error

    @property
    def path(self) -> Path:
        """The payload as a file."""
        if isinstance(self._data, Path):
            return self._data
        file = self.directory / PAYLOAD_FILE
        if not file.exists():
            file.write_bytes(self._data)
        return file

    @property
    def directory(self) -> Path:
        """A folder for temporary files and for a result that is a file; it is deleted after the attempt."""
        if self._directory is None and self._make_directory is not None:
            self._directory = self._make_directory()
        if self._directory is None:
            import tempfile

            folder = tempfile.TemporaryDirectory(prefix="asyncjobs-", ignore_cleanup_errors=True)
            # Left to itself, it would be cleaned up with a ResourceWarning.
            weakref.finalize(self, folder.cleanup)
            self._directory = Path(folder.name)
        return self._directory

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is: 0 to 1, and a word on what it is at. Cheap; call it as often as you like."""
        self._on_progress(min(1.0, max(0.0, float(fraction))), str(message))

    @property
    def cancelled(self) -> bool:
        """Whether the result is no longer wanted; a long-running handler looks now and then, and returns."""
        return self._is_cancelled()
