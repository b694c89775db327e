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
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
_ADVICE = (
    "On Fargate the volume at /tmp is root's alone unless the image declares it: its Dockerfile needs `VOLUME /tmp`, "
    "and a /tmp that everybody may write to (mode 1777)."
)


class NoWorkspaceError(Exception):
    """Temporary files can be written nowhere."""


@contextmanager
def workspace(parent: Path | None = None) -> Iterator[Path]:
    """A folder of this worker's own, deleted after it; first, those of dead workers are.

    A worker that is killed deletes nothing. As long as it lives it holds a lock on its folder, which the kernel takes
    from it with its life.

    Args:
        parent: Where the folders are: the system's temporary folder unless given.

    Raises:
        NoWorkspaceError: No folder can be made there.
    """
    parent = parent or _temporary_directory()
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


def _temporary_directory() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise NoWorkspaceError(f"{error.strerror}. {_ADVICE}") from None


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError as error:
            raise NoWorkspaceError(f"no temporary file can be made in {parent}: {error.strerror}. {_ADVICE}") from None
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
