"""The image that `up` builds with a Docker engine: what is in it, how it runs, and what is built again."""

from __future__ import annotations

import io
import json
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.types import Mount
from worker_containers import ENVIRONMENT, check_that_it_starts_hardened_and_ends_on_sigterm, output, start

from asyncjobs.config import Worker
from asyncjobs.errors import DockerError
from asyncjobs.image.docker_builder import DockerBuilder
from asyncjobs.image.prepare import prepare
from asyncjobs.image.recipe import BaseImage, Recipe, Repository
from asyncjobs.progress import RecordingProgress
from asyncjobs.scaffold import write_project

SECRET = "the-password-of-the-index"


class Built:
    """A project, and its image in a registry."""

    def __init__(self, engine: DockerClient, registry: str, base_image: str, project: Path) -> None:
        self.builder = DockerBuilder(engine, {"PIP_INDEX_URL": f"https://ada:{SECRET}@pypi.org/simple"})
        self.project = project
        self.worker = Worker(handler="handler:handle", base_image=base_image)
        self.repository = Repository(f"{registry}/asyncjobs-demo", "AWS", "token", insecure=True)
        self.progress = RecordingProgress()

    def recipe(self) -> Recipe:
        return prepare(self.project, self.worker, self.builder)

    def publish(self) -> str:
        recipe = self.recipe()
        return self.builder.publish(recipe, self.repository, recipe.tag, self.progress)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` writes, with what people have lying about in their projects."""
    directory = tmp_path_factory.mktemp("projects") / "demo"
    write_project(directory, stack="demo")
    (directory / "requirements.txt").write_text("# nothing but the worker's own\n")
    (directory / "handler.py").write_text("def handle(job):\n    return {'text': job.text}\n")
    (directory / ".env").write_text(f"PASSWORD={SECRET}\n")
    (directory / "tests").mkdir()
    (directory / "tests" / "test_handler.py").write_text("def test(): pass\n")
    return directory


@pytest.fixture(scope="module")
def built(engine: DockerClient, registry: str, base_image: str, project: Path) -> Iterator[Built]:
    one = Built(engine, registry, base_image, project)
    yield one
    one.builder.remove(one.repository.uri)
    assert not engine.images.list(name=one.repository.uri)


@pytest.fixture(scope="module")
def digest(built: Built) -> str:
    return built.publish()


@pytest.fixture(scope="module")
def image(built: Built, digest: str) -> str:
    return f"{built.repository.uri}:{built.recipe().tag}"


def in_registry(repository: Repository, reference: str) -> Any:
    host, _, name = repository.uri.partition("/")
    request = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{reference}")
    request.add_header("accept", "application/vnd.docker.distribution.manifest.v2+json")
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.headers["docker-content-digest"], json.load(response)


@pytest.fixture(scope="module")
def added(engine: DockerClient, built: Built, image: str, base_image: str) -> dict[str, tarfile.TarInfo]:
    """What the layers in the registry hold beyond those of the base image."""
    host, _, name = built.repository.uri.partition("/")
    layers = in_registry(built.repository, image.rpartition(":")[2])[1]["layers"]
    found = {}
    for layer in layers[len(engine.images.get(base_image).attrs["RootFS"]["Layers"]) :]:
        with urllib.request.urlopen(f"http://{host}/v2/{name}/blobs/{layer['digest']}", timeout=30) as response:
            data = io.BytesIO(response.read())
        with tarfile.open(fileobj=data) as archive:
            found.update({member.name: member for member in archive})
    return found


def test_the_registry_has_what_was_built_under_the_digest_that_is_deployed(built: Built, digest: str):
    tag = built.recipe().tag
    assert in_registry(built.repository, tag)[0] == digest
    said = [event.text for event in built.progress.events]
    assert any(text.startswith("building, step ") for text in said)
    assert any(text.startswith("pushing ") and " MB" in text for text in said)


def test_the_same_project_gives_the_same_tag_and_digest_again(built: Built, digest: str, project: Path):
    tag = built.recipe().tag
    (project / "handler.py").touch()
    assert built.recipe().tag == tag
    assert built.publish() == digest


def test_the_image_holds_the_worker_and_the_handler_and_nothing_to_build_or_test_with(
    added: dict[str, tarfile.TarInfo],
):
    names = set(added)
    assert {"app/handler.py", "venv/bin/python"} <= names
    packages = {name.split("/site-packages/")[1].split("/")[0] for name in names if "/site-packages/" in name}
    assert {"asyncjobs", "boto3", "httptools", "orjson", "psutil"} <= packages
    assert not packages & {"pip", "setuptools", "wheel", "typer", "rich", "docker", "pydantic", "pytest"}
    ours = {name for name in names if name.startswith("app/") or "/site-packages/asyncjobs/" in name}
    assert not [name for name in ours if "test" in name.rpartition("/")[2] or "/tests/" in name or ".env" in name]
    assert not [name for name in names if name.rpartition("/")[2] in ("gcc", "cc", "make", "ld", "pip", "pip3")]
    assert {name.split("/")[0] for name in names} == {"app", "venv"}


def test_no_file_of_it_can_be_changed_by_the_user_it_runs_as(added: dict[str, tarfile.TarInfo]):
    assert not [name for name, entry in added.items() if not entry.issym() and entry.mode & 0o022]
    assert {entry.uid for entry in added.values()} == {0}


def test_the_address_of_a_private_index_is_not_in_the_image(engine: DockerClient, image: str):
    found = engine.images.get(image)
    assert SECRET not in json.dumps(found.history())
    assert SECRET not in json.dumps(found.attrs)


def test_it_starts_read_only_without_capabilities_and_ends_on_sigterm(engine: DockerClient, image: str) -> None:
    check_that_it_starts_hardened_and_ends_on_sigterm(engine, image)


def test_without_a_place_for_temporary_files_it_says_so_and_ends_with_3(engine: DockerClient, image: str):
    """As on Fargate with an image that declares no volume there."""
    container = start(engine, image, mounts=[Mount("/tmp", None, no_copy=True)], **ENVIRONMENT)
    try:
        assert container.wait(timeout=60)["StatusCode"] == 3
        assert b"its Dockerfile needs `VOLUME /tmp`" in container.logs()
    finally:
        container.remove(v=True, force=True)


def test_a_change_of_the_code_alone_keeps_the_layer_of_the_requirements(built: Built, image: str, project: Path):
    _, before = in_registry(built.repository, image.rpartition(":")[2])
    (project / "more.py").write_text("MORE = 1\n")
    built.publish()
    _, after = in_registry(built.repository, built.recipe().tag)
    layers = [[layer["digest"] for layer in manifest["layers"]] for manifest in (before, after)]
    assert layers[0][:-1] == layers[1][:-1]
    assert layers[0][-1] != layers[1][-1]


def test_one_image_of_a_stack_stays_in_the_engine(engine: DockerClient, built: Built, project: Path):
    (project / "more.py").write_text("MORE = 2\n")
    built.publish()
    assert [image.tags for image in engine.images.list(name=built.repository.uri)] == [
        [f"{built.repository.uri}:{built.recipe().tag}"]
    ]


def test_a_step_that_fails_is_named_with_its_last_lines(engine: DockerClient, built: Built, tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("./there-is-no-such-package\n")
    failing = Built(engine, "127.0.0.1:9", str(built.worker.base_image), tmp_path)
    with pytest.raises(DockerError) as caught:
        failing.publish()
    assert "/pip/bin/pip" in caught.value.what
    assert "there-is-no-such-package" in caught.value.why
    assert SECRET not in caught.value.why + caught.value.what


def test_an_own_dockerfile_is_followed(engine: DockerClient, built: Built, tmp_path: Path):
    (tmp_path / "Dockerfile").write_text(
        'ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY . /app\nCMD ["python3", "/app/hello.py"]\n'
    )
    (tmp_path / "hello.py").write_text("print('hello')\n")
    own = Built(engine, built.repository.uri.split("/")[0], str(built.worker.base_image), tmp_path)
    assert own.recipe().own_dockerfile
    own.publish()
    assert output(engine, f"{own.repository.uri}:{own.recipe().tag}") == b"hello\n"


def test_a_base_image_of_another_architecture_is_refused(engine: DockerClient, built: Built):
    other = "x86_64" if built.recipe().architecture == "arm64" else "arm64"
    with pytest.raises(DockerError, match=f"is not there for {other}"):
        built.builder.base(str(built.worker.base_image), other)


def test_a_base_image_made_here_is_known_by_its_own_digest(engine: DockerClient, built: Built, base_image: str):
    found = built.builder.base(base_image, "auto")
    assert found == BaseImage(base_image, str(engine.images.get(base_image).id), found.architecture)
