"""From a container definition of ECS to what Docker takes: the limits and the hardening that Fargate would apply."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from docker.types import LogConfig, Mount, Ulimit

from asyncjobs.local.tasks import ContainerSpec

ENGINE_LABEL = "asyncjobs.engine"
_NANOSECONDS = 1_000_000_000
_CPU_UNITS = 1024  # of one vCPU
_MIB = 1024 * 1024
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html
_HEALTH_DEFAULTS = {"interval": 30, "timeout": 5, "retries": 3, "startPeriod": 0}


def create_arguments(spec: ContainerSpec, engine: str, declared: Collection[str]) -> dict[str, Any]:
    """Arguments of `containers.create`, but for the image and the network.

    Args:
        engine: Which engine this is, for the label.
        declared: The paths that the image declares as volumes.
    """
    definition = spec.definition
    return {
        "name": f"asyncjobs-{spec.task_id}-{spec.name}",
        "command": list(definition.get("command", [])) or None,
        "entrypoint": list(definition.get("entryPoint", [])) or None,
        "environment": dict(spec.environment),
        "working_dir": definition.get("workingDirectory") or None,
        "user": definition.get("user"),
        "read_only": bool(definition.get("readonlyRootFilesystem")),
        # More than a task definition can say: no program of the image gains rights by being set-user-ID.
        "security_opt": ["no-new-privileges:true"],
        "mounts": _volumes(definition, engine, declared),
        "labels": {**definition.get("dockerLabels", {}), ENGINE_LABEL: engine, **_ecs_labels(spec)},
        # Lines are read from the container itself: nothing of them is left on this machine.
        "log_config": LogConfig(type="none"),
        "healthcheck": _health_check(definition.get("healthCheck")),
        "ulimits": [
            Ulimit(name=each["name"], soft=each["softLimit"], hard=each["hardLimit"])
            for each in definition.get("ulimits", [])
        ],
        **_limits(definition, spec.task_definition),
        **_linux(definition.get("linuxParameters", {})),
    }


def _limits(definition: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """The container's own limits, else the task's. Tasks have no swap on Fargate."""
    memory = int(definition.get("memory") or task.get("memory") or 0) * _MIB
    units = int(task.get("cpu") or definition.get("cpu") or 0)
    return {
        **({"mem_limit": memory, "memswap_limit": memory} if memory else {}),
        **({"nano_cpus": units * _NANOSECONDS // _CPU_UNITS} if units else {}),
    }


def _linux(parameters: Mapping[str, Any]) -> dict[str, Any]:
    capabilities = parameters.get("capabilities", {})
    return {
        "cap_drop": list(capabilities.get("drop", [])),
        "cap_add": list(capabilities.get("add", [])),
        "init": bool(parameters.get("initProcessEnabled")),
        "tmpfs": {
            each["containerPath"]: ",".join([f"size={each['size']}m", *each.get("mountOptions", [])])
            for each in parameters.get("tmpfs", [])
        },
    }


def _volumes(definition: Mapping[str, Any], engine: str, declared: Collection[str]) -> list[Mount]:
    """A volume of its own for each mount point, which goes with the container.

    As on Fargate, it is root's with mode 0755 unless the image declares that path as a volume; Docker alone would take
    over what the image has there in any case. https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
    """
    known = {path.rstrip("/") for path in declared}
    return [
        Mount(
            target=point["containerPath"],
            source=None,
            type="volume",
            read_only=bool(point.get("readOnly")),
            no_copy=point["containerPath"].rstrip("/") not in known,
            labels={ENGINE_LABEL: engine},
        )
        for point in definition.get("mountPoints", [])
    ]


def _health_check(check: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not check:
        return None
    wanted = {**_HEALTH_DEFAULTS, **check}
    return {
        "test": list(wanted["command"]),
        "interval": wanted["interval"] * _NANOSECONDS,
        "timeout": wanted["timeout"] * _NANOSECONDS,
        "retries": wanted["retries"],
        "start_period": wanted["startPeriod"] * _NANOSECONDS,
    }


def _ecs_labels(spec: ContainerSpec) -> dict[str, str]:
    """What the agent of ECS puts on every container."""
    return {
        "com.amazonaws.ecs.task-arn": spec.task_arn,
        "com.amazonaws.ecs.container-name": spec.name,
        "com.amazonaws.ecs.task-definition-family": str(spec.task_definition.get("family", "")),
        "com.amazonaws.ecs.task-definition-version": str(spec.task_definition.get("revision", "")),
    }
