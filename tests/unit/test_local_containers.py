"""The runner of containers, on a Docker engine that does what a test says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound, NotFound

from asyncjobs.errors import NoEngineError
from asyncjobs.local.access import Endpoint
from asyncjobs.local.container_options import create_arguments
from asyncjobs.local.containers import OUT_OF_MEMORY, ContainerRunner, ContainersUnavailableError, remove_leftovers
from asyncjobs.local.tasks import ContainerExit, ContainerSpec, RunningContainer, StartError

REGISTRY = ("127.0.0.1:4566", "AWS", "secret")
DIGEST = "sha256:" + "1" * 64
OURS = f"127.0.0.1:4566/asyncjobs-demo@{DIGEST}"


def refused(message: str) -> APIError:
    return APIError("500 Server Error", explanation=message)


class FakeContainer:
    def __init__(self, docker: FakeDocker, arguments: dict[str, Any]) -> None:
        self.id = "c0ffee" * 10
        self.docker = docker
        self.arguments = arguments
        self.attrs: dict[str, Any] = {"Config": docker.config, "State": {"Running": True, "ExitCode": 0}}
        self.signals: list[str] = []
        self.waits = iter(docker.waits)
        self.ended = threading.Event()
        self.removed = False

    def attach(self, **_: Any) -> Iterator[bytes]:
        self.docker.steps.append("attach")
        return iter(self.docker.output)

    def start(self) -> None:
        self.docker.steps.append("start")
        if self.docker.start_error:
            raise self.docker.start_error

    def wait(self, **_: Any) -> None:
        for error in self.waits:
            raise error
        self.ended.wait(5)

    def end(self, **state: Any) -> None:
        self.attrs["State"] = {"Running": False, "ExitCode": 0, **state}
        self.ended.set()

    def reload(self) -> None:
        if self.removed:
            raise NotFound("gone")

    def kill(self, signal: str) -> None:
        self.signals.append(signal)
        if signal == "SIGKILL":
            self.end(ExitCode=137)

    def remove(self, **options: Any) -> None:
        assert options == {"v": True, "force": True}
        self.removed = True


class FakeDocker:
    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.output: list[bytes] = []
        self.waits: list[Exception] = []
        self.steps: list[str] = []
        self.start_error: Exception | None = None
        self.here: set[str] = set()
        self.pulled: list[tuple[str, str, Any]] = []
        self.pull_lines: list[dict[str, str]] = []
        self.pull_error: Exception | None = None
        self.made: list[FakeContainer] = []
        self.containers = SimpleNamespace(create=self.create)
        self.images = SimpleNamespace(get=self.get_image)
        self.networks = SimpleNamespace(list=lambda **_: [], create=self.create_network)
        self.api = SimpleNamespace(pull=self.pull)
        self.closed = False
        self.gateway = "172.30.0.1"
        self.volumes: dict[str, Any] | None = {}

    def create(self, image: str, **arguments: Any) -> FakeContainer:
        self.made.append(FakeContainer(self, {"image": image, **arguments}))
        return self.made[-1]

    def create_network(self, name: str, **_: Any) -> Any:
        return SimpleNamespace(name=name, reload=lambda: None, attrs={"IPAM": {"Config": [{"Gateway": self.gateway}]}})

    def get_image(self, name: str) -> Any:
        if name not in self.here:
            raise ImageNotFound(name)
        return SimpleNamespace(attrs={"Config": {"Volumes": self.volumes}})

    def pull(self, repository: str, tag: str, *, auth_config: Any, **_: Any) -> list[dict[str, str]]:
        self.pulled.append((repository, tag, auth_config))
        if self.pull_error:
            raise self.pull_error
        self.here.add(f"{repository}{'@' if ':' in tag else ':'}{tag}")
        return self.pull_lines

    def close(self) -> None:
        self.closed = True


class Register:
    def __init__(self) -> None:
        self.told: list[bool] = []

    def containers(self, *, used: bool) -> None:
        self.told.append(used)


def listen(address: str) -> Endpoint:
    return Endpoint(f"http://{address}:4566", "key")


def runner(docker: FakeDocker, register: Register | None = None) -> ContainerRunner:
    return ContainerRunner("e1", lambda: docker, listen, REGISTRY, register or Register())  # type: ignore[arg-type,return-value]


def spec(image: str = OURS, **definition: Any) -> ContainerSpec:
    return ContainerSpec(
        task_arn="arn:aws:ecs:us-east-1:000000000000:task/asyncjobs-demo/0123456789abcdef",
        definition={"name": "worker", "image": image, **definition},
        task_definition={"family": "asyncjobs-demo", "revision": 7, "cpu": "512", "memory": "1024"},
        environment={"A": "1"},
        log=LINES.extend,
    )


LINES: list[str] = []


@pytest.fixture(autouse=True)
def no_lines() -> None:
    LINES.clear()


def start(docker: FakeDocker, **definition: Any) -> tuple[RunningContainer, FakeContainer]:
    docker.here.add(OURS)
    return runner(docker).start(spec(**definition)), docker.made[0]


def test_a_definition_becomes_what_docker_takes() -> None:
    made = create_arguments(
        spec(
            entryPoint=["/init"],
            command=["python", "-m", "asyncjobs.worker"],
            user="10001:10001",
            readonlyRootFilesystem=True,
            workingDirectory="/app",
            linuxParameters={
                "capabilities": {"drop": ["ALL"]},
                "initProcessEnabled": True,
                "tmpfs": [{"containerPath": "/run", "size": 16, "mountOptions": ["noexec"]}],
            },
            mountPoints=[{"sourceVolume": "tmp", "containerPath": "/tmp", "readOnly": False}],
            ulimits=[{"name": "nofile", "softLimit": 1024, "hardLimit": 4096}],
            healthCheck={"command": ["CMD", "true"], "startPeriod": 300},
        ),
        "e1",
        {"/tmp"},
    )
    assert made["entrypoint"] == ["/init"]
    assert made["command"] == ["python", "-m", "asyncjobs.worker"]
    assert (made["user"], made["read_only"], made["working_dir"]) == ("10001:10001", True, "/app")
    assert (made["cap_drop"], made["cap_add"], made["init"]) == (["ALL"], [], True)
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert made["tmpfs"] == {"/run": "size=16m,noexec"}
    assert (made["mem_limit"], made["memswap_limit"], made["nano_cpus"]) == (2**30, 2**30, 500_000_000)
    assert [(each["Target"], each["Type"], each["ReadOnly"]) for each in made["mounts"]] == [("/tmp", "volume", False)]
    assert [(each.name, each.soft, each.hard) for each in made["ulimits"]] == [("nofile", 1024, 4096)]
    second = 1_000_000_000
    assert made["healthcheck"] == {
        "test": ["CMD", "true"],
        "interval": 30 * second,
        "timeout": 5 * second,
        "retries": 3,
        "start_period": 300 * second,
    }
    assert made["environment"] == {"A": "1"}
    assert made["labels"]["asyncjobs.engine"] == "e1"
    assert made["labels"]["com.amazonaws.ecs.task-definition-version"] == "7"
    assert made["log_config"]["Type"] == "none"


def test_a_bare_definition_leaves_all_else_to_the_image() -> None:
    made = create_arguments(spec(memory=256), "e1", set())
    assert (made["command"], made["entrypoint"], made["user"], made["healthcheck"]) == (None, None, None, None)
    assert made["mem_limit"] == 256 * 2**20  # the container's own limit is the narrower one


@pytest.mark.parametrize(
    ("volumes", "fresh"), [({"/tmp/": {}}, False), ({"/var/tmp": {}}, True), ({}, True), (None, True)]
)
def test_a_volume_takes_over_what_the_image_has_there_only_if_it_is_declared(volumes: Any, fresh: bool) -> None:
    docker = FakeDocker()
    docker.volumes = volumes
    _, container = start(docker, mountPoints=[{"sourceVolume": "tmp", "containerPath": "/tmp"}])
    (mount,) = container.arguments["mounts"]
    assert mount["VolumeOptions"].get("NoCopy", False) is fresh
    container.end()


def test_output_is_listened_to_before_the_start_and_split_into_lines() -> None:
    docker = FakeDocker()
    docker.output = [b"one\ntw", b"o\nlast"]
    running, container = start(docker)
    container.end(ExitCode=3)
    assert running.wait() == ContainerExit(3)
    assert docker.steps == ["attach", "start"]
    assert LINES == ["one", "two", "last"]
    assert container.removed


@pytest.mark.parametrize(
    ("state", "exit_"),
    [
        ({"ExitCode": 137, "OOMKilled": True}, ContainerExit(137, OUT_OF_MEMORY)),
        # A child of the worker was ended, not the worker.
        ({"ExitCode": 0, "OOMKilled": True}, ContainerExit(0)),
        ({"ExitCode": 127, "Error": "exec format error"}, ContainerExit(127, "exec format error")),
    ],
)
def test_how_a_container_ended(state: dict[str, Any], exit_: ContainerExit) -> None:
    running, container = start(FakeDocker())
    container.end(**state)
    assert running.wait() == exit_


def test_a_container_that_somebody_removed_has_ended() -> None:
    docker = FakeDocker()
    docker.waits = [NotFound("gone")]
    running, _ = start(docker)
    assert running.wait() == ContainerExit(137, "The container was removed by somebody else")


def test_stop_sends_what_the_image_wants_once_and_kills_when_time_is_up() -> None:
    docker = FakeDocker()
    docker.config = {"StopSignal": "SIGINT"}
    running, container = start(docker, stopTimeout=120)
    running.stop()
    running.stop(within=0.0)
    assert running.wait() == ContainerExit(137)
    assert container.signals == ["SIGINT", "SIGKILL"]


@pytest.mark.parametrize(
    ("found", "said"), [("healthy", "HEALTHY"), ("unhealthy", "UNHEALTHY"), ("starting", "UNKNOWN"), (None, "UNKNOWN")]
)
def test_health(found: str | None, said: str) -> None:
    running, container = start(FakeDocker())
    if found:
        container.attrs["State"]["Health"] = {"Status": found}
    assert running.health == said
    container.end(Health={"Status": "unhealthy"})  # as Docker says of whatever has ended
    assert running.health == "UNKNOWN"
    running.wait()


def test_an_image_by_digest_is_pulled_once_and_one_by_tag_each_time() -> None:
    docker = FakeDocker()
    runner(docker).start(spec(OURS))
    docker.here |= {OURS, "example.org:5000/their/image", "example.org:5000/their/image:2"}
    runner(docker).start(spec(OURS))
    runner(docker).start(spec("example.org:5000/their/image"))
    runner(docker).start(spec("example.org:5000/their/image:2"))
    login = {"username": "AWS", "password": "secret"}
    assert docker.pulled == [
        ("127.0.0.1:4566/asyncjobs-demo", DIGEST, login),
        ("example.org:5000/their/image", "latest", None),
        ("example.org:5000/their/image", "2", None),
    ]
    for container in docker.made:
        container.end()


def test_an_image_that_no_registry_has_is_used_as_it_is_here() -> None:
    docker = FakeDocker()
    docker.here.add("built-here:1")
    docker.pull_error = refused("pull access denied")
    runner(docker).start(spec("built-here:1"))
    docker.made[0].end()
    assert docker.made[0].arguments["image"] == "built-here:1"


@pytest.mark.parametrize("breaks_off", [False, True])
def test_an_image_that_cannot_be_pulled(breaks_off: bool) -> None:
    docker = FakeDocker()
    if breaks_off:
        docker.pull_lines = [{"status": "Pulling"}, {"error": "no space left on device"}]
    else:
        docker.pull_error = refused("manifest unknown")
    with pytest.raises(StartError, match=r"^CannotPullContainerError: .*(manifest unknown|no space left)"):
        runner(docker).start(spec(OURS))
    assert docker.made == []


def test_a_container_that_does_not_start_is_removed() -> None:
    docker = FakeDocker()
    docker.start_error = refused('exec: "nope": executable file not found in $PATH')
    with pytest.raises(StartError, match=r"^CannotStartContainerError: Error response from daemon: exec: .nope."):
        start(docker)
    assert docker.made[0].removed


def test_why_there_are_no_containers() -> None:
    def none() -> Any:
        raise NoEngineError("There is no Docker engine.", why="/var/run/docker.sock does not exist.")

    made = ContainerRunner("e1", none, listen, REGISTRY, Register())
    assert made.unavailable() == "There is no Docker engine. /var/run/docker.sock does not exist."
    with pytest.raises(ContainersUnavailableError, match="There is no Docker engine"):
        made.start(spec())


def test_a_docker_engine_in_a_network_of_its_own_is_of_no_use() -> None:
    def elsewhere(address: str) -> Endpoint:
        raise OSError(99, "Cannot assign requested address")

    made = ContainerRunner("e1", FakeDocker, elsewhere, REGISTRY, Register())  # type: ignore[arg-type]
    why = made.unavailable()
    assert why is not None
    assert "172.30.0.1: Cannot assign requested address" in why


def test_a_docker_engine_that_comes_later_is_found() -> None:
    answers: list[Any] = [requests.ConnectionError("refused"), FakeDocker()]

    def connect() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    register = Register()
    made = ContainerRunner("e1", connect, listen, REGISTRY, register)
    assert made.unavailable() == "refused"
    assert made.unavailable() is None
    assert made.endpoint().url == "http://172.30.0.1:4566"
    assert register.told == [True]


def test_a_network_that_was_pruned_is_made_again_and_listened_on() -> None:
    docker = FakeDocker()
    listened: list[str] = []

    def listen_and_note(address: str) -> Endpoint:
        listened.append(address)
        return listen(address)

    made = ContainerRunner("e1", lambda: docker, listen_and_note, REGISTRY, Register())  # type: ignore[arg-type,return-value]
    assert made.endpoint().url == made.endpoint().url == "http://172.30.0.1:4566"
    docker.gateway = "172.31.0.1"
    assert made.endpoint().url == "http://172.31.0.1:4566"
    assert listened == ["172.30.0.1", "172.31.0.1"]


def test_leftovers_are_removed_and_what_is_gone_meanwhile_is_no_error() -> None:
    asked: list[Any] = []

    class Thing:
        def __init__(self, gone: bool = False) -> None:
            self.gone = gone
            self.removed = False

        def remove(self, **_: Any) -> None:
            if self.gone:
                raise NotFound("gone")
            self.removed = True

    things = [Thing(), Thing(), Thing(gone=True), Thing()]

    def lists(*found: Thing) -> Any:
        def listed(**options: Any) -> list[Thing]:
            asked.append(options["filters"])
            return list(found)

        return SimpleNamespace(list=listed)

    docker: Any = SimpleNamespace(
        containers=lists(things[0]), volumes=lists(things[1], things[2]), networks=lists(things[3])
    )
    remove_leftovers(docker, "e1")
    assert [thing.removed for thing in things] == [True, True, False, True]
    assert asked == [{"label": "asyncjobs.engine=e1"}] * 3
