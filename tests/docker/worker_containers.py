"""Containers of a worker's image, run as the task definition has it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from docker import DockerClient
from docker.models.containers import Container
from docker.types import Mount

ENVIRONMENT = {
    "ASYNCJOBS_STACK": "demo",
    "ASYNCJOBS_HANDLER": "handler:handle",
    "ASYNCJOBS_QUEUE_URL": "http://127.0.0.1:9/000000000000/q",
    "ASYNCJOBS_DEAD_LETTER_QUEUE_URL": "http://127.0.0.1:9/000000000000/dlq",
    "ASYNCJOBS_TABLE": "t",
    "ASYNCJOBS_BUCKET": "b",
    "ASYNCJOBS_HEALTH_PORT": "8321",
    "ASYNCJOBS_STOP_TIMEOUT": "5",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}


def start(
    engine: DockerClient, image: str, *command: str, mounts: Sequence[Mount] = (), **environment: str
) -> Container:
    """As the task definition has it run. Removed with `v=True`: the image declares a volume."""
    return engine.containers.run(
        image,
        list(command) or None,
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mounts=list(mounts),
        network_mode="none",
        environment=environment,
    )


def output(engine: DockerClient, image: str, *command: str) -> bytes:
    """What a program printed that must have ended well. The SDK's `run` would leave the image's volume behind."""
    container = start(engine, image, *command)
    try:
        assert container.wait(timeout=60)["StatusCode"] == 0, container.logs()
        return container.logs(stderr=False)
    finally:
        container.remove(v=True, force=True)


def wait_until_well(container: Container) -> None:
    """By the task definition's own health check."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        container.reload()
        assert container.status != "exited", container.logs(tail=20)
        if container.exec_run(["python", "-m", "asyncjobs.worker.health"]).exit_code == 0:
            return
        time.sleep(0.2)
    raise TimeoutError(container.logs(tail=20))


def check_that_it_starts_hardened_and_ends_on_sigterm(engine: DockerClient, image: str) -> None:
    container = start(engine, image, **ENVIRONMENT)
    try:
        wait_until_well(container)
        assert container.exec_run(["python", "-c", "import os; print(os.getuid())"]).output.split() == [b"10001"]
        status = container.exec_run(["python", "-c", "print(open('/proc/1/status').read())"]).output.decode()
        assert "Uid:\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Name:\tpython" in status, "the worker itself is PID 1"
        assert container.exec_run(["python", "-c", "open('/app/x', 'w')"]).exit_code == 1
        container.stop(timeout=20)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, container.logs(tail=20)
    finally:
        container.remove(v=True, force=True)
