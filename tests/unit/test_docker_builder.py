"""The builder against an engine that refuses: each reason is an error of its own, with exit code 8 and what to do."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, fake_engine

from asyncjobs.errors import ConfigError, DockerError, ExitCode, NoEngineError, TagTakenError, TokenExpiredError
from asyncjobs.image import dockerfile
from asyncjobs.image.choose import choose
from asyncjobs.image.docker_builder import DockerBuilder
from asyncjobs.image.engine import connect
from asyncjobs.image.recipe import BaseImage, Recipe, Repository
from asyncjobs.image.runtime import Runtime
from asyncjobs.progress import NullProgress, RecordingProgress

BASE = "public.ecr.aws/docker/library/python:3.12-slim"
DIGEST, IMAGE_ID = "sha256:" + "d" * 64, "sha256:" + "1" * 64
URI = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/asyncjobs-demo"
LOCAL = {
    "Id": IMAGE_ID,
    "RepoDigests": [f"{BASE.rpartition(':')[0]}@{DIGEST}"],
    "Architecture": "amd64",
}
FOUND = {"Descriptor": {"digest": DIGEST}, "Platforms": [{"architecture": "amd64", "os": "linux"}]}
BUILT = [
    {"stream": "Step 1/2 : FROM x\n"},
    {"stream": " ---> 111111111111\n"},
    {"stream": "Step 2/2 : RUN /pip/bin/pip install -r requirements.txt\n"},
    {"stream": "Collecting numpy\n"},
    {"aux": {"ID": IMAGE_ID}},
    {"stream": "Successfully built 111111111111\n"},
]
PUSHED = [
    {"status": f"The push refers to repository [{URI}]"},
    {"status": "Preparing", "progressDetail": {}, "id": "aaa"},
    {"status": "Preparing", "progressDetail": {}, "id": "bbb"},
    {"status": "Layer already exists", "progressDetail": {}, "id": "bbb"},
    {"status": "Pushing", "progressDetail": {"current": 4_000_000, "total": 9_000_000}, "id": "aaa"},
    {"status": "Pushed", "progressDetail": {}, "id": "aaa"},
    {"status": f"tag: digest: {DIGEST} size: 1234"},
    {"progressDetail": {}, "aux": {"Tag": "tag", "Digest": DIGEST, "Size": 1234}},
]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """One that has the base image, and can do all that is asked."""
    with fake_engine() as one:
        one.answers = {
            r"GET /distribution/.*/json": (200, FOUND),
            r"GET /images/json": (200, []),
            r"GET /images/.*/json": (200, LOCAL),
            r"POST /build": (200, BUILT),
            r"POST /images/.*/push": (200, PUSHED),
        }
        yield one


@pytest.fixture
def builder(engine: FakeEngine) -> Iterator[DockerBuilder]:
    client = connect({"DOCKER_HOST": engine.address})
    yield DockerBuilder(client, {"PIP_INDEX_URL": "https://ada:secret@example.com/simple", "HOME": "/"})
    client.close()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "handler.py").write_text("def handle(job): ...\n")
    runtime = Runtime("1.2.3", (("asyncjobs/__init__.py", b""),), ("boto3",))
    return Recipe(tmp_path, ("handler.py",), dockerfile.ours(), False, (BaseImage(BASE, DIGEST, "x86_64"),), runtime)


def publish(builder: DockerBuilder, recipe: Recipe, progress: Any = None) -> str:
    return builder.publish(recipe, Repository(URI, "AWS", "fresh"), recipe.tag, progress or NullProgress())


def check(error: DockerError, what: str, hint: str) -> None:
    assert error.exit_code == ExitCode.DOCKER
    assert what in error.what
    assert hint in error.hint


# What works.


def test_an_image_is_built_and_pushed_with_the_login_that_was_made_for_it(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe
):
    progress = RecordingProgress()
    assert publish(builder, recipe, progress) == DIGEST
    (build,), (push,) = engine.calls("POST", "/build"), engine.calls("POST", "/push")
    assert build.query["t"] == f"{URI}:{recipe.tag}"
    assert build.query["dockerfile"] == ".asyncjobs/Dockerfile"
    assert "BASE_IMAGE" not in build.query["buildargs"], "the Dockerfile's own default"
    assert push.path == f"/images/{URI}/push"
    assert push.query["tag"] == recipe.tag
    assert push.login == {"username": "AWS", "password": "fresh"}
    said = [event.text for event in progress.events]
    assert "building, step 2/2 : RUN /pip/bin/pip install -r requirements.txt" in said
    assert "pushing 1 of 2 layers, 4 of 9 MB, 1 were there" in said
    assert said[-1] == "pushing 2 of 2 layers, 9 of 9 MB, 1 were there"


def test_only_arguments_that_the_dockerfile_takes_are_given(engine: FakeEngine, builder: DockerBuilder, recipe: Recipe):
    publish(builder, replace(recipe, dockerfile="FROM x\nARG PIP_INDEX_URL\n", own_dockerfile=True))
    assert (
        '"PIP_INDEX_URL": "https://ada:secret@example.com/simple"'
        in engine.calls("POST", "/build")[0].query["buildargs"]
    )
    publish(builder, replace(recipe, dockerfile="FROM x\n", own_dockerfile=True))
    assert "secret" not in str(engine.calls("POST", "/build")[1].query)


def test_the_base_image_of_the_configuration_is_an_argument_even_where_the_last_stage_has_another(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe
):
    text = "ARG BASE_IMAGE=x\nFROM ${BASE_IMAGE} AS build\nFROM other\n"
    publish(builder, replace(recipe, dockerfile=text, own_dockerfile=True, base_image="mine:1"))
    assert '"BASE_IMAGE": "mine:1"' in engine.calls("POST", "/build")[0].query["buildargs"]


def test_a_base_image_that_is_not_there_as_the_recipe_has_it_is_pulled(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe
):
    engine.answers[r"GET /images/.*/json"] = lambda _: (200, LOCAL if engine.calls("POST", "/create") else OLDER)
    engine.answers[r"POST /images/create"] = (200, [{"status": "Pull complete", "progressDetail": {}, "id": "aaa"}])
    assert publish(builder, recipe) == DIGEST
    (pull,) = engine.calls("POST", "/images/create")
    assert (pull.query["fromImage"], pull.query["tag"], pull.query["platform"]) == (*BASE.rsplit(":", 1), "linux/amd64")


OLDER = {**LOCAL, "RepoDigests": ["public.ecr.aws/docker/library/python@sha256:" + "0" * 64]}


def test_older_images_of_the_repository_go_from_the_engine(engine: FakeEngine, builder: DockerBuilder, recipe: Recipe):
    engine.answers[r"GET /images/json"] = (200, [{"RepoTags": [f"{URI}:old", f"{URI}:{recipe.tag}"]}])
    engine.answers[r"DELETE /images/.*"] = (200, [])
    publish(builder, recipe)
    assert [one.path for one in engine.calls("DELETE")] == [f"/images/{URI}:old"]


def test_a_project_that_changes_meanwhile_is_not_pushed_under_another_ones_tag(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe
):
    tag = recipe.tag
    (recipe.project / "handler.py").write_text("changed")
    with pytest.raises(ConfigError, match="changed while"):
        builder.publish(recipe, Repository(URI, "AWS", "x"), tag, NullProgress())
    assert not engine.calls("POST")


# The base image.


def test_the_registry_says_what_a_base_image_is_now(engine: FakeEngine, builder: DockerBuilder):
    engine.answers[r"GET /images/.*/json"] = (200, OLDER)
    assert builder.base(BASE, "auto") == BaseImage(BASE, DIGEST, "x86_64")


@pytest.mark.parametrize("said", ["dial tcp: lookup public.ecr.aws: no such host", "toomanyrequests: Rate exceeded"])
def test_without_the_registry_the_engines_own_copy_counts(engine: FakeEngine, builder: DockerBuilder, said: str):
    engine.answers[r"GET /distribution/.*/json"] = (500, {"message": said})
    assert builder.base(BASE, "auto") == BaseImage(BASE, DIGEST, "x86_64")


def test_an_image_that_was_never_in_a_registry_is_looked_for_in_none(engine: FakeEngine, builder: DockerBuilder):
    engine.answers[r"GET /images/.*/json"] = (200, {"Id": IMAGE_ID, "RepoDigests": [], "Architecture": "amd64"})
    assert builder.base("mine:1", "auto") == BaseImage("mine:1", IMAGE_ID, "x86_64")
    assert not engine.calls("GET", "/distribution")


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        ("dial tcp: lookup public.ecr.aws: no such host", "cannot be reached", "Check the network"),
        ("toomanyrequests: Rate exceeded", "there were too many", "docker login public.ecr.aws"),
        ("manifest unknown: Requested image not found", "There is no base image", "Correct [worker] base_image"),
        ("pull access denied for x, repository does not exist", "There is no base image", "docker login"),
        ("denied: Your authorization token has expired.", "has expired", "docker logout public.ecr.aws"),
        ("unauthorized: authentication required", "does not let the engine pull", "docker login public.ecr.aws"),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk of the Docker engine is full", "docker system"),
        ("something else", "cannot be pulled", ""),
    ],
)
def test_why_a_base_image_is_not_to_be_had(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe, said: str, what: str, hint: str
):
    """While planning; and in the pull itself, where it is said in the middle of a stream."""
    engine.answers[r"GET /images/.*/json"] = (404, {"message": "No such image"})
    engine.answers[r"GET /distribution/.*/json"] = (500, {"message": said})
    with pytest.raises(DockerError) as caught:
        builder.base(BASE, "auto")
    check(caught.value, what, hint)
    engine.answers[r"POST /images/create"] = (200, [{"status": "Downloading", "id": "a"}, {"error": said}])
    with pytest.raises(DockerError) as caught:
        publish(builder, recipe)
    check(caught.value, what, hint)
    assert not engine.calls("POST", "/build")


def test_a_base_image_of_another_architecture_is_refused_before_anything_is_made(
    engine: FakeEngine, builder: DockerBuilder
):
    with pytest.raises(DockerError) as caught:
        builder.base(BASE, "arm64")
    check(caught.value, "is not there for arm64", "[worker] architecture")
    assert caught.value.why == "It is for x86_64."


def test_an_engine_that_cannot_run_the_other_architecture_says_so_before_anything_is_made(
    engine: FakeEngine, builder: DockerBuilder
):
    engine.answers[r"GET /distribution/.*/json"] = (200, {**FOUND, "Platforms": [{"architecture": "arm64"}]})
    engine.answers[r"GET /images/.*/json"] = (200, {**LOCAL, "Architecture": "arm64"})
    engine.answers[r"POST /containers/create"] = (201, {"Id": "c"})
    engine.answers[r"POST /containers/c/start"] = (400, {"message": "exec /bin/sh: exec format error"})
    engine.answers[r"DELETE /containers/c"] = (204, {})
    with pytest.raises(DockerError) as caught:
        builder.base(BASE, "arm64")
    check(caught.value, "cannot run programs for arm64", "binfmt")
    assert engine.calls("DELETE", "/containers/c")


def test_an_image_that_comes_out_for_another_architecture_is_not_pushed(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe
):
    engine.answers[r"GET /images/.*dkr.*/json"] = (200, {**LOCAL, "Architecture": "arm64"})
    engine.answers = dict(reversed(engine.answers.items()))
    with pytest.raises(DockerError, match="came out for arm64"):
        publish(builder, recipe)
    assert not engine.calls("POST", "/push")


# The build.


def test_a_step_that_fails_is_named_with_its_last_lines(engine: FakeEngine, builder: DockerBuilder, recipe: Recipe):
    failure = {"error": "The command '/bin/sh -c pip' returned a non-zero code: 1", "errorDetail": {"code": 1}}
    noise = [{"stream": f"line {number}\n"} for number in range(50)]
    index = {"stream": "Looking in \x1b[31mhttps://ada:secret@example.com/simple\n"}
    engine.answers[r"POST /build"] = (200, [*BUILT[:4], *noise, index, {"stream": "ERROR: not found\n"}, failure])
    with pytest.raises(DockerError) as caught:
        publish(builder, recipe)
    check(caught.value, "step 2/2 : RUN /pip/bin/pip install -r requirements.txt failed", "run it again")
    lines = [line.strip() for line in caught.value.why.splitlines()]
    assert lines[-3:] == ["Looking in [31m***", "ERROR: not found", failure["error"]]
    assert "line 49" in lines
    assert "line 0" not in lines
    assert not engine.calls("POST", "/push")


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        ("write /venv/x: no space left on device", "disk of the Docker engine is full", "docker system prune"),
        ("exec /bin/sh: exec format error", "cannot run programs for x86_64", "binfmt"),
    ],
)
def test_what_is_not_the_steps_own_fault(
    engine: FakeEngine, builder: DockerBuilder, recipe: Recipe, said: str, what: str, hint: str
):
    engine.answers[r"POST /build"] = (200, [*BUILT[:3], {"stream": said}, {"error": "returned a non-zero code: 1"}])
    with pytest.raises(DockerError) as caught:
        publish(builder, recipe)
    check(caught.value, what, hint)


# The push.


@pytest.mark.parametrize(
    ("said", "kind", "what", "hint"),
    [
        ("denied: Your authorization token has expired. Reauthenticate", TokenExpiredError, "expired", "clock"),
        (
            "tag invalid: The image tag 'x' already exists in the 'r' repository and cannot be overwritten because the "
            "repository is immutable.",
            TagTakenError,
            "another image under that tag",
            "Run it again",
        ),
        ("tag invalid: tag '16e0' is immutable", TagTakenError, "another image under that tag", "Run it again"),
        (
            "denied: User is not authorized to perform: ecr:PutImage",
            DockerError,
            "not allowed",
            "asyncjobs permissions",
        ),
        ("no basic auth credentials", DockerError, "not allowed", "asyncjobs permissions"),
        ("dial tcp 10.0.0.1:443: i/o timeout", DockerError, "cannot reach", "Check the network"),
        ("write: no space left on device", DockerError, "disk of the Docker engine is full", "docker system df"),
        ("received unexpected HTTP status: 500", DockerError, "cannot be pushed", "Run it again"),
    ],
)
def test_why_a_push_is_refused(
    engine: FakeEngine,
    builder: DockerBuilder,
    recipe: Recipe,
    said: str,
    kind: type[DockerError],
    what: str,
    hint: str,
):
    engine.answers[r"POST /images/.*/push"] = (200, [*PUSHED[:4], {"error": said}])
    with pytest.raises(DockerError) as caught:
        publish(builder, recipe)
    assert type(caught.value) is kind
    check(caught.value, what, hint)
    assert caught.value.why == said


# The engine itself.


def test_there_is_none(tmp_path: Path):
    with pytest.raises(NoEngineError) as caught:
        connect({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    check(caught.value, "There is no Docker engine.", "Install and start Docker")
    assert "podman.socket" in caught.value.hint


def test_it_does_not_run(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "docker.sock"))  # and nobody listens
        with pytest.raises(NoEngineError) as caught:
            connect({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    check(caught.value, "does not answer", "systemctl start docker")
    assert "Connection refused" in caught.value.why


def test_it_does_not_let_us_in(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "docker.sock"))
        server.listen()
        (tmp_path / "docker.sock").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root is let in everywhere
        try:
            with pytest.raises(NoEngineError) as caught:
                connect({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
        finally:
            os.seteuid(user)
    check(caught.value, "does not let this user in", "usermod -aG docker")


def test_certificates_that_are_not_there(tmp_path: Path):
    env = {"DOCKER_HOST": "tcp://127.0.0.1:9", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    with pytest.raises(NoEngineError, match="does not answer"):
        connect(env)


def test_one_that_goes_away(engine: FakeEngine, builder: DockerBuilder):
    engine.version = {"not": "a version"}
    with pytest.raises(DockerError):
        builder.base(BASE, "auto")


def test_podmans_socket_is_used_where_it_is_the_only_one(tmp_path: Path):
    (tmp_path / "podman").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "podman" / "podman.sock"))
        with pytest.raises(NoEngineError) as caught:
            connect({"XDG_RUNTIME_DIR": str(tmp_path)}, usual=f"unix://{tmp_path}/docker.sock")
    assert "podman.sock: Connection refused" in caught.value.why


@pytest.mark.parametrize("chosen", ["by use", "by name"])
def test_the_context_that_the_docker_command_uses_is_used(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
):
    meta = tmp_path / "contexts" / "meta" / hashlib.sha256(b"desktop").hexdigest()
    meta.mkdir(parents=True)
    endpoint = {"docker": {"Host": engine.address, "SkipTLSVerify": False}}
    (meta / "meta.json").write_text(json.dumps({"Name": "desktop", "Metadata": {}, "Endpoints": endpoint}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "desktop"} if chosen == "by use" else {}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    client = connect({} if chosen == "by use" else {"DOCKER_CONTEXT": "desktop"}, usual="unix:///nowhere")
    assert client.version()["Arch"] == "amd64"
    client.close()


# Which builder.


def test_an_own_dockerfile_takes_an_engine():
    with pytest.raises(ConfigError, match="Dockerfile of its own"):
        choose("python", own_dockerfile=True, progress=NullProgress())


def test_docker_is_taken_where_an_engine_answers(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    assert choose("auto", own_dockerfile=False, progress=NullProgress()).name == "docker"


@pytest.mark.parametrize(("wanted", "own"), [("docker", False), ("auto", True)])
def test_without_an_engine_it_is_an_error_where_it_takes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Any, own: bool
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(NoEngineError):
        choose(wanted, own_dockerfile=own, progress=NullProgress())
