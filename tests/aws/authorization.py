"""What IAM would say to each call: records the calls of every client, and decides them by a policy.

The actions that a call takes are those of the table. The resources they are checked against are worked out here from
the call itself, so that a policy whose resources are not those that the code really touches denies something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

import botocore.handlers
import pytest

from asyncjobs.names import STACK_TAG, Names
from asyncjobs.permissions.calls import CALLS, Grant

NAMES = Names("demo", "123456789012", "eu-west-1")
PREFIX = f"{NAMES.region}:{NAMES.account}"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions
MULTIPART = {"CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload"}
LOGS_THAT_TAG = {"logs:ListTagsForResource", "logs:TagResource"}
Policy = Mapping[str, Any]
Answer = tuple[Any, dict[str, Any]]


@dataclass(frozen=True)
class Request:
    """A call as it left the client.

    Args:
        path, method: Of the HTTP request; API Gateway is authorized by these.
    """

    service: str
    operation: str
    params: Mapping[str, Any]
    method: str
    path: str

    @property
    def call(self) -> tuple[str, str]:
        return self.service, self.operation


@dataclass(frozen=True)
class Need:
    """One thing that IAM is asked for a call."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


def refusal(status: int, code: str, message: str) -> Answer:
    """An answer that botocore turns into a ClientError."""
    return SimpleNamespace(status_code=status), {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }


