"""The image as a step of `up`: pushed once for each content, deployed by digest; and images that were given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from images import PretendBuilder, built_image, put_image
from sessions import ACCOUNT, REGION

from asyncjobs.aws import Clients
from asyncjobs.errors import ConfigError, DockerError, ExitCode, TagTakenError, TokenExpiredError
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.context import Context
from asyncjobs.provision.engine import Engine, Report, StepsFailedError
from asyncjobs.provision.given_image import architecture_of
from asyncjobs.provision.image import BuiltImage
from asyncjobs.provision.plan import plan_down, plan_up, read_all
from asyncjobs.provision.resource import Inputs
from asyncjobs.provision.stack import stack_resources

NAMES = Names("demo", ACCOUNT, REGION)
URI = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{NAMES.repository}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "handler.py").write_text("def handle(job): ...\n")
    return tmp_path


@pytest.fixture
def builder() -> PretendBuilder:
    return PretendBuilder()


@pytest.fixture
def up(
    clients: Clients, make_context: Callable[..., Context], project: Path, builder: PretendBuilder
) -> Callable[[], Report]:
    def run() -> Report:
        stack = stack_resources(make_context(), built_image(clients, NAMES.repository, project, builder))
        return Engine(RecordingProgress()).up(plan_up(stack, read_all(stack)))

    return run


def deployed(clients: Clients) -> dict[str, Any]:
    found = clients.ecs.describe_task_definition(taskDefinition=NAMES.task_family)["taskDefinition"]
    return {
        "image": found["containerDefinitions"][0]["image"],
        "architecture": found["runtimePlatform"]["cpuArchitecture"],
    }


def pushed(clients: Clients) -> dict[str, str]:
    images = clients.ecr.describe_images(repositoryName=NAMES.repository)["imageDetails"]
    return {tag: image["imageDigest"] for image in images for tag in image["imageTags"]}


def test_the_digest_in_the_task_definition_is_the_one_that_was_pushed(
    up: Callable[[], Report], clients: Clients, builder: PretendBuilder
):
    report = up()
    ((tag, digest),) = pushed(clients).items()
    assert deployed(clients) == {"image": f"{URI}@{digest}", "architecture": "X86_64"}
    assert [one for one, _ in builder.pushes] == [tag]
    steps = {step.step: step for step in report.steps}
    assert steps["image"].waited_for == "repository"
    assert steps["table"].waited_for is None, "the image holds up nothing but what runs from it"


def test_an_unchanged_project_is_neither_built_nor_pushed(
    up: Callable[[], Report], clients: Clients, builder: PretendBuilder, project: Path
):
    up()
    (project / "handler.py").touch()
    assert up().changed == []
    assert len(builder.pushes) == 1


def test_a_changed_one_is_and_rolls_the_service_and_nothing_else(
    up: Callable[[], Report], clients: Clients, builder: PretendBuilder, project: Path
):
    up()
    (project / "handler.py").write_text("def handle(job): return 1\n")
    assert set(up().changed) == {"image", "task-definition", "service"}
    assert deployed(clients)["image"] == f"{URI}@{pushed(clients)[builder.pushes[-1][0]]}"
    (project / "handler.py").write_text("def handle(job): ...\n")
    assert set(up().changed) == {"task-definition", "service"}
    assert len(builder.pushes) == 2, "what it was before is there still"


def test_the_plan_says_what_will_be_done(
    up: Callable[[], Report], make_context: Callable[..., Context], clients: Clients, project: Path
):
    def planned() -> tuple[str, str, str]:
        resources = stack_resources(make_context(), built_image(clients, NAMES.repository, project, PretendBuilder()))
        made = plan_up(resources, read_all(resources))
        (step,) = (one for one in made.steps if one.resource.step == "image")
        return step.action, step.resource.title, step.reason

    title = "image of the workers, to be built and pushed with docker"
    assert planned() == ("create", title, "not there yet")
    up()
    assert planned()[0] == "keep"
    (project / "handler.py").write_text("changed")
    assert planned() == ("update", title, "content")
    assert not [one for one in pushed(clients) if len(pushed(clients)) > 1]


def test_it_says_that_an_unchanged_image_is_left(up: Callable[[], Report], clients: Clients, project: Path):
    up()
    progress = RecordingProgress()
    built_image(clients, NAMES.repository, project, PretendBuilder(), progress).read()
    (event,) = progress.events
    assert event.text.endswith("neither built nor pushed")


def test_each_push_has_a_token_of_its_own_and_an_expired_one_is_replaced_once(
    up: Callable[[], Report], builder: PretendBuilder
):
    builder.refusals = [TokenExpiredError("expired")]
    up()
    assert len(builder.pushes) == 2
    _, login = builder.pushes[1]
    assert (login.uri, login.username, login.insecure) == (URI, "AWS", False)
    assert login.password


def test_one_that_expires_again_ends_with_the_code_of_docker(up: Callable[[], Report], builder: PretendBuilder):
    builder.refusals = [TokenExpiredError("expired"), TokenExpiredError("expired again")]
    with pytest.raises(StepsFailedError) as caught:
        up()
    assert caught.value.exit_code == ExitCode.DOCKER
    assert caught.value.what == "expired again"
    assert {"task-definition", "service"} <= set(caught.value.skipped)


def test_a_tag_that_another_up_has_pushed_meanwhile_is_taken_as_it_is(
    clients: Clients, project: Path, builder: PretendBuilder
):
    clients.ecr.create_repository(repositoryName=NAMES.repository, imageTagMutability="IMMUTABLE")
    image = built_image(clients, NAMES.repository, project, builder)
    assert image.read() is None
    tag = str(image.desired(Inputs({}))["content"])
    theirs = put_image(NAMES.repository, tag, {"config": {}, "layers": []})
    builder.refusals = [TagTakenError("taken")]
    state = image.create(Inputs({"repository": {"uri": URI}}))
    assert state.outputs["uri"] == f"{URI}@{theirs}"
    assert pushed(clients) == {tag: theirs}


def test_a_tag_that_is_refused_and_not_there_is_an_error(clients: Clients, project: Path, builder: PretendBuilder):
    clients.ecr.create_repository(repositoryName=NAMES.repository)
    builder.refusals = [TagTakenError("taken")]
    with pytest.raises(TagTakenError):
        built_image(clients, NAMES.repository, project, builder).create(Inputs({"repository": {"uri": URI}}))


def test_a_base_image_that_is_not_to_be_had_ends_it_before_anything_is_made(
    make_context: Callable[..., Context], clients: Clients
):
    def no_recipe() -> Any:
        raise DockerError("There is no base image.")

    image = BuiltImage(clients.ecr, NAMES.repository, PretendBuilder(), no_recipe, RecordingProgress())
    stack = stack_resources(make_context(), image)
    with pytest.raises(DockerError):
        plan_up(stack, read_all(stack))
    assert not clients.dynamodb.list_tables()["TableNames"]


def test_down_takes_the_images_with_their_repository(
    up: Callable[[], Report], make_stack: Callable[..., Any], clients: Clients
):
    up()
    resources = make_stack(image="")
    Engine(RecordingProgress()).down(plan_down(resources, read_all(resources)))
    assert clients.ecr.describe_repositories()["repositories"] == []


def test_a_registry_on_this_machine_is_spoken_to_in_plain_http(project: Path, clients: Clients):
    for uri, insecure in {"127.0.0.1:4566/x": True, "localhost/x": True, "registry.example.com:443/x": False}.items():
        builder = PretendBuilder(refusals=[DockerError("enough")])
        with pytest.raises(DockerError):
            built_image(clients, "x", project, builder).create(Inputs({"repository": {"uri": uri}}))
        assert builder.pushes[0][1].insecure is insecure


# Images that somebody else built.

OTHER = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/theirs"


def platforms(*names: str) -> dict[str, Any]:
    found = [{"platform": {"architecture": name, "os": "linux"}} for name in (*names, "unknown")]
    return {"manifests": found}


@pytest.mark.parametrize(
    ("has", "wanted", "found"),
    [
        (("amd64",), "auto", "x86_64"),
        (("arm64",), "auto", "arm64"),
        (("arm64", "amd64"), "auto", "x86_64"),
        (("arm64", "amd64"), "arm64", "arm64"),
    ],
)
def test_the_architecture_follows_an_index(clients: Clients, has: tuple[str, ...], wanted: Any, found: str):
    clients.ecr.create_repository(repositoryName="theirs")
    digest = put_image("theirs", "1", platforms(*has))
    assert architecture_of(f"{OTHER}:1", wanted, clients.ecr) == found
    assert architecture_of(f"{OTHER}:1@{digest}", wanted, clients.ecr) == found


def test_an_image_of_another_architecture_is_refused_before_anything_is_deployed(clients: Clients):
    clients.ecr.create_repository(repositoryName="theirs")
    put_image("theirs", "latest", platforms("arm64"))
    with pytest.raises(ConfigError, match=r"is for arm64, and \[worker\] architecture is 'x86_64'"):
        architecture_of(OTHER, "x86_64", clients.ecr)


def test_an_image_that_is_not_there_is_refused_too(clients: Clients):
    with pytest.raises(ConfigError, match="There is no image"):
        architecture_of(f"{OTHER}:1", "auto", clients.ecr)
    clients.ecr.create_repository(repositoryName="theirs")
    with pytest.raises(ConfigError, match="There is no image"):
        architecture_of(f"{OTHER}:1", "auto", clients.ecr)


def test_a_single_manifest_is_described_by_its_config(clients: Clients, tmp_path: Path):
    (tmp_path / "config").write_text('{"architecture": "arm64", "os": "linux"}')
    clients.ecr.create_repository(repositoryName="theirs")
    put_image("theirs", "1", {"config": {"digest": "sha256:" + "c" * 64}, "layers": []})
    events = clients.ecr.meta.events

    def download(**_: Any) -> Any:
        return type("Answer", (), {"status_code": 200}), {"downloadUrl": (tmp_path / "config").as_uri()}

    events.register("before-call.ecr.GetDownloadUrlForLayer", download)
    assert architecture_of(f"{OTHER}:1", "auto", clients.ecr) == "arm64"
    (tmp_path / "config").unlink()
    assert architecture_of(f"{OTHER}:1", "auto", clients.ecr) == "x86_64"


@pytest.mark.parametrize("uri", ["docker.io/me/mine:1", f"{ACCOUNT}.dkr.ecr.us-east-2.amazonaws.com/theirs:1"])
def test_of_any_other_image_the_configuration_decides(clients: Clients, uri: str):
    assert architecture_of(uri, "auto", clients.ecr) == "x86_64"
    assert architecture_of(uri, "arm64", clients.ecr) == "arm64"
