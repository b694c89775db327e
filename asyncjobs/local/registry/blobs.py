"""Layers and image configurations as files: `<repository>/<digest>`, complete or not there at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
# https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html
REPOSITORY = re.compile(r"(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")


class DigestMismatchError(Exception):
    """What was uploaded is not what its digest says."""


@dataclass
class _Upload:
    file: Path
    repository: str
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class BlobStore:
    """The blobs of all repositories, in one directory.

    Uploads that an engine's end cut off are begun again by their clients, as they are when ECR forgets one.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._uploading = root / ".uploads"
        self._uploads: dict[str, _Upload] = {}
        shutil.rmtree(self._uploading, ignore_errors=True)

    def find(self, repository: str, digest: str) -> Path | None:
        """The blob's file; None when the repository has no such blob."""
        if not REPOSITORY.match(repository) or not DIGEST.match(digest):
            return None
        file = self._file(repository, digest)
        return file if file.is_file() else None

    def mount(self, digest: str, source: str, repository: str) -> bool:
        """Share a blob of another repository; False when that has none."""
        file = self.find(source, digest)
        if file is None:
            return False
        target = self._file(repository, digest)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not target.exists():
            os.link(file, target)
        return True

    def begin(self, repository: str) -> str:
        """Start an upload; its id."""
        name = str(uuid.uuid4())
        self._uploading.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._uploading / name
        file.touch()
        self._uploads[name] = _Upload(file, repository)
        return name

    def received(self, repository: str, name: str) -> int | None:
        """How many bytes an upload has; None when there is no such upload."""
        upload = self._uploads.get(name)
        return upload.size if upload is not None and upload.repository == repository else None

    def append(self, name: str, chunk: bytes) -> None:
        upload = self._uploads[name]
        with upload.file.open("ab") as stream:  # not kept open: many uploads are never ended
            stream.write(chunk)
        upload.digest.update(chunk)
        upload.size += len(chunk)

    def finish(self, name: str, digest: str) -> None:
        """Make the upload a blob.

        Raises:
            DigestMismatchError: Its content has another digest; the upload is gone.
        """
        upload = self._uploads.pop(name)
        if f"sha256:{upload.digest.hexdigest()}" != digest:
            upload.file.unlink()
            raise DigestMismatchError(digest)
        target = self._file(upload.repository, digest)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        upload.file.replace(target)

    def cancel(self, name: str) -> None:
        self._uploads.pop(name).file.unlink()

    def delete(self, repository: str) -> None:
        """Delete all blobs of a repository."""
        if REPOSITORY.match(repository):
            shutil.rmtree(self._directory(repository), ignore_errors=True)

    def _file(self, repository: str, digest: str) -> Path:
        return self._directory(repository) / digest

    def _directory(self, repository: str) -> Path:
        # No slash, so that a repository is never a directory inside another's.
        return self._root / repository.replace("/", "%2F")
