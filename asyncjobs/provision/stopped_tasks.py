"""Why a service's tasks stop: what ECS says, the exit code, and the last lines the container printed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from asyncjobs.provision.context import Context

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import TaskTypeDef

LAST_LINES = 5


def why_stopped(context: Context, container: str) -> str:
    """Of the service's task that tells most, ending with its last log lines; "" when ECS remembers none.

    ECS forgets a stopped task after about an hour.

    Args:
        container: Its name, which is also the prefix of its log streams.
    """
    ecs, names = context.clients.ecs, context.names
    arns = ecs.list_tasks(cluster=names.cluster, serviceName=names.service, desiredStatus="STOPPED")["taskArns"]
    if not arns:
        return ""
    tasks = ecs.describe_tasks(cluster=names.cluster, tasks=arns[:100])["tasks"]
    # A task that ended by itself tells more than one that the scheduler stopped after it.
    last = max(tasks, key=lambda task: (bool(_exits(task)), str(task.get("stoppedAt", ""))), default=None)
    if last is None:
        return ""
    # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using_awslogs.html: prefix/container/task
    said = ", ".join(part for part in [last.get("stoppedReason", ""), *_exits(last)] if part)
    return "\n       ".join(
        [said, *_last_lines(context, f"{container}/{container}/{last['taskArn'].rsplit('/', 1)[-1]}")]
    )


def _exits(task: TaskTypeDef) -> list[str]:
    """Exit codes, and what keeps a container from starting at all: an image that cannot be pulled has no exit code."""
    exits = []
    for container in task.get("containers", []):
        if container.get("exitCode") is not None:
            exits.append(f"exit code {container['exitCode']}")
        if container.get("reason"):
            exits.append(container["reason"])
    return exits


def _last_lines(context: Context, stream: str) -> list[str]:
    try:
        events = context.clients.logs.get_log_events(
            logGroupName=context.names.log_group,
            logStreamName=stream,
            limit=LAST_LINES,
            startFromHead=False,
        )["events"]
    except ClientError:
        return []  # no stream: it ended before it printed anything; what ECS says must still be shown
    lines = [line for event in events for line in _text(event["message"]).rstrip().splitlines()]
    return [f"| {line}" for line in lines[-LAST_LINES:]]


def _text(message: str) -> str:
    """Our worker logs JSON lines; what else a container prints is shown as it is."""
    try:
        return str(json.loads(message)["message"])
    except (ValueError, TypeError, KeyError):
        return message
