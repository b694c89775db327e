"""Members of tar archives that are the same bytes for the same files: no times, no owners."""

from __future__ import annotations

import io
import os
import tarfile

# A path without a leading "/", then as `recipe.content` says: "link" and its target, else "x" or "-" and the bytes.
Entry = tuple[str, str, bytes]


def add_folder(archive: tarfile.TarFile, path: str) -> None:
    archive.addfile(_header(path, tarfile.DIRTYPE, 0o755))


def add_file(archive: tarfile.TarFile, entry: Entry) -> None:
    path, mode, data = entry
    if mode == "link":
        link = _header(path, tarfile.SYMTYPE, 0o777)
        link.linkname = os.fsdecode(data)
        archive.addfile(link)
        return
    header = _header(path, tarfile.REGTYPE, 0o755 if mode == "x" else 0o644)
    header.size = len(data)
    archive.addfile(header, io.BytesIO(data))


def _header(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path)
    header.type, header.mode, header.mtime = kind, mode, 0
    return header
