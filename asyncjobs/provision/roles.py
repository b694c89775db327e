"""The three IAM roles: of the API, for starting tasks, and of the tasks themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from asyncjobs.aws import has_code
from asyncjobs.names import Names
from asyncjobs.provision.context import Context, differing, policy
from asyncjobs.provision.given_image import ecr_repository_arn
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list

T = TypeVar("T")

POLICY_NAME = "asyncjobs"
# arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME, before what ECS adds to it.
SECRET_ARN_PARTS = 7


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
        return {"trust": self._spec.trust, "policy": self._spec.policy, "tags": self._context.tags}

    def read(self) -> State | None:
        try:
            role = self._iam.get_role(RoleName=self._spec.name)["Role"]
        except self._iam.exceptions.NoSuchEntityException:
            return None
        tags = tag_dict(role.get("Tags"))
        require_ours(tags, self._context.names.stack, self.title)
        return State(
            {"arn": role["Arn"]},
            {
                "trust": _document(role["AssumeRolePolicyDocument"]),
                "policy": self._policy(),
                "tags": self._context.ours(tags),
            },
        )

    def create(self, inputs: Inputs) -> State:
        def call() -> str:
            return self._iam.create_role(
                RoleName=self._spec.name,
                AssumeRolePolicyDocument=json.dumps(self._spec.trust),
                Description=f"asyncjobs stack {self._context.names.stack}",
                Tags=tag_list(self._context.tags),
            )["Role"]["Arn"]

        try:
            arn = self._retry(call)
        except self._iam.exceptions.EntityAlreadyExistsException:
            state = self.read()  # refuses a namesake; another `up` of this stack may just have made it
            if state is None:
                raise
            return self.update(state, differing(self.desired(inputs), state), inputs)
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
        if "tags" in changed:
            tags = tag_list(self._context.tags)
            self._retry(lambda: self._iam.tag_role(RoleName=self._spec.name, Tags=tags))
        return state

    def delete(self, state: State) -> None:
        """IAM refuses to delete a role that still has policies, someone else's additions among them."""
        iam, name = self._iam, self._spec.name
        try:
            inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
            attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        except iam.exceptions.NoSuchEntityException:
            return
        for policy_name in inline:
            self._unless_gone(partial(iam.delete_role_policy, RoleName=name, PolicyName=policy_name))
        for other in attached:
            self._unless_gone(partial(iam.detach_role_policy, RoleName=name, PolicyArn=other["PolicyArn"]))
        self._unless_gone(lambda: iam.delete_role(RoleName=name))

    def _unless_gone(self, call: Callable[[], object]) -> None:
        """Each by itself: a repeated call finds gone what its first try deleted, and the rest is still there."""
        try:
            self._retry(call)
        except self._iam.exceptions.NoSuchEntityException:
            return

    def _policy(self) -> Any:
        try:
            answer = self._iam.get_role_policy(RoleName=self._spec.name, PolicyName=POLICY_NAME)
        except self._iam.exceptions.NoSuchEntityException:
            return {}
        return _document(answer["PolicyDocument"])

    def _retry(self, call: Callable[[], T]) -> T:
        return self._context.waiter.retry(
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
            _allow(["dynamodb:GetItem", "dynamodb:UpdateItem"], names.table_arn),
        ),
    )


def execution_role(names: Names, *, image: str = "", secrets: tuple[str, ...] = ()) -> RoleSpec:
    """What ECS may do to start a task: pull its image, write its logs, read the secrets the configuration names.

    Args:
        image: The URI of an image that was given; it may be in another repository of ECR than the stack's.
        secrets: What ECS takes as `valueFrom`: ARNs, for Secrets Manager with a JSON key and version after them.
    """
    given = ecr_repository_arn(image, names.partition)
    statements = [
        # A token is for the whole registry; this action knows no resource:
        # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html
        _allow(["ecr:GetAuthorizationToken"], "*"),
        _allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"],
            sorted({names.repository_arn, given} - {""}),
        ),
        _allow(["logs:CreateLogStream", "logs:PutLogEvents"], f"{names.log_group_arn}:log-stream:*"),
    ]
    managed = sorted({":".join(arn.split(":")[:SECRET_ARN_PARTS]) for arn in secrets if ":secretsmanager:" in arn})
    parameters = sorted({arn for arn in secrets if ":ssm:" in arn})
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
            # The dead-letter queue too: workers end the jobs whose messages come there.
            _allow(
                ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
                [names.queue_arn, names.dead_letter_queue_arn],
            ),
            # PartiQL: many conditional writes in one call.
            _allow(["dynamodb:UpdateItem", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate"], names.table_arn),
            # PutObject covers multipart uploads; one that breaks off is ended by the bucket's lifecycle.
            _allow(["s3:GetObject", "s3:PutObject"], f"{names.bucket_arn}/*"),
            _allow(["ecs:UpdateTaskProtection"], names.tasks_arn),
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
