"""ECS calls whose answer depends on tasks that are still ending, answered as ECS does.

ministack calls a service INACTIVE and deletes its cluster while tasks still shut down. ECS keeps the service
DRAINING and refuses to delete the cluster until the last one stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import ecs

from asyncjobs.local import ecs_events
from asyncjobs.local.backoff import RestartBackoff

Call = Callable[[dict[str, Any]], Any]


def replacements(backoff: RestartBackoff) -> dict[str, Call]:
    """ECS actions by name, each around ministack's own."""
    original: dict[str, Call] = dict(ecs._ACTION_MAP)

    def create_service(data: dict[str, Any]) -> Any:
        service = ecs._services.get(f"{_cluster(data)}/{data.get('serviceName')}")
        if service and service.get("status") == "DRAINING":
            return _refused("InvalidParameterException", "Unable to Start a service that is still Draining.")
        return original["CreateService"](data)

    def update_service(data: dict[str, Any]) -> Any:
        key = _service_key(data)
        if data.get("taskDefinition") or data.get("forceNewDeployment"):
            backoff.forget(key)
        answer = original["UpdateService"](data)
        ecs_events.drop_false_draining(ecs._services.get(key))
        return answer

    def delete_service(data: dict[str, Any]) -> Any:
        key = _service_key(data)
        answer = original["DeleteService"](data)
        service = ecs._services.get(key)
        if service is None or answer[0] >= 400:
            return answer
        backoff.forget(key)
        service["status"] = "DRAINING"
        settle_service(key)
        return json_response({"service": ecs._sanitize(service)})

    def delete_cluster(data: dict[str, Any]) -> Any:
        name = _cluster(data)
        cluster = ecs._clusters.get(name)
        if cluster and _unfinished_services(name):
            message = "The Cluster cannot be deleted while Services are active."
            return _refused("ClusterContainsServicesException", message)
        if cluster and _unstopped(cluster["clusterArn"]):
            message = "The Cluster cannot be deleted while Tasks are active."
            return _refused("ClusterContainsTasksException", message)
        return original["DeleteCluster"](data)

    def execute_command(data: dict[str, Any]) -> Any:
        return _refused("InvalidParameterException", "Tasks run as processes: there is no container to enter.")

    _start_deployments_in_progress()
    return {
        "CreateService": create_service,
        "UpdateService": update_service,
        "DeleteService": delete_service,
        "DeleteCluster": delete_cluster,
        "ExecuteCommand": execute_command,
    }


def _start_deployments_in_progress() -> None:
    """A new service's first deployment is under way until its tasks are stable; only so can it be seen to fail."""
    original = ecs._make_deployment

    def make_deployment(task_definition: str, desired_count: int, status: str = "PRIMARY") -> Any:
        deployment = original(task_definition, desired_count, status)
        if desired_count > 0:
            deployment.update(rolloutState="IN_PROGRESS", rolloutStateReason="ECS deployment in progress.")
        return deployment

    ecs._make_deployment = make_deployment


def settle_service(key: str) -> None:
    """A deleted service is DRAINING until its last task stopped, then INACTIVE."""
    service = ecs._services.get(key)
    if service and service.get("status") == "DRAINING":
        group = f"service:{service['serviceName']}"
        if not _unstopped(service["clusterArn"], group):
            service["status"] = "INACTIVE"


def service_exists(account: str, region: str, cluster: str, service: str) -> bool:
    """For application-autoscaling, which refuses to scale a service that is missing."""
    found = ecs._services.get_scoped(account, region, f"{cluster}/{service}")
    return bool(found) and found.get("status") == "ACTIVE"


def _cluster(data: dict[str, Any]) -> str:
    return str(ecs._resolve_cluster_name(data.get("cluster", "default")))


def _service_key(data: dict[str, Any]) -> str:
    reference = ecs._resolve_service_ref(data.get("service", ""))
    return f"{_cluster(data)}/{reference[0]}" if reference else ""


def _unfinished_services(cluster: str) -> list[str]:
    return [
        key
        for key, service in ecs._services.items()
        if key.startswith(f"{cluster}/") and service.get("status") in ("ACTIVE", "DRAINING")
    ]


def _unstopped(cluster_arn: str, group: str | None = None) -> list[str]:
    return [
        arn
        for arn, task in ecs._tasks.items()
        if task.get("clusterArn") == cluster_arn
        and task.get("lastStatus") != "STOPPED"
        and (group is None or task.get("group") == group)
    ]


def _refused(code: str, message: str) -> Any:
    return error_response_json(code, message, 400)
