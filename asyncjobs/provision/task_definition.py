"""The ECS task definition of the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, error_message
from asyncjobs.errors import ProvisionError
from asyncjobs.names import STACK_TAG
from asyncjobs.provision.context import Context
from asyncjobs.provision.queue import LEASE_SECONDS
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list

if TYPE_CHECKING:
    from mypy_boto3_ecs.type_defs import FailureTypeDef

# Comparing a described definition with a desired one would mean knowing every default that ECS fills in.
HASH_TAG = "asyncjobs:definition"
CONTAINER = "worker"
HEALTH_PORT = 8321  # on loopback, inside the task
STOP_SECONDS = 120  # the most Fargate allows between SIGTERM and SIGKILL
DELETE_BATCH = 10  # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteTaskDefinitions.html


Status = Literal["ACTIVE", "INACTIVE"]


class TaskDefinition:
    step = "task-definition"
    needs = ("image", "queue", "dead-letter-queue", "table", "bucket", "logs", "task-role", "execution-role")
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ecs = context.clients.ecs
        self._family = context.names.task_family
        self.title = f"ECS task definition {self._family}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {"definition": _hash(self._definition(inputs)), "tags": self._context.tags}

    def read(self) -> State | None:
        try:
            answer = self._ecs.describe_task_definition(taskDefinition=self._family, include=["TAGS"])
        except ClientError as error:
            if error_code(error) == "ClientException" and "unable to describe" in error_message(error).lower():
                return self._read_older("INACTIVE")
            raise
        tags = _tags(answer)
        if answer["taskDefinition"].get("status") != "ACTIVE":
            return self._read_older("INACTIVE")
        if tags.get(STACK_TAG) != self._context.names.stack and (ours := self._read_older("ACTIVE")) is not None:
            return ours  # somebody has registered a revision of their own in our family
        require_ours(tags, self._context.names.stack, self.title)
        return State(
            {"arn": answer["taskDefinition"]["taskDefinitionArn"]},
            {"definition": tags.get(HASH_TAG, ""), "tags": self._context.ours(tags)},
        )

    def _read_older(self, status: Status) -> State | None:
        """A revision of ours that is not the newest: there to be deleted or replaced.

        INACTIVE ones are what a `down` that was cut off has left; no service could run them.
        """
        arn = next((arn for arn in self._revisions(status) if self._is_ours(arn)), None)
        return State({"arn": arn}, {"tags": self._context.tags}) if arn else None

    def create(self, inputs: Inputs) -> State:
        definition = self._definition(inputs)
        tags = {**self._context.tags, HASH_TAG: _hash(definition)}
        answer = self._context.waiter.retry(
            lambda: self._ecs.register_task_definition(**definition, tags=tag_list(tags, key="key", value="value")),
            step=self.step,
            on=_role_is_new,
            reason="the new roles are not known to ECS yet (or passing them is not allowed)",
            timeout=60,
        )
        return State({"arn": answer["taskDefinition"]["taskDefinitionArn"]})

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        """A definition never changes: a new revision is registered, and the service moves on to it.

        Tags do change: a new revision for their sake would replace every running task.
        """
        if "definition" in changed:
            return self.create(inputs)
        self._ecs.tag_resource(
            resourceArn=state.outputs["arn"], tags=tag_list(self._context.tags, key="key", value="value")
        )
        return state

    def delete(self, state: State) -> None:
        active = [arn for arn in self._revisions("ACTIVE") if self._is_ours(arn)]
        # Before any is deregistered: an endpoint may forget the tags of what is INACTIVE.
        inactive = [arn for arn in self._revisions("INACTIVE") if self._is_ours(arn)]
        for arn in active:
            self._ecs.deregister_task_definition(taskDefinition=arn)
        ours = active + inactive
        for start in range(0, len(ours), DELETE_BATCH):
            answer = self._ecs.delete_task_definitions(taskDefinitions=ours[start : start + DELETE_BATCH])
            self._accept(answer.get("failures", []))

    def _accept(self, failures: Sequence[FailureTypeDef]) -> None:
        """A call that was repeated fails for what its first try deleted: that is gone from the list."""
        left = set(self._revisions("INACTIVE")) if failures else set()
        for failure in failures:
            if failure.get("arn") in left:
                raise ProvisionError(
                    f"{self.title}: a revision could not be deleted.",
                    why=f"{failure.get('arn')}: {failure.get('reason', '')}",
                )

    def _is_ours(self, arn: str) -> bool:
        """Whether a revision has our tag; one that is just being deleted by another `down` has none."""
        try:
            answer = self._ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
        except self._ecs.exceptions.ClientException:
            return False
        return _tags(answer).get(STACK_TAG) == self._context.names.stack

    def _revisions(self, status: Status) -> list[str]:
        pages = self._ecs.get_paginator("list_task_definitions").paginate(
            familyPrefix=self._family,
            status=status,
        )
        # The "prefix" is a whole family name on AWS; an endpoint that takes it as a prefix must not cost a neighbour.
        return [
            arn
            for page in pages
            for arn in page["taskDefinitionArns"]
            if arn.rsplit("/", 1)[-1].rsplit(":", 1)[0] == self._family
        ]

    def _definition(self, inputs: Inputs) -> dict[str, Any]:
        worker = self._context.config.worker
        architecture = inputs.get("image", "architecture") if worker.architecture == "auto" else worker.architecture
        return {
            "family": self._family,
            "requiresCompatibilities": ["FARGATE"],
            "networkMode": "awsvpc",
            "cpu": str(worker.cpu),
            "memory": str(worker.memory),
            "taskRoleArn": inputs.get("task-role", "arn"),
            "executionRoleArn": inputs.get("execution-role", "arn"),
            "runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": architecture.upper()},
            # The root file system is read-only; handlers get a place for temporary files.
            "volumes": [{"name": "tmp"}],
            "containerDefinitions": [self._container(inputs)],
        }

    def _container(self, inputs: Inputs) -> dict[str, Any]:
        container: dict[str, Any] = {
            "name": CONTAINER,
            "image": inputs.get("image", "uri"),
            "essential": True,
            "command": ["python", "-m", "asyncjobs.worker"],
            "user": "10001:10001",
            "readonlyRootFilesystem": True,
            # As PID 1 the worker would never see a SIGTERM that comes before it has a handler for it: the kernel gives
            # PID 1 no default one. An init process also buries what a handler's processes leave behind.
            "linuxParameters": {"capabilities": {"drop": ["ALL"]}, "initProcessEnabled": True},
            "mountPoints": [{"sourceVolume": "tmp", "containerPath": "/tmp", "readOnly": False}],
            "stopTimeout": STOP_SECONDS,
            # A handler may load models for minutes before its worker answers; 300 s is the most that ECS waits.
            "healthCheck": {
                "command": ["CMD", "python", "-m", "asyncjobs.worker.health"],
                "interval": 30,
                "timeout": 10,
                "retries": 3,
                "startPeriod": 300,
            },
            "environment": [
                {"name": name, "value": value} for name, value in sorted(self._environment(inputs).items())
            ],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": inputs.get("logs", "name"),
                    "awslogs-region": self._context.names.region,
                    "awslogs-stream-prefix": CONTAINER,
                    # Without it a slow log service would stop the worker itself.
                    "mode": "non-blocking",
                    "max-buffer-size": "25m",
                },
            },
        }
        secrets = self._context.config.worker.secrets
        if secrets:
            container["secrets"] = [{"name": name, "valueFrom": arn} for name, arn in sorted(secrets.items())]
        return container

    def _environment(self, inputs: Inputs) -> dict[str, str]:
        config, names = self._context.config, self._context.names
        worker = config.worker
        entry = (
            {"ASYNCJOBS_COMMAND": json.dumps(worker.command)}
            if worker.command
            else {"ASYNCJOBS_HANDLER": worker.handler or ""}
        )
        return {
            **worker.env,
            **entry,
            "ASYNCJOBS_STACK": names.stack,
            "ASYNCJOBS_QUEUE_URL": inputs.get("queue", "url"),
            "ASYNCJOBS_DEAD_LETTER_QUEUE_URL": inputs.get("dead-letter-queue", "url"),
            "ASYNCJOBS_HEALTH_PORT": str(HEALTH_PORT),
            "ASYNCJOBS_TABLE": inputs.get("table", "name"),
            "ASYNCJOBS_BUCKET": inputs.get("bucket", "name"),
            "ASYNCJOBS_CONCURRENCY": str(worker.concurrency),
            "ASYNCJOBS_ISOLATION": worker.isolation,
            "ASYNCJOBS_TIMEOUT": str(worker.timeout),
            "ASYNCJOBS_MAX_ATTEMPTS": str(worker.max_attempts),
            "ASYNCJOBS_RESULT_DAYS": str(config.retention.result_days),
            "ASYNCJOBS_LEASE_SECONDS": str(LEASE_SECONDS),
            "ASYNCJOBS_STOP_TIMEOUT": str(STOP_SECONDS - 10),
            "AWS_REGION": names.region,
            "AWS_DEFAULT_REGION": names.region,
        }


def _tags(answer: Any) -> dict[str, str]:
    return tag_dict(answer.get("tags"), key="key", value="value")


def _role_is_new(error: Exception) -> bool:
    """What ECS says of a role that IAM has not told it of yet, which for PassRole looks like a missing permission."""
    code, message = error_code(error), error_message(error).lower()
    return (code == "ClientException" and "role is not valid" in message) or (
        code == "AccessDeniedException" and "iam:passrole" in message
    )


def _hash(definition: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
