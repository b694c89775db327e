"""The local target with a Docker engine: its tasks are containers. The tests use one stack, in their order."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from docker import DockerClient
from local_stack import CLUSTER, HANDLER, Stack, until

from asyncjobs.errors import TagTakenError
from asyncjobs.image.refusals import push_refused
from asyncjobs.progress import NullProgress


@pytest.fixture(scope="module")
def stack(engine: DockerClient, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("local"), engine, base_image)
    try:
        said = made.run("up", "--local").stderr
        assert "Tasks run as containers" in said
        made.remember_repository()
        yield made
    finally:
        made.end()


def test_the_service_runs_as_hardened_containers(stack: Stack) -> None:
    (container,) = stack.containers()
    attrs = container.attrs
    host = attrs["HostConfig"]
    assert attrs["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (1024 * 1024**2, 1024 * 1024**2, 500_000_000)
    assert [(mount["Destination"], mount["Type"]) for mount in attrs["Mounts"]] == [("/tmp", "volume")]
    assert not host["PortBindings"]
    assert list(attrs["NetworkSettings"]["Networks"]) == [host["NetworkMode"]]
    assert attrs["Config"]["Healthcheck"]["Test"] == ["CMD", "python", "-m", "asyncjobs.worker.health"]


def test_the_image_was_pushed_to_the_engines_ecr_and_is_deployed_by_its_digest(stack: Stack) -> None:
    definition = stack.aws.ecs.describe_task_definition(taskDefinition=CLUSTER)["taskDefinition"]
    image = definition["containerDefinitions"][0]["image"]
    repository, digest = image.split("@")
    assert repository == stack.repository
    pushed = stack.aws.ecr.describe_images(repositoryName=CLUSTER)["imageDetails"]
    assert [each["imageDigest"] for each in pushed] == [digest]
    assert stack.containers()[0].image.attrs["RepoDigests"] == [image]


def test_nothing_has_changed_for_a_second_up(stack: Stack) -> None:
    done = stack.run("up", "--local")
    assert "neither built nor pushed" in done.stderr
    assert "nothing changed" in done.stderr


def test_a_tag_is_never_overwritten(stack: Stack, base_image: str) -> None:
    """ECR refuses it, whatever pushes; the builder's error for that is the one that `up` knows how to go on from."""
    (before,) = stack.aws.ecr.describe_images(repositoryName=CLUSTER)["imageDetails"]
    (tag,) = before["imageTags"]
    api = stack.docker.api
    built = stack.docker.images.get(f"{stack.repository}:{tag}")
    api.tag(base_image, stack.repository, tag)
    token = stack.aws.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    login = {"username": user, "password": password}
    lines = list(api.push(stack.repository, tag, stream=True, decode=True, auth_config=login))
    built.tag(stack.repository, tag)
    (said,) = (line["error"] for line in lines if "error" in line)
    assert isinstance(push_refused(stack.repository, said), TagTakenError)
    (after,) = stack.aws.ecr.describe_images(repositoryName=CLUSTER)["imageDetails"]
    assert (after["imageDigest"], after["imageTags"]) == (before["imageDigest"], [tag])


def test_a_job_runs_in_the_container_and_its_lines_are_in_the_log_group(stack: Stack) -> None:
    job = stack.ended(stack.submit(name="a first order"))
    assert job["result"] == {"version": 1, "uid": 10001, "host": stack.containers()[0].id[:12]}
    assert "working on a first order" in until(lambda: stack.run("logs", job["jobId"]).stdout)


def test_no_line_is_lost_at_the_end_of_a_container(stack: Stack) -> None:
    task = stack.task(command=["python", "-c", "for n in range(9000): print('line', n, '.' * 80)"])
    assert stack.lines(task) == [f"line {n} {'.' * 80}" for n in range(9000)]
    assert task["containers"][0]["exitCode"] == 0


def test_a_task_can_write_nowhere_but_to_its_volume(stack: Stack) -> None:
    task = stack.task(command=["python", "-c", "open('/tmp/x', 'w'); open('/app/x', 'w')"])
    assert task["containers"][0]["exitCode"] == 1
    assert stack.lines(task)[-1] == "OSError: [Errno 30] Read-only file system: '/app/x'"


def test_a_volume_that_the_image_does_not_declare_is_root_s_as_on_fargate(stack: Stack, base_image: str) -> None:
    look = "import os; print(oct(os.stat('/tmp').st_mode), os.stat('/tmp').st_uid); open('/tmp/x', 'w')"
    task = stack.task(image=base_image, command=["python3", "-c", look])
    assert task["containers"][0]["exitCode"] == 1
    # Two streams, between which there is no order.
    assert {"0o40755 0", "PermissionError: [Errno 13] Permission denied: '/tmp/x'"} <= set(stack.lines(task))
    # Ours declares it.
    assert stack.lines(stack.task(command=["python", "-c", look])) == ["0o41777 0"]


def test_why_a_task_has_stopped(stack: Stack) -> None:
    starved = stack.task(command=["python", "-c", "x = bytearray(3 * 10**9)"])["containers"][0]
    assert (starved["exitCode"], starved["reason"]) == (
        137,
        "OutOfMemoryError: Container killed due to memory usage",
    )
    absent = stack.task(image=f"{stack.repository}@sha256:{'0' * 64}")
    assert absent["stopCode"] == "TaskFailedToStart"
    assert absent["stoppedReason"].startswith("CannotPullContainerError: ")
    nothing = stack.task(command=["no-such-program"], linuxParameters={})
    assert nothing["stoppedReason"].startswith("CannotStartContainerError: Error response from daemon: ")
    assert "no-such-program" in nothing["stoppedReason"]
    # With an init process that one starts, and says so itself.
    nothing = stack.task(command=["no-such-program"])
    assert nothing["containers"][0]["exitCode"] == 127
    assert "no-such-program" in stack.lines(nothing)[-1]
    check = {"command": ["CMD", "false"], "interval": 5, "timeout": 2, "retries": 1, "startPeriod": 0}
    ill = stack.task(healthCheck=check, command=["python", "-c", "import time; time.sleep(60)"], stopTimeout=2)
    assert ill["stoppedReason"] == "Task failed container health checks"
    assert ill["healthStatus"] == "UNHEALTHY"


