"""The three IAM roles: of the API, for starting tasks, and of the tasks themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, has_code
from asyncjobs.names import Names
from asyncjobs.provision.context import Context, policy
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list

POLICY_NAME = "asyncjobs"


@dataclass(frozen=True)
class RoleSpec:
    step: str
    name: str
    trust: dict[str, Any]
    policy: dict[str, Any]


class Role:
    """One role with one inline policy."""

    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context, spec: RoleSpec) -> None:
        self._context = context
        self._iam = context.clients.iam
        self._spec = spec
        self.step = spec.step
        self.title = f"IAM role {spec.name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {"trust": self._spec.trust, "policy": self._spec.policy}

    def read(self) -> State | None:
        try:
            role = self._iam.get_role(RoleName=self._spec.name)["Role"]
        except self._iam.exceptions.NoSuchEntityException:
            return None
        require_ours(tag_dict(role.get("Tags")), self._context.names.stack, self.title)
        return State(
            {"arn": role["Arn"]},
            {"trust": _document(role["AssumeRolePolicyDocument"]), "policy": self._policy()},
        )

    def create(self, inputs: Inputs) -> State:
        try:
            arn = self._iam.create_role(
                RoleName=self._spec.name,
                AssumeRolePolicyDocument=json.dumps(self._spec.trust),
                Description=f"asyncjobs stack {self._context.names.stack}",
                Tags=tag_list(self._context.tags),
            )["Role"]["Arn"]
        except self._iam.exceptions.EntityAlreadyExistsException:
            state = self.read()  # refuses a namesake; another `up` of this stack may just have made it
            if state is None:
                raise
            arn = state.outputs["arn"]
        return self.update(State({"arn": arn}), frozenset({"policy"}), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if "trust" in changed:
            trust = json.dumps(self._spec.trust)
            self._retry(lambda: self._iam.update_assume_role_policy(RoleName=self._spec.name, PolicyDocument=trust))
        if "policy" in changed:
            document = json.dumps(self._spec.policy)
            self._retry(
                lambda: self._iam.put_role_policy(
                    RoleName=self._spec.name, PolicyName=POLICY_NAME, PolicyDocument=document
                )
            )
        return state

    def delete(self, state: State) -> None:
        self._retry(self._delete)

    def _delete(self) -> None:
        name = self._spec.name
        try:
            # IAM refuses to delete a role that still has policies, someone else's additions among them.
            for inline in self._iam.list_role_policies(RoleName=name)["PolicyNames"]:
                self._iam.delete_role_policy(RoleName=name, PolicyName=inline)
            for attached in self._iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
                self._iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
            self._iam.delete_role(RoleName=name)
        except ClientError as error:
            if error_code(error) != "NoSuchEntity":
                raise

    def _policy(self) -> Any:
        try:
            answer = self._iam.get_role_policy(RoleName=self._spec.name, PolicyName=POLICY_NAME)
        except self._iam.exceptions.NoSuchEntityException:
            return {}
        return _document(answer["PolicyDocument"])

    def _retry(self, call: Any) -> None:
        self._context.waiter.retry(
            call,
            step=self.step,
            on=has_code("ConcurrentModification", "DeleteConflict"),
            reason="another change of the role is under way",
            timeout=60,
        )


def _document(value: Any) -> Any:
    """botocore decodes policy documents into objects; some endpoints answer plain text."""
    return json.loads(value) if isinstance(value, str) else value


def api_role(names: Names) -> RoleSpec:
    """What the API's integrations may do.

    No AWS document supports `aws:SourceAccount` or `aws:SourceArn` in the trust of a role that API Gateway assumes.
    """
    return RoleSpec(
        "api-role",
        names.api_role,
        _trust("apigateway.amazonaws.com"),
        policy(
            _allow(["sqs:SendMessage"], names.queue_arn),
            _allow(["dynamodb:GetItem"], names.table_arn),
        ),
    )


def execution_role(names: Names, *, secrets: tuple[str, ...] = ()) -> RoleSpec:
    """What ECS may do to start a task: write its logs, and read the secrets the configuration names."""
    statements = [
        _allow(["logs:CreateLogStream", "logs:PutLogEvents"], f"{names.log_group_arn}:log-stream:*"),
    ]
    managed = sorted(arn for arn in secrets if ":secretsmanager:" in arn)
    parameters = sorted(arn for arn in secrets if ":ssm:" in arn)
    if managed:
        statements.append(_allow(["secretsmanager:GetSecretValue"], managed))
    if parameters:
        statements.append(_allow(["ssm:GetParameters"], parameters))
    return RoleSpec("execution-role", names.execution_role, _ecs_trust(names), policy(*statements))


def task_role(names: Names) -> RoleSpec:
    """What a worker may do: take messages, keep records, keep payloads and results."""
    return RoleSpec(
        "task-role",
        names.task_role,
        _ecs_trust(names),
        policy(
            _allow(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], names.queue_arn),
            _allow(["dynamodb:GetItem", "dynamodb:UpdateItem"], names.table_arn),
            _allow(["s3:GetObject", "s3:PutObject"], f"{names.bucket_arn}/*"),
        ),
    )


def _allow(actions: list[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resource}


def _trust(service: str, condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    if condition:
        statement["Condition"] = condition
    return policy(statement)


def _ecs_trust(names: Names) -> dict[str, Any]:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html: against a confused deputy."""
    source = f"arn:{names.partition}:ecs:{names.region}:{names.account}:*"
    return _trust(
        "ecs-tasks.amazonaws.com",
        {"StringEquals": {"aws:SourceAccount": names.account}, "ArnLike": {"aws:SourceArn": source}},
    )
