"""From a task definition of the emulated ECS to the containers to start: environment, secrets and logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from ministack.core.responses import request_scope
from ministack.services import cloudwatch_logs, ecs

from asyncjobs.local.access import Endpoint
from asyncjobs.local.tasks import ContainerSpec, LogSink, StartError

logger = logging.getLogger(__name__)


def container_specs(
    task: dict[str, Any],
    definition: dict[str, Any],
    overrides: Sequence[dict[str, Any]],
    endpoint_for: Callable[[str], Endpoint],
    logged: Callable[[], None],
) -> list[ContainerSpec]:
    """What to start for one task, in the order of its container definitions.

    Args:
        overrides: `containerOverrides` of RunTask.
        endpoint_for: Where the engine is for a container of this image.
        logged: Called after each batch of log lines.
    """
    specs = []
    for container in definition.get("containerDefinitions", []):
        override: dict[str, Any] = next((each for each in overrides if each.get("name") == container["name"]), {})
        endpoint = endpoint_for(container["image"])
        specs.append(
            ContainerSpec(
                task_arn=task["taskArn"],
                definition={**container, "command": override.get("command") or container.get("command", [])},
                task_definition=definition,
                environment=_environment(task, definition, container, override, endpoint),
                log=_log_sink(container, task["taskArn"].rsplit("/", 1)[-1], logged),
            )
        )
    return specs


def _environment(
    task: dict[str, Any],
    definition: dict[str, Any],
    container: dict[str, Any],
    override: dict[str, Any],
    endpoint: Endpoint,
) -> dict[str, str]:
    """What ECS gives a container, with the engine as the endpoint of every AWS client in it.

    The engine's own key rather than the credentials endpoint that ministack would name: boto3 refuses its host.
    """
    region = ecs.get_region()
    token = ecs._register_metadata(
        task["taskArn"], task["clusterArn"], definition, container, task["launchType"], {}, True, None
    )
    task.setdefault("_metadata_tokens", []).append(token)
    task_id = str(task["taskArn"]).rsplit("/", 1)[-1]
    return {
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "ECS_CONTAINER_METADATA_URI_V4": f"{endpoint.url}/v4/{token}",
        "ECS_AGENT_URI": f"{endpoint.url}/_asyncjobs/ecs-agent/{task_id}",
        **{each["name"]: str(each["value"]) for each in container.get("environment", [])},
        **_secrets(container),
        **{each["name"]: str(each["value"]) for each in override.get("environment", [])},
        # Last, because they belong together: other keys are none of this endpoint's.
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_ACCESS_KEY_ID": endpoint.access_key,
        "AWS_SECRET_ACCESS_KEY": endpoint.secret_key,
    }


def _secrets(container: dict[str, Any]) -> dict[str, str]:
    try:
        resolved: dict[str, str] = ecs._resolve_container_secrets(container)
    except ecs._SecretResolutionError as error:
        raise StartError(
            "ResourceInitializationError: unable to pull secrets or registry auth: "
            f"execution resource retrieval failed: {error}"
        ) from None
    return resolved


def _log_sink(container: dict[str, Any], task_id: str, logged: Callable[[], None]) -> LogSink:
    """Where a container's lines go: the stream that the awslogs driver would write, or nowhere."""
    config = ecs._awslogs_config(container, task_id, task_id)
    if config is None:
        return lambda lines: None
    account, region = ecs.get_account_id(), config["region"] or ecs.get_region()

    def write(lines: Sequence[str]) -> None:
        now = int(time.time() * 1000)
        with request_scope(account, region):
            if ecs._ensure_awslogs_stream(config):
                cloudwatch_logs._put_log_events(
                    {
                        "logGroupName": config["group"],
                        "logStreamName": config["stream"],
                        "logEvents": [{"timestamp": now, "message": line} for line in lines],
                    }
                )
        logged()

    def sink(lines: Sequence[str]) -> None:
        try:
            write(lines)
        except Exception:
            # A lost log line must not stop the reader: a full pipe would block the task.
            logger.exception("log lines of task %s are lost", task_id)

    return sink
