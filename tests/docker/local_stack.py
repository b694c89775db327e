"""A project of its own with an engine of its own, whose tasks are containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from docker import DockerClient
from docker.models.containers import Container

from asyncjobs.aws import Clients, connect_local
from asyncjobs.local.control import EngineInfo, LocalEngine
from asyncjobs.local.paths import EnginePaths
from asyncjobs.progress import NullProgress

T = TypeVar("T")
STACK = "boxed"
CLUSTER = f"asyncjobs-{STACK}"
HANDLER = """
import os, sys, time

def handle(job):
    order = job.json()
    print("working on", order.get("name"), file=sys.stderr)
    with open("/tmp/scratch", "a") as file:
        file.write("x")
    if job.attempt == 1:
        time.sleep(order.get("seconds", 0))
    return {"version": VERSION, "uid": os.getuid(), "host": os.uname().nodename}

VERSION = 1
"""
SETTINGS = """
[stack]
name = "{stack}"
[worker]
handler = "handler:handle"
base_image = "{base}"
cpu = 512
memory = 1024
[scaling]
min = 1
max = 4
"""


class Stack:
    """The stack of one project, driven by the command line."""

    def __init__(self, folder: Path, docker: DockerClient, base_image: str) -> None:
        self.project = folder / "project"
        self.state = folder / "state"
        self.docker = docker
        self.engine = LocalEngine(self.state / "local")
        self.label = f"asyncjobs.engine={EnginePaths(self.state / 'local').engine_id}"
        self.run("init", str(self.project), cwd=folder)
        self.write("asyncjobs.toml", SETTINGS.format(stack=STACK, base=base_image))
        self.write("handler.py", HANDLER)
        self.write("requirements.txt", "")

    def write(self, name: str, text: str) -> None:
        (self.project / name).write_text(text, encoding="utf-8")

    def run(self, *arguments: str, cwd: Path | None = None, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASYNCJOBS_", "AWS_"))}
        done = subprocess.run(
            [sys.executable, "-m", "asyncjobs", *arguments],
            cwd=cwd or self.project,
            env={**kept, "ASYNCJOBS_STATE_DIR": str(self.state), "ASYNCJOBS_TASKS": "containers"},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done

    def submit(self, **order: Any) -> str:
        """One job; its id."""
        file = self.project.parent / "order.json"  # not in the project, which it would change
        file.write_text(json.dumps(order))
        return self.run("submit", str(file)).stdout.strip()

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", job_id, "--json").stdout)
        return found

    def ended(self, job_id: str, seconds: float = 90) -> dict[str, Any]:
        """The job when it has succeeded; one process looks until then."""
        followed = self.run("status", job_id, "--follow", "--timeout", str(seconds), "--json").stdout
        found: dict[str, Any] = json.loads(followed.splitlines()[-1])
        return found

    @property
    def info(self) -> EngineInfo:
        info = self.engine.running()
        assert info is not None
        return info

    @property
    def aws(self) -> Clients:
        return connect_local(self.info.endpoint_url, "us-east-1", self.info.access_key)

    def containers(self) -> list[Container]:
        """Of this engine, running."""
        return self.docker.containers.list(filters={"label": self.label}, ignore_removed=True)

    def one_container(self) -> list[Container]:
        """Running, when there is just one."""
        found = self.containers()
        return found if len(found) == 1 else []

    def service(self) -> Any:
        return self.aws.ecs.describe_services(cluster=CLUSTER, services=["worker"])["services"][0]

    def task(self, **changes: Any) -> Any:
        """Run one task beside the service, with another container definition, and return it when it has stopped."""
        ecs = self.aws.ecs
        known: Any = ecs.describe_task_definition(taskDefinition=CLUSTER)["taskDefinition"]
        kept = ("cpu", "memory", "volumes", "networkMode", "requiresCompatibilities")
        container = {**known["containerDefinitions"][0], **changes}
        ecs.register_task_definition(
            family="one-off", containerDefinitions=[container], **{name: known[name] for name in kept}
        )
        network = self.service()["networkConfiguration"]
        arn = ecs.run_task(
            cluster=CLUSTER, taskDefinition="one-off", launchType="FARGATE", networkConfiguration=network
        )["tasks"][0]["taskArn"]

        def stopped() -> Any:
            task = ecs.describe_tasks(cluster=CLUSTER, tasks=[arn])["tasks"][0]
            return task if task["lastStatus"] == "STOPPED" else None

        return until(stopped, 60)

    def lines(self, task: Any) -> list[str]:
        """What a task printed."""
        stream = f"worker/worker/{task['taskArn'].rsplit('/', 1)[-1]}"
        pages = self.aws.logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/asyncjobs/{STACK}", logStreamNames=[stream]
        )
        return [event["message"] for page in pages for event in page["events"]]

    def left(self) -> list[str]:
        """What there is of this stack in Docker."""
        ours = {"label": self.label}
        images = [f"image {image}" for image in self._images()]
        return [
            *(
                f"container {each.name}"
                for each in self.docker.containers.list(all=True, filters=ours, ignore_removed=True)
            ),
            *(f"volume {each.name}" for each in self.docker.volumes.list(filters=ours)),
            *(f"network {each.name}" for each in self.docker.networks.list(filters=ours)),
            *images,
        ]

    def _images(self) -> list[Any]:
        named = self.docker.images.list(name=self.repository) if self.repository else []
        kept = {"label": f"asyncjobs.repository={self.repository}"}
        return [*named, *self.docker.images.list(all=True, filters=kept)]

    repository = ""

    def remember_repository(self) -> None:
        """While the engine runs, which says where its registry is."""
        found = self.aws.ecr.describe_repositories(repositoryNames=[CLUSTER])["repositories"][0]
        self.repository = found["repositoryUri"]

    def end(self) -> None:
        self.run("down")
        self.engine.stop(NullProgress())


def until(condition: Callable[[], T | None], seconds: float = 60) -> T:
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if value := condition():
            return value
        assert time.monotonic() < deadline, "did not happen in time"
        # Many looks are a process: half of the time is left to what is waited for.
        time.sleep(max(0.1, time.monotonic() - began))
