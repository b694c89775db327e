"""The ECS service that keeps workers running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, error_message, has_code
from asyncjobs.errors import ProvisionError, TimedOutError
from asyncjobs.provision.context import Context, differing
from asyncjobs.provision.network import Placement
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list
from asyncjobs.provision.service_linked_role import with_service_linked_role
from asyncjobs.provision.stopped_tasks import why_stopped
from asyncjobs.provision.task_definition import CONTAINER

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import ServiceTypeDef

ROLLOUT_SECONDS = 900
DEPLOYMENT: Any = {
    "deploymentCircuitBreaker": {"enable": True, "rollback": True},
    "minimumHealthyPercent": 100,
    "maximumPercent": 200,
}
TAGS_FROM: Literal["SERVICE"] = "SERVICE"


class Service:
    step = "service"
    needs = ("cluster", "task-definition", "network")
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context, placement: Placement) -> None:
        self._context = context
        self._placement = placement
        self._ecs = context.clients.ecs
        self._cluster = context.names.cluster
        self._name = context.names.service
        self.title = f"ECS service {self._name} in cluster {self._cluster}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        wanted = {
            "task definition": inputs.get("task-definition", "arn"),
            "network": self._network(inputs),
            "capacity": {one["capacityProvider"]: one["weight"] for one in self._capacity()},
            "deployment": DEPLOYMENT,
            "exec": False,
            "tags to tasks": TAGS_FROM,
            "tags": self._context.tags,
        }
        # An `up` that waits is not done while tasks are still starting, or failed to, after an earlier one.
        return {**wanted, "rollout": "COMPLETED"} if self._context.wait else wanted

    def read(self) -> State | None:
        service = self._describe()
        if service is not None and service["status"] == "DRAINING":
            self._until_gone()
            service = None
        if service is None or service["status"] == "INACTIVE":
            return None
        tags = tag_dict(service.get("tags"), key="key", value="value")
        require_ours(tags, self._context.names.stack, self.title)
        found = service.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
        network = {
            "subnets": sorted(found.get("subnets", [])),
            "securityGroups": sorted(found.get("securityGroups", [])),
            "assignPublicIp": found.get("assignPublicIp", "DISABLED"),
        }
        return State(
            {"name": self._name, "arn": service["serviceArn"]},
            {
                "task definition": service["taskDefinition"],
                "network": network,
                **_settings(service),
                "tags": self._context.ours(tags),
                "rollout": _rollout(service),
            },
        )

    def create(self, inputs: Inputs) -> State:
        def call() -> str:
            return self._ecs.create_service(
                cluster=self._cluster,
                serviceName=self._name,
                taskDefinition=inputs.get("task-definition", "arn"),
                # One task to begin with, even where the stack scales from zero: it proves that the worker starts.
                desiredCount=max(1, self._context.config.scaling.min),
                capacityProviderStrategy=self._capacity(),
                networkConfiguration={"awsvpcConfiguration": self._network(inputs)},
                deploymentConfiguration=DEPLOYMENT,
                enableExecuteCommand=False,
                propagateTags=TAGS_FROM,
                tags=tag_list(self._context.tags, key="key", value="value"),
            )["service"]["serviceArn"]

        try:
            arn = self._context.waiter.retry(
                lambda: with_service_linked_role(self._context, self.step, call),
                step=self.step,
                on=_not_yet,
                reason="the new roles and cluster are not known everywhere yet",
                timeout=180,
            )
        except ClientError as error:
            # Another `up` was first, with other settings: ours by its tag, or refused by `read`.
            if not _exists(error) or (state := self.read()) is None:
                raise
            return self.update(state, differing(self.desired(inputs), state), inputs)
        self._until_stable()
        return State({"name": self._name, "arn": arn})

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if "tags" in changed:
            # Running tasks keep what they were started with: no job is stopped for a tag.
            self._ecs.tag_resource(
                resourceArn=state.outputs["arn"], tags=tag_list(self._context.tags, key="key", value="value")
            )
        rest = changed - {"tags"}
        if not rest:
            return state
        if rest != {"rollout"} or state.properties["rollout"] == "FAILED":
            self._ecs.update_service(cluster=self._cluster, service=self._name, **self._arguments(rest, inputs))
        self._until_stable()
        return state

    def _arguments(self, changed: frozenset[str], inputs: Inputs) -> Any:
        """Of UpdateService; what is not named there stays."""
        arguments: dict[str, dict[str, Any]] = {
            "task definition": {"taskDefinition": inputs.get("task-definition", "arn")},
            "network": {"networkConfiguration": {"awsvpcConfiguration": self._network(inputs)}},
            # Tasks stay where they are until they are replaced, and ECS has refused a new strategy without it.
            "capacity": {"capacityProviderStrategy": self._capacity(), "forceNewDeployment": True},
            "deployment": {"deploymentConfiguration": DEPLOYMENT},
            "exec": {"enableExecuteCommand": False},
            "tags to tasks": {"propagateTags": TAGS_FROM},
            # Nothing but what failed before: the same definition again starts nothing by itself.
            "rollout": {"forceNewDeployment": True} if changed == {"rollout"} else {},
        }
        return {name: value for key in sorted(changed) for name, value in arguments[key].items()}

    def delete(self, state: State) -> None:
        self._context.waiter.retry(
            self._delete,
            step=self.step,
            on=has_code("InvalidParameterException", message="while deployments are active"),
            reason="a deployment is still under way",
            timeout=600,
        )
        self._until_gone()

    def _delete(self) -> None:
        try:
            self._ecs.update_service(cluster=self._cluster, service=self._name, desiredCount=0)
            self._ecs.delete_service(cluster=self._cluster, service=self._name)
        except ClientError as error:
            if error_code(error) not in ("ServiceNotFoundException", "ServiceNotActiveException"):
                raise

    def _capacity(self) -> Any:
        spot = self._context.config.worker.spot
        shares = [("FARGATE", 100 - spot), ("FARGATE_SPOT", spot)]
        return [{"capacityProvider": name, "weight": share} for name, share in shares if share]

    def _network(self, inputs: Inputs) -> Any:
        groups = self._context.config.network.security_groups or [inputs.get("network", "security group")]
        return {
            "subnets": self._placement.subnets,
            "securityGroups": sorted(groups),
            "assignPublicIp": "ENABLED" if self._placement.public_ip else "DISABLED",
        }

    def _describe(self) -> ServiceTypeDef | None:
        try:
            found = self._ecs.describe_services(cluster=self._cluster, services=[self._name], include=["TAGS"])
        except self._ecs.exceptions.ClusterNotFoundException:
            return None
        return found["services"][0] if found["services"] else None

    def _until_gone(self) -> None:
        def gone() -> bool:
            service = self._describe()
            return service is None or service["status"] == "INACTIVE"

        self._context.waiter.until(
            gone, step=self.step, reason="workers are ending their jobs", timeout=600, first_wait=0.2
        )

    def _until_stable(self) -> None:
        if not self._context.wait:
            return
        try:
            self._context.waiter.until(
                self._is_stable,
                step=self.step,
                reason="tasks are starting",
                timeout=ROLLOUT_SECONDS,
                first_wait=0.3,
            )
        except (TimeoutError, TimedOutError) as error:
            raise TimedOutError(
                f"{self.title}: its tasks did not start in time.",
                why=why_stopped(self._context, CONTAINER) or self._last_event(),
                hint="`asyncjobs logs` shows what the workers printed; then run `asyncjobs up` again.",
            ) from error

    def _is_stable(self) -> bool:
        service = self._describe()
        if service is None:
            return False
        if _rollout(service) == "FAILED":
            # The circuit breaker has given up: waiting longer would change nothing.
            raise ProvisionError(
                f"{self.title}: its tasks do not start.",
                why=why_stopped(self._context, CONTAINER) or self._last_event(),
                hint="`asyncjobs logs` shows what the workers printed; mend it and run `asyncjobs up` again.",
            )
        return _rollout(service) == "COMPLETED" and service["runningCount"] >= service["desiredCount"]

    def _last_event(self) -> str:
        service = self._describe()
        events = service.get("events", []) if service else []
        return events[0]["message"] if events else "ECS reports no event."


def _settings(service: ServiceTypeDef) -> dict[str, Any]:
    strategy: Any = service.get("capacityProviderStrategy", [])
    deployment: Any = service.get("deploymentConfiguration", {})
    breaker = deployment.get("deploymentCircuitBreaker", {})
    return {
        "capacity": {one["capacityProvider"]: one.get("weight", 0) for one in strategy},
        # ECS adds further settings to its answer as it learns them; these are the ones asked for.
        "deployment": {
            "deploymentCircuitBreaker": {key: breaker.get(key, False) for key in ("enable", "rollback")},
            "minimumHealthyPercent": deployment.get("minimumHealthyPercent"),
            "maximumPercent": deployment.get("maximumPercent"),
        },
        "exec": service.get("enableExecuteCommand", False),
        "tags to tasks": service.get("propagateTags", "NONE"),
    }


def _rollout(service: ServiceTypeDef) -> str:
    """How far the newest deployment is: IN_PROGRESS, COMPLETED or FAILED."""
    primary = next((one for one in service["deployments"] if one["status"] == "PRIMARY"), None)
    return primary.get("rolloutState", "COMPLETED") if primary else "IN_PROGRESS"


def _not_yet(error: Exception) -> bool:
    """What a service meets while its roles and its cluster are still being made known across AWS."""
    code, message = error_code(error), error_message(error).lower()
    if code == "ClusterNotFoundException":
        return True
    return code in ("InvalidParameterException", "ClientException") and (
        "verify that the ecs service role" in message
        or ("unable to assume" in message and "service linked role" not in message)
        or "still draining" in message
    )


_exists = has_code("InvalidParameterException", message="creation of service was not idempotent")