def test_the_bridge_takes_no_more_than_loopback_does(stack: Stack) -> None:
    probe = """
import os, urllib.request, urllib.error
url = os.environ["AWS_ENDPOINT_URL"]
def status(path, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
print(status("/"), status("/v2/"), status("/_asyncjobs/stacks"), status("/_asyncjobs/health", Host="evil.example"))
"""
    assert stack.lines(stack.task(command=["python", "-c", probe])) == ["403 401 403 403"]


def test_a_crashed_container_is_replaced_and_its_job_done_by_the_next(stack: Stack) -> None:
    (before,) = until(stack.one_container)
    job_id = stack.submit(name="survivor", seconds=60)
    until(lambda: stack.job(job_id)["status"] == "RUNNING")
    before.kill()
    after = until(lambda: [each for each in stack.containers() if each.id != before.id])
    job = stack.ended(job_id)
    assert (job["status"], job["attempt"]) == ("SUCCEEDED", 2)
    assert job["result"]["host"] == after[0].id[:12]


def test_scale(stack: Stack) -> None:
    stack.run("scale", "3")
    until(lambda: len(stack.containers()) == 3)
    stack.run("scale", "1")
    until(stack.one_container)


def test_a_task_that_is_stopped_finishes_its_job_first(stack: Stack) -> None:
    (container,) = until(stack.one_container)
    job_id = stack.submit(name="last orders", seconds=15)
    until(lambda: stack.job(job_id)["status"] == "RUNNING")
    arn = container.labels["com.amazonaws.ecs.task-arn"]
    stack.aws.ecs.stop_task(cluster=CLUSTER, task=arn)
    job = stack.ended(job_id)
    assert (job["status"], job["attempt"], job["result"]["host"]) == ("SUCCEEDED", 1, container.id[:12])
    task = until(
        lambda: [
            task
            for task in stack.aws.ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"]
            if task["lastStatus"] == "STOPPED"
        ]
    )[0]
    assert task["containers"][0]["exitCode"] == 0
    assert until(stack.one_container) != [container]


def test_a_new_handler_rolls_out_and_no_job_is_lost(stack: Stack) -> None:
    stack.write("handler.py", HANDLER.replace("VERSION = 1", "VERSION = 2"))
    rolled_out = threading.Event()
    rollout = threading.Thread(target=lambda: (stack.run("up", "--local"), rolled_out.set()))
    rollout.start()
    jobs = []
    while not rolled_out.wait(0.5) and rollout.is_alive():
        jobs.append(stack.submit(name="load", seconds=0.3))
    rollout.join()
    assert rolled_out.is_set()
    ended = [stack.ended(job) for job in jobs]
    assert {job["status"] for job in ended} == {"SUCCEEDED"}
    assert {job["attempt"] for job in ended} == {1}
    assert ended[0]["result"]["version"] == 1
    # The old task is told to go when the new one is steady, and may still take a job in between.
    until(lambda: stack.ended(stack.submit(name="last"))["result"]["version"] == 2)


def test_containers_end_with_an_engine_that_is_killed_and_come_back_with_the_next(stack: Stack) -> None:
    os.kill(stack.info.pid, signal.SIGKILL)
    until(lambda: not stack.containers())
    stack.run("up", "--local")
    until(stack.one_container)
    assert stack.ended(stack.submit(name="again"))["result"]["version"] == 2


def test_the_image_is_there_for_a_docker_engine_that_has_none(stack: Stack) -> None:
    """As after a clean restart of the engine, on a machine whose images were pruned meanwhile."""
    stack.engine.stop(NullProgress())
    for image in stack.docker.images.list(name=stack.repository):
        stack.docker.images.remove(image.id, force=True)
    stack.run("up", "--local")
    until(stack.one_container)


def test_health_says_what_runs_as_what(stack: Stack) -> None:
    with urllib.request.urlopen(f"{stack.info.endpoint_url}/_asyncjobs/health", timeout=5) as answer:
        assert json.load(answer)["tasks"] == {"processes": 0, "containers": 1}


def test_down_leaves_nothing_in_docker(stack: Stack) -> None:
    assert stack.left()
    assert "nothing is left" in stack.run("down").stderr
    assert stack.left() == []


def test_tasks_are_processes_where_the_base_image_cannot_be_had(stack: Stack) -> None:
    settings = (stack.project / "asyncjobs.toml").read_text()
    try:
        stack.write("asyncjobs.toml", "".join(f"{line}\n" for line in _with_base(settings, "127.0.0.1:1/no/such:1")))
        refused = stack.run("up", "--local", exit_code=8).stderr
        assert "127.0.0.1:1/no/such:1" in refused
        said = stack.run("up", "--local", "--tasks", "auto").stderr
        assert "tasks will be processes, not containers: " in said
        assert "Tasks run as processes" in said
        assert stack.containers() == []
    finally:
        stack.run("down")
        stack.write("asyncjobs.toml", settings)


def _with_base(settings: str, image: str) -> list[str]:
    return [
        f"base_image = {json.dumps(image)}" if line.startswith("base_image") else line for line in settings.splitlines()
    ]
