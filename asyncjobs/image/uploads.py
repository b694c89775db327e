"""Several blobs on their way into a repository at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from asyncjobs.image.layers import Layers
from asyncjobs.image.registry import Blob, Registry
from asyncjobs.progress import Event, Progress

# More of one client at a time ECR throttles.
AT_ONCE = 4


class Uploads:
    """Leaving it early drops what has not begun, and waits for what has.

    Args:
        step: Of the events about how far it is.
    """

    def __init__(self, registry: Registry, step: str, progress: Progress) -> None:
        self._registry = registry
        self._step = step
        self._progress = progress
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="upload")
        self._futures: list[Future[None]] = []
        self._layers = Layers("pushing")
        self._lock = threading.Lock()

    def __enter__(self) -> Uploads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, blob: Blob, fetch: Callable[[], Path], mount_from: str = "") -> None:
        """Start to bring a blob there; the arguments are those of `Registry.upload`."""
        self._say(blob, "Preparing")
        self._futures.append(self._pool.submit(self._upload, blob, fetch, mount_from))

    def finish(self) -> None:
        """Wait until all are there.

        Raises:
            DockerError: One of them is not, and what has not begun is not tried.
        """
        done, _ = wait(self._futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()

    def _upload(self, blob: Blob, fetch: Callable[[], Path], mount_from: str) -> None:
        sent = self._registry.upload(blob, fetch, mount_from, lambda size: self._say(blob, "Pushing", size))
        self._say(blob, "Pushed" if sent else "Layer already exists")

    def _say(self, blob: Blob, status: str, sent: int = 0) -> None:
        detail = {"current": sent, "total": blob.size}
        line: dict[str, Any] = {"id": blob.digest, "status": status, "progressDetail": detail}
        with self._lock:
            said = self._layers.take(line)
        self._progress.emit(Event(self._step, "info", said))
