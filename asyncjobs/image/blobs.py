"""Blobs on this machine: what was downloaded or built, so that it is not downloaded or built again."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from asyncjobs.errors import DockerError

_KEPT_DAYS = 30


class BlobCache:
    """A folder that several processes may use at once: a file is there whole, or not.

    Args:
        folder: None for the platform's place for caches.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or platformdirs.user_cache_path("asyncjobs", appauthor=False) / "image"
        self._making: dict[str, threading.Lock] = {}

    def path(self, name: str) -> Path:
        return self.folder / name.replace(":", "-")

    def find(self, name: str, size: int | None = None) -> Path | None:
        """The file of that name; None when it is not there. Found, it stays for another month.

        Args:
            size: Bytes that it must have, where that is known. After a loss of power a name may be there without its
                content.
        """
        path = self.path(name)
        try:
            os.utime(path)
            there = path.stat().st_size
        except OSError:
            return None
        return path if there and size in (None, there) else None

    def read(self, name: str) -> bytes | None:
        path = self.find(name)
        return path.read_bytes() if path else None

    def get(self, name: str, make: Callable[[Path], object], size: int | None = None) -> Path:
        """The file of that name, made by `make` at the path it is given if it is not there.

        Of several threads that ask for the same, one makes it.

        Raises:
            DockerError: The disk is full, or the folder cannot be written to.
        """
        with self._making.setdefault(name, threading.Lock()):
            found = self.find(name, size)
            if found:
                return found
            with self.temporary() as folder:
                make(folder / "file")
                return self.keep(folder / "file", name)

    def keep(self, file: Path, name: str) -> Path:
        """Move a file of the temporary folder to its name."""
        return file.replace(self.path(name))

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A folder for the time being, on the cache's file system.

        Raises:
            DockerError: The disk is full, or the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="tmp-", ignore_cleanup_errors=True) as folder:
                yield Path(folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DockerError(
                    f"The disk that {self.folder} is on is full.",
                    why=str(error),
                    hint="That folder may be deleted at any time; what is needed of it is made again.",
                ) from error
            raise DockerError(f"{self.folder} cannot be used.", why=str(error)) from error

    def discard(self, folder: Path) -> None:
        """Delete a folder of the temporary one meanwhile: on a busy disk a thousand folders take seconds."""
        gone = folder.rename(self.folder / f"tmp-{uuid.uuid4().hex}")
        threading.Thread(target=shutil.rmtree, args=(gone, True)).start()

    def clear(self, now: float) -> None:
        """Delete what nothing has used for a month, and what killed runs have left.

        Args:
            now: Epoch seconds.
        """
        for path in self.folder.glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime > now - _KEPT_DAYS * 86400:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
