"""The folder that a worker's temporary files are in."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "asyncjobs-worker-"


@contextmanager
def workspace(parent: Path | None = None) -> Iterator[Path]:
    """A folder of this worker's own, deleted after it; first, those of dead workers are.

    A worker that is killed deletes nothing. As long as it lives it holds a lock on its folder, which the kernel takes
    from it with its life.

    Args:
        parent: Where the folders are: the system's temporary folder unless given.
    """
    parent = parent or Path(tempfile.gettempdir())
    for folder in parent.glob(f"{PREFIX}*"):
        if (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    folder, lock = _make(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # None: a worker that starts just now was faster, took it for a dead one's, and deletes it.
        if (lock := _lock(folder)) is not None:
            return folder, lock


def _lock(folder: Path) -> int | None:
    """The lock on a folder of this user's; None where another has it, or the folder is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    with suppress(OSError):
        held = os.fstat(lock)
        if held.st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Deleted before it was locked, or between opening and locking it, it is nobody's.
            if folder.lstat().st_ino == held.st_ino:
                return lock
    os.close(lock)
    return None
