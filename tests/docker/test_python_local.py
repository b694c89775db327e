"""The local target with an image that is built without an engine. The tests use one stack, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docker import DockerClient
from local_stack import CLUSTER, HANDLER, Stack, until


@pytest.fixture(scope="module")
def stack(engine: DockerClient, pushed_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("python"), engine, pushed_base)
    try:
        made.run("up", "--local", "--builder", "python")
        made.remember_repository()
        yield made
    finally:
        made.end()


def version(stack: Stack) -> int:
    job = stack.ended(stack.submit(name="an order"))
    assert (job["status"], job["result"]["uid"]) == ("SUCCEEDED", 10001)
    assert job["result"]["host"] in {container.id[:12] for container in stack.containers()}
    found: int = job["result"]["version"]
    return found


def test_it_is_not_built_twice(stack: Stack) -> None:
    assert "neither built nor pushed" in stack.run("up", "--local", "--builder", "python").stderr


def test_a_job_runs_in_its_container(stack: Stack) -> None:
    definition = stack.aws.ecs.describe_task_definition(taskDefinition=CLUSTER)["taskDefinition"]
    image = definition["containerDefinitions"][0]["image"]
    (container,) = stack.containers()
    assert image.startswith(f"{stack.repository}@sha256:")
    assert image in container.image.attrs["RepoDigests"]
    history = [line["CreatedBy"] for line in container.image.history()]
    assert history[:2] == ["asyncjobs: code", "asyncjobs: libraries"]
    assert version(stack) == 1


def test_a_new_handler_rolls_out(stack: Stack) -> None:
    stack.write("handler.py", HANDLER.replace("VERSION = 1", "VERSION = 2"))
    stack.run("up", "--local", "--builder", "python")
    # A worker that is about to stop may still take a job.
    assert until(lambda: version(stack) == 2)


def test_down_leaves_nothing_in_docker(stack: Stack) -> None:
    assert stack.left()
    assert "nothing is left" in stack.run("down").stderr
    assert stack.left() == []