@dataclass
class Iam:
    """Watches the calls of all sessions made while it is in place.

    Args:
        policy: Denies what it does not allow; None allows everything.
        answers: Given instead of AWS's, by operation.
    """

    policy: Policy | None = None
    answers: dict[str, Callable[[], Answer | None]] = field(default_factory=dict)
    requests: dict[str, list[Request]] = field(default_factory=dict)
    _command: str = ""

    @contextmanager
    def during(self, command: str) -> Iterator[None]:
        """Calls made within it are those of this command."""
        self._command = command
        try:
            yield
        finally:
            self._command = ""

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hooks = [("before-parameter-build.*.*", self._keep), ("before-call.*.*", self._decide)]
        monkeypatch.setattr(botocore.handlers, "BUILTIN_HANDLERS", [*botocore.handlers.BUILTIN_HANDLERS, *hooks])

    def _keep(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["asked for"] = params

    def _decide(self, model: Any, params: Mapping[str, Any], context: Mapping[str, Any], **_: Any) -> Answer | None:
        if not self._command:
            return None
        service = model.service_model.service_name
        request = Request(service, model.name, context["asked for"], params["method"], params["url_path"])
        self.requests.setdefault(self._command, []).append(request)
        if self.policy is not None:
            for need in needs(request):
                if not allowing(self.policy, need):
                    return denied(need)
        answer = self.answers.get(model.name)
        return answer() if answer else None


def denied(need: Need) -> Answer:
    message = (
        f"User: arn:aws:iam::{NAMES.account}:user/ada is not authorized to perform: {need.action} on resource: "
        f"{need.resource} because no identity-based policy allows the {need.action} action"
    )
    return refusal(403, "AccessDeniedException", message)


def allowing(policy: Policy, need: Need) -> list[tuple[int, str]]:
    """The statements of a policy, and the resource in each, that allow it."""
    context = dict(need.context)
    return [
        (number, resource)
        for number, statement in enumerate(policy["Statement"])
        if need.action in statement["Action"] and _holds(statement.get("Condition", {}), context)
        for resource in as_list(statement["Resource"])
        if fnmatchcase(need.resource, resource)
    ]


def as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _holds(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    assert set(condition) <= {"StringEquals"}
    return all(context.get(key) in as_list(values) for key, values in condition.get("StringEquals", {}).items())


def needs(request: Request) -> list[Need]:
    """What IAM checks: each action of the call, on each resource that it names.

    A call without a row takes the action of its own name.
    """
    if request.operation == "BatchExecuteStatement":
        return [need for one in request.params["Statements"] for need in _statement(one["Statement"])]
    call = CALLS.get(request.service, {}).get(request.operation)
    # SQS's batches take the right of the single call.
    name = request.operation.removesuffix("Batch")
    grants = call.grants if call else (Grant((f"{request.service}:{name}",), ()),)
    return [
        need for action in sorted({a for grant in grants for a in grant.actions}) for need in _needs(action, request)
    ]


def _statement(text: str) -> list[Need]:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html"""
    verb, table = text.split()[0].title(), text.split('"')[1]
    return [Need(f"dynamodb:PartiQL{verb}", f"arn:aws:dynamodb:{PREFIX}:table/{table}")]


def _needs(action: str, request: Request) -> list[Need]:
    if action in _SPECIAL:
        return _SPECIAL[action](request)
    service, params = action.split(":")[0], request.params
    if service == "apigateway":
        return _apigateway(action, request)
    return [Need(action, resource) for resource in _RESOURCES[service](action, params)]


def _sqs(_: str, params: Mapping[str, Any]) -> list[str]:
    name = params.get("QueueName") or params["QueueUrl"].rsplit("/", 1)[-1]
    return [f"arn:aws:sqs:{PREFIX}:{name}"]


def _dynamodb(_: str, params: Mapping[str, Any]) -> list[str]:
    return [params.get("ResourceArn") or f"arn:aws:dynamodb:{PREFIX}:table/{params['TableName']}"]


def _s3(action: str, params: Mapping[str, Any]) -> list[str]:
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    objects = [params] if "Key" in params else params.get("Delete", {}).get("Objects", [])
    return [f"{bucket}/{one['Key']}" for one in objects] or [bucket]


def _iam(_: str, params: Mapping[str, Any]) -> list[str]:
    return [NAMES.role_arn(params["RoleName"])]


def _ecr(action: str, params: Mapping[str, Any]) -> list[str]:
    if action == "ecr:GetAuthorizationToken":
        return ["*"]
    # A token names no repository, and is made for a push to the stack's own.
    names = params.get("repositoryNames") or [params.get("repositoryName", NAMES.repository)]
    return [params.get("resourceArn") or f"arn:aws:ecr:{PREFIX}:repository/{name}" for name in names]


def _logs(action: str, params: Mapping[str, Any]) -> list[str]:
    if action == "logs:DescribeLogGroups":
        return ["*"]
    group = params.get("resourceArn") or f"arn:aws:logs:{PREFIX}:log-group:{params['logGroupName']}"
    stream = params.get("logStreamName", "")
    return [group if action in LOGS_THAT_TAG else f"{group}:log-stream:{stream}"]


def _ecs(action: str, params: Mapping[str, Any]) -> list[str]:
    arn = f"arn:aws:ecs:{PREFIX}:"
    cluster = params.get("cluster") or params.get("clusterName") or next(iter(params.get("clusters", [])), "")
    found: dict[str, Callable[[], list[str]]] = {
        "ecs:DescribeServices": lambda: [f"{arn}service/{cluster}/{name}" for name in params["services"]],
        "ecs:CreateService": lambda: [f"{arn}service/{cluster}/{params['serviceName']}"],
        "ecs:UpdateService": lambda: [f"{arn}service/{cluster}/{params['service']}"],
        "ecs:DeleteService": lambda: [f"{arn}service/{cluster}/{params['service']}"],
        "ecs:ListTasks": lambda: [f"{arn}container-instance/{cluster}/*"],
        "ecs:DescribeTasks": lambda: params["tasks"],
        "ecs:RegisterTaskDefinition": lambda: [f"{arn}task-definition/{params['family']}:1"],
        "ecs:DeleteTaskDefinitions": lambda: params["taskDefinitions"],
    }
    if action == "ecs:TagResource":
        if "resourceArn" in params:
            return [params["resourceArn"]]
        # With a creation, what is being created.
        making = {"serviceName": "ecs:CreateService", "family": "ecs:RegisterTaskDefinition"}
        action = next((makes for key, makes in making.items() if key in params), "ecs:CreateCluster")
    if action in ("ecs:DescribeTaskDefinition", "ecs:ListTaskDefinitions", "ecs:DeregisterTaskDefinition"):
        return ["*"]
    return found.get(action, lambda: [f"{arn}cluster/{cluster}"])()


def _cloudwatch(_: str, params: Mapping[str, Any]) -> list[str]:
    names = params.get("AlarmNames") or [params.get("AlarmName")]
    return [params.get("ResourceARN") or f"arn:aws:cloudwatch:{PREFIX}:alarm:{name}" for name in names]


def _everything(_: str, __: Mapping[str, Any]) -> list[str]:
    return ["*"]


def _group(action: str) -> Callable[[Request], list[Need]]:
    """The journeys meet no security group but the stack's own, which has its tag."""

    def found(request: Request) -> list[Need]:
        ids = request.params.get("Resources") or [request.params["GroupId"]]
        context = ((f"aws:ResourceTag/{STACK_TAG}", NAMES.stack),)
        return [Need(action, f"arn:aws:ec2:{PREFIX}:security-group/{one}", context) for one in ids]

    return found


def _new_group(request: Request) -> list[Need]:
    tags = {tag["Key"]: tag["Value"] for one in request.params["TagSpecifications"] for tag in one["Tags"]}
    asked = tuple((f"aws:RequestTag/{key}", value) for key, value in sorted(tags.items()))
    return [
        Need("ec2:CreateSecurityGroup", f"arn:aws:ec2:{PREFIX}:security-group/*", asked),
        Need("ec2:CreateSecurityGroup", f"arn:aws:ec2:{PREFIX}:vpc/{request.params['VpcId']}"),
    ]


def _group_tags(request: Request) -> list[Need]:
    if request.operation == "CreateTags":
        return _group("ec2:CreateTags")(request)
    context = (("ec2:CreateAction", request.operation),)
    return [Need("ec2:CreateTags", f"arn:aws:ec2:{PREFIX}:security-group/*", context)]


def _target(action: str) -> Callable[[Request], list[Need]]:
    def found(request: Request) -> list[Need]:
        params = request.params
        context = {f"aws:RequestTag/{key}": value for key, value in params.get("Tags", {}).items()}
        if "ServiceNamespace" in params:
            context["application-autoscaling:service-namespace"] = params["ServiceNamespace"]
        arn = params.get("ResourceARN") or f"arn:aws:application-autoscaling:{PREFIX}:scalable-target/0a1b"
        return [Need(action, arn, tuple(sorted(context.items())))]

    return found


def _passed_roles(request: Request) -> list[Need]:
    """Every role that the call names, wherever in it: in a parameter of its own, or in a document."""
    principal = {"ecs": "ecs-tasks.amazonaws.com", "apigateway": "apigateway.amazonaws.com"}[request.service]
    roles = sorted(set(re.findall(r"arn:aws:iam::\d+:role/[\w-]+", _text(request.params))))
    assert roles
    return [Need("iam:PassRole", role, (("iam:PassedToService", principal),)) for role in roles]


def _linked_role(request: Request) -> list[Need]:
    default = "ecs.application-autoscaling.amazonaws.com"  # RegisterScalableTarget makes it without being asked
    principal = request.params.get("AWSServiceName", default)
    role = NAMES.role_arn(f"aws-service-role/{principal}/AWSServiceRole")
    return [Need("iam:CreateServiceLinkedRole", role, (("iam:AWSServiceName", principal),))]


def _apigateway(action: str, request: Request) -> list[Need]:
    """By method and path. What tags puts the tags under their own path, and changes what it tags."""
    arn = f"arn:aws:apigateway:{NAMES.region}::"
    if action == f"apigateway:{request.method}":
        return [Need(action, arn + request.path)]
    if action == "apigateway:PUT":
        return [Need(action, f"{arn}/tags/arn%3Aaws%3Aapigateway")]
    return [Need(action, request.params["resourceArn"])]


def _text(value: Any) -> str:
    """All that is in it, a document in bytes too."""
    if isinstance(value, bytes):
        return value.decode()
    return " ".join(map(_text, value.values())) if isinstance(value, dict) else str(value)


_RESOURCES: Mapping[str, Callable[[str, Mapping[str, Any]], list[str]]] = {
    "sqs": _sqs,
    "dynamodb": _dynamodb,
    "s3": _s3,
    "iam": _iam,
    "ecr": _ecr,
    "logs": _logs,
    "ecs": _ecs,
    "cloudwatch": _cloudwatch,
    "ec2": _everything,
    "application-autoscaling": _everything,
}
_TARGET_ACTIONS = (
    "RegisterScalableTarget", "PutScalingPolicy", "TagResource", "DeleteScalingPolicy", "DeregisterScalableTarget"
)  # fmt: skip
_SPECIAL: Mapping[str, Callable[[Request], list[Need]]] = {
    "iam:PassRole": _passed_roles,
    "iam:CreateServiceLinkedRole": _linked_role,
    "ec2:CreateSecurityGroup": _new_group,
    "ec2:CreateTags": _group_tags,
    "ec2:RevokeSecurityGroupIngress": _group("ec2:RevokeSecurityGroupIngress"),
    "ec2:DeleteSecurityGroup": _group("ec2:DeleteSecurityGroup"),
    **{f"application-autoscaling:{name}": _target(f"application-autoscaling:{name}") for name in _TARGET_ACTIONS},
}
