"""What the containers' health checks say, as DescribeTasks tells it.

A deployment does not wait for it, as it would on ECS: the first check comes half a minute after a start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ministack.services import ecs

from asyncjobs.local.tasks import Health, RunningContainer

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
UNHEALTHY = "Task failed container health checks"


def failing(running: Mapping[str, Sequence[RunningContainer]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Write down the health of running tasks; account, region and task of those that fail.

    Args:
        running: Containers by the ARN of their task.
    """
    found = []
    for (account, region, _key), task in ecs._tasks.all_items():
        containers = running.get(task["taskArn"])
        if not containers or task.get("lastStatus") != "RUNNING":
            continue
        healths = [container.health for container in containers]
        for described, health in zip(task["containers"], healths, strict=False):
            described["healthStatus"] = health
        task["healthStatus"] = overall(healths)
        if task["healthStatus"] == "UNHEALTHY":
            found.append((account, region, task))
    return found


def overall(healths: Sequence[Health]) -> Health:
    """A task's health: as bad as its worst container's."""
    worst: Sequence[Health] = ("UNHEALTHY", "UNKNOWN", "HEALTHY")
    return next((health for health in worst if health in healths), "UNKNOWN")
