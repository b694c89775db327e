"""Layers, configuration and manifest of an image, byte for byte the same from the same input.

https://github.com/opencontainers/image-spec/tree/v1.1.1: layer.md, config.md and manifest.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from asyncjobs.image.archive import Entry, add_file, add_folder
from asyncjobs.image.registry import OCI_MANIFEST, Blob, Manifest, digest_of

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
# Docker's names for the same formats.
_OCI_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.container.image.v1+json": CONFIG_TYPE,
}
# Of installed libraries 1 takes two fifths of the time of zlib's usual 6, for a twentieth more bytes.
_LEVEL = 1


@dataclass(frozen=True)
class Layer:
    """Args:
    blob: Compressed, as registries have it.
    diff_id: The digest of the tar archive itself.
    media_type: How it is compressed.
    """

    blob: Blob
    diff_id: str
    media_type: str = LAYER_TYPE


def write_layer(entries: Iterable[Entry], file: Path) -> Layer:
    """Write a layer: no times, no owners, and of the permissions only whether a file can be run.

    The digest is the same wherever zlib is: its rarer replacements (zlib-ng) compress otherwise. `diff_id` always is.

    Args:
        entries: Sorted by path.

    Raises:
        OSError: The file cannot be written.
    """
    with file.open("wb") as out:
        compressed = _Digesting(out)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=compressed, mtime=0) as packer:
            archive = _Digesting(packer)
            with tarfile.open(fileobj=archive, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                _add_all(entries, tar)
    return Layer(Blob(compressed.digest, compressed.size), archive.digest)


def _add_all(entries: Iterable[Entry], tar: tarfile.TarFile) -> None:
    folders: set[str] = set()
    for entry in entries:
        for parent in reversed(PurePosixPath(entry[0]).parents[:-1]):
            if str(parent) not in folders:
                folders.add(str(parent))
                add_folder(tar, str(parent))
        add_file(tar, entry)


class _Digesting(io.RawIOBase):
    """Passes on what is written, and knows its digest and size."""

    def __init__(self, out: IO[bytes] | gzip.GzipFile) -> None:
        self._out = out
        self._seen = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._out.write(data)
        self._seen.update(data)
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._seen.hexdigest()}"


def layers_of(manifest: Mapping[str, Any], config: Mapping[str, Any]) -> list[Layer]:
    """The layers of an image.

    Raises:
        ValueError: Manifest and configuration do not fit together.
    """
    pairs = zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    return [
        Layer(Blob(layer["digest"], layer["size"]), diff_id, _OCI_TYPES.get(layer["mediaType"], layer["mediaType"]))
        for layer, diff_id in pairs
    ]


def make_config(base: Mapping[str, Any], added: Sequence[tuple[Layer, str]], settings: Mapping[str, Any]) -> bytes:
    """The configuration of an image on top of another.

    Args:
        base: The base image's.
        added: Its further layers, and what each is.
        settings: What the container starts with ("User", "Env", ...), in place of the base image's; None for nothing.
    """
    # Without a time: https://reproducible-builds.org/docs/timestamps/; jib and ko give the same one.
    created = "1970-01-01T00:00:00Z"
    history = [{"created": created, "created_by": f"asyncjobs: {text}"} for _, text in added]
    merged = {**(base.get("config") or {}), **settings}
    document = {
        **base,
        "created": created,
        "config": {key: value for key, value in merged.items() if value is not None},
        "history": [*base.get("history", []), *history],
        "rootfs": {
            "type": "layers",
            "diff_ids": [*base["rootfs"]["diff_ids"], *(layer.diff_id for layer, _ in added)],
        },
    }
    # What Docker writes about the container that an image was committed from.
    for key in ("container", "container_config", "docker_version", "id", "parent"):
        document.pop(key, None)
    return _json(document)


def make_manifest(config: bytes, layers: Iterable[Layer]) -> Manifest:
    described = [_descriptor(layer.media_type, layer.blob) for layer in layers]
    content = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(CONFIG_TYPE, Blob(digest_of(config), len(config))),
            "layers": described,
        }
    )
    return Manifest(content, OCI_MANIFEST, digest_of(content))


def _descriptor(media_type: str, blob: Blob) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size}


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
