"""A base image, projects and wheels to build images from, small enough to be made for each test."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fake_registry import FakeRegistry, digest_of

from asyncjobs.image.dockerignore import project_files
from asyncjobs.image.recipe import BaseImage, Recipe
from asyncjobs.image.registry import DOCKER_INDEX, DOCKER_MANIFEST
from asyncjobs.image.runtime import Runtime

LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
GLIBC = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n\0"
DEBIAN: Mapping[str, str | bytes] = {
    "usr/bin/python3": "python3.9",  # a str is a link
    "usr/bin/python3.9": b"",
    "lib/x86_64-linux-gnu/libc.so.6": GLIBC,
}
OFFICIAL: Mapping[str, str | bytes] = {
    "usr/local/bin/python3.12": b"",
    "usr/local/bin/python3": "python3.12",
    "usr/local/bin/python": "python3",
}
ALPINE: Mapping[str, str | bytes] = {**OFFICIAL, "lib/ld-musl-x86_64.so.1": b""}
RUNTIME = Runtime("0.1.0", (("asyncjobs/__init__.py", b"x = 1\n"),), ("tones>=1",))
PATH = "PATH=/usr/local/bin:/usr/bin"


def archive(files: Mapping[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def add_image(
    fake: FakeRegistry,
    *layers: Mapping[str, str | bytes],
    name: str = "python",
    tag: str = "3",
    architectures: Sequence[str] = ("amd64", "arm64"),
    index: bool = True,
) -> str:
    """An image of one or several architectures; what the tag stands for."""
    entries = []
    for architecture in architectures:
        tars = [archive(layer) for layer in layers]
        config = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": [PATH, "LANG=C.UTF-8"], "Entrypoint": ["sh"], "User": "root", "Labels": {"from": "base"}},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
            "history": [{"created_by": "base"}] * len(tars),
        }
        described = [{"mediaType": LAYER, **blob(fake, name, gzip.compress(tar, mtime=0))} for tar in tars]
        document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": described}
        document["config"] = {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            **json_blob(fake, name, config),
        }
        digest = fake.add_manifest(name, tag, document, DOCKER_MANIFEST)
        entries.append({"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": architecture}})
    if not index:
        return digest
    unknown = {"digest": digest_of(b"attestation"), "platform": {"os": "unknown", "architecture": "unknown"}}
    document = {"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": [*entries, unknown]}
    return fake.add_manifest(name, tag, document, DOCKER_INDEX)


def blob(fake: FakeRegistry, name: str, content: bytes) -> dict[str, Any]:
    return {"digest": fake.add_blob(name, content), "size": len(content)}


def json_blob(fake: FakeRegistry, name: str, document: object) -> dict[str, Any]:
    return blob(fake, name, json.dumps(document).encode())


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
) -> Path:
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    members = {
        **(files or {f"{name}/__init__.py": f"version = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts:
        lines = "".join(f"{command} = {target}\n" for command, target in scripts.items())
        members[f"{info}/entry_points.txt"] = f"[console_scripts]\n{lines}"
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in (*members, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as out:
        for member, text in members.items():
            out.writestr(zipfile.ZipInfo(member), text)
    return path


def make_project(folder: Path, **files: str) -> Path:
    """A project; `requirements` is its requirements.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"handler.py": "def handle(job): ...\n", "requirements.txt": files.pop("requirements", "")}
    for name, text in {**texts, **files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def recipe(project: Path, base: BaseImage, runtime: Runtime = RUNTIME) -> Recipe:
    return Recipe(project, tuple(project_files(project)), "FROM x", False, (base,), runtime)


def layers(fake: FakeRegistry, tag: str, name: str = "demo") -> list[dict[str, tarfile.TarInfo]]:
    """The entries of each layer of an image, by path."""
    manifest = json.loads(fake.manifests[name][tag][0])
    found = []
    for layer in manifest["layers"]:
        with tarfile.open(fileobj=io.BytesIO(fake.blobs[name][layer["digest"]])) as tar:
            found.append({entry.name: entry for entry in tar})
    return found


def read(fake: FakeRegistry, tag: str, path: str, name: str = "demo") -> bytes:
    """A file of an image: the last layer that has it."""
    manifest = json.loads(fake.manifests[name][tag][0])
    for layer in reversed(manifest["layers"]):
        with tarfile.open(fileobj=io.BytesIO(fake.blobs[name][layer["digest"]])) as tar:
            if path in tar.getnames():
                stream = tar.extractfile(path)
                assert stream is not None
                return stream.read()
    raise KeyError(path)


def config(fake: FakeRegistry, tag: str, name: str = "demo") -> dict[str, Any]:
    manifest = json.loads(fake.manifests[name][tag][0])
    found: dict[str, Any] = json.loads(fake.blobs[name][manifest["config"]["digest"]])
    return found
