"""The sentences ECS puts into a service's events."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

_KEPT = 100


def started(service: dict[str, Any] | None, task: dict[str, Any]) -> None:
    _say(service, f"has started 1 tasks: (task {_id(task)}).")


def stopped(service: dict[str, Any] | None, task: dict[str, Any]) -> None:
    _say(service, f"has stopped 1 running tasks: (task {_id(task)}).")


def unstable(service: dict[str, Any] | None) -> None:
    _say(service, "is unable to consistently start tasks successfully. For more information, see the stopped tasks.")


def drop_false_draining(service: dict[str, Any] | None) -> None:
    """The emulator says of each update that connections drain, whether or not there are any."""
    if service and service["events"] and "draining connections" in service["events"][0]["message"]:
        del service["events"][0]


def _say(service: dict[str, Any] | None, text: str) -> None:
    if service is None:
        return
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    message = f"(service {service['serviceName']}) {text}"
    service["events"].insert(0, {"id": str(uuid.uuid4()), "createdAt": now, "message": message})
    del service["events"][_KEPT:]


def _id(task: dict[str, Any]) -> str:
    return str(task["taskArn"]).rsplit("/", 1)[-1]
