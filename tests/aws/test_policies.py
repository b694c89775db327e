"""Every policy that `up` makes: what parliament says of it, and that it allows what is needed and nothing else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs.aws import Clients
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.engine import Engine
from asyncjobs.provision.given_image import ecr_repository_arn
from asyncjobs.provision.plan import plan_up, read_all
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.roles import api_role, execution_role, task_role

with warnings.catch_warnings():
    # Importing it leaves two files open, and its regular expressions are not raw strings.
    warnings.simplefilter("ignore")
    import parliament

NAMES = Names("demo", "123456789012", "eu-west-1")
MakeStack = Callable[..., list[Resource]]
REPOSITORIES = "arn:aws:ecr:eu-west-1:123456789012:repository"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"


def up(resources: list[Resource]) -> None:
    Engine(RecordingProgress()).up(plan_up(resources, read_all(resources)))


@pytest.fixture
def policies(make_stack: MakeStack, clients: Clients) -> dict[str, Any]:
    """Every policy as the account has it after `up`, by what it is of."""
    secrets = {"DB": f"{SECRET}:password::", "KEY": "arn:aws:ssm:eu-west-1:123456789012:parameter/key"}
    up(make_stack(worker={"handler": "handler:handle", "secrets": secrets}))
    found: dict[str, Any] = {}
    for role in clients.iam.list_roles()["Roles"]:
        name = role["RoleName"]
        if not name.startswith(NAMES.base):
            continue
        found[f"trust of {name}"] = role["AssumeRolePolicyDocument"]
        assert clients.iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == []
        for inline in clients.iam.list_role_policies(RoleName=name)["PolicyNames"]:
            document = clients.iam.get_role_policy(RoleName=name, PolicyName=inline)["PolicyDocument"]
            found[f"policy of {name}"] = document
    for url in clients.sqs.list_queues()["QueueUrls"]:
        attributes = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]
        found[f"queue {url}"] = json.loads(attributes["Policy"])
    found["bucket"] = json.loads(clients.s3.get_bucket_policy(Bucket=NAMES.bucket)["Policy"])
    return found


def test_parliament_finds_only_what_a_token_needs(policies: dict[str, Any]):
    assert len(policies) == 9
    found = {}
    for name, document in policies.items():
        if name.startswith("trust"):
            # It knows no trust policies: these are about the role itself, and IAM refuses to have that said in them.
            document["Statement"][0]["Resource"] = NAMES.role_arn("any")
        analyzed = parliament.analyze_policy_string(json.dumps(document))
        found |= {(name, finding.issue): str(finding) for finding in analyzed.findings}
    assert found == {}


def allowed(document: Any) -> list[Any]:
    return [statement for statement in document["Statement"] if statement["Effect"] == "Allow"]


def test_no_action_is_a_pattern_and_only_the_token_is_for_all(policies: dict[str, Any]):
    for document in policies.values():
        for statement in allowed(document):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert not [action for action in actions if "*" in action]
            if statement.get("Resource") == "*":
                assert actions == ["ecr:GetAuthorizationToken"]


def test_what_each_role_may_do():
    def rights(document: Any) -> dict[str, Any]:
        return {action: one["Resource"] for one in document["Statement"] for action in one["Action"]}

    assert rights(api_role(NAMES).policy) == {
        "sqs:SendMessage": NAMES.queue_arn,
        **dict.fromkeys(("dynamodb:GetItem", "dynamodb:UpdateItem"), NAMES.table_arn),
    }
    queues, table = [NAMES.queue_arn, NAMES.dead_letter_queue_arn], NAMES.table_arn
    assert rights(task_role(NAMES).policy) == {
        **{f"sqs:{action}": queues for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")},
        **dict.fromkeys(("dynamodb:UpdateItem", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate"), table),
        **dict.fromkeys(("s3:GetObject", "s3:PutObject"), f"{NAMES.bucket_arn}/*"),
        "ecs:UpdateTaskProtection": "arn:aws:ecs:eu-west-1:123456789012:task/asyncjobs-demo/*",
    }
    pull = ("ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage")
    streams = f"{NAMES.log_group_arn}:log-stream:*"
    assert rights(execution_role(NAMES).policy) == {
        "ecr:GetAuthorizationToken": "*",
        **{action: [NAMES.repository_arn] for action in pull},
        **dict.fromkeys(("logs:CreateLogStream", "logs:PutLogEvents"), streams),
    }


def test_a_given_image_may_be_pulled_from_where_it_is():
    image = "999999999999.dkr.ecr.us-east-1.amazonaws.com/team/worker:1"
    pull = execution_role(NAMES, image=image).policy["Statement"][1]
    assert pull["Resource"] == [
        "arn:aws:ecr:eu-west-1:123456789012:repository/asyncjobs-demo",
        "arn:aws:ecr:us-east-1:999999999999:repository/team/worker",
    ]


@pytest.mark.parametrize(
    ("image", "arn"),
    [
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b@sha256:0",
            "arn:aws:ecr:eu-west-1:123456789012:repository/a/b",
        ),
        ("docker.io/library/python:3.12", ""),
        ("public.ecr.aws/docker/library/python:3.12", ""),
        ("evil.example/123456789012.dkr.ecr.eu-west-1.amazonaws.com/a", ""),
        ("", ""),
    ],
)
def test_the_repository_of_an_image(image: str, arn: str):
    assert ecr_repository_arn(image, "aws") == arn


def test_of_a_secret_only_the_secret_itself_may_be_read():
    secrets = (f"{SECRET}:password::", f"{SECRET}:user::", SECRET)
    statement = execution_role(NAMES, secrets=secrets).policy["Statement"][-1]
    assert statement["Resource"] == [SECRET]


def test_the_ecs_roles_trust_this_account_only():
    for role in (task_role(NAMES), execution_role(NAMES)):
        condition = role.trust["Statement"][0]["Condition"]
        assert condition["StringEquals"] == {"aws:SourceAccount": NAMES.account}
        assert condition["ArnLike"] == {"aws:SourceArn": "arn:aws:ecs:eu-west-1:123456789012:*"}
