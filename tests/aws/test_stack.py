"""A whole stack against moto: what `up` makes, that it converges, and that `down` leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from asyncjobs.aws import Clients
from asyncjobs.errors import ConfigError
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.engine import Engine, Report
from asyncjobs.provision.plan import Plan, plan_down, plan_up, read_all
from asyncjobs.provision.resource import NotOursError, Resource

NAMES = Names("demo", "123456789012", "eu-west-1")
MakeStack = Callable[..., list[Resource]]


def plan(resources: list[Resource]) -> Plan:
    return plan_up(resources, read_all(resources))


def up(resources: list[Resource]) -> Report:
    return Engine(RecordingProgress()).up(plan(resources))


def down(resources: list[Resource]) -> None:
    Engine(RecordingProgress()).down(plan_down(resources, read_all(resources)))


def left(resources: list[Resource]) -> list[str]:
    return [step for step, state in read_all(resources).items() if state is not None and step != "image"]


def test_up_then_up_then_down(make_stack: MakeStack):
    report = up(make_stack())
    assert report.outputs["api"]["url"].endswith("/v1")
    assert len(report.outputs["api-key"]["key"]) >= 20
    second = up(make_stack())
    assert second.changed == []
    assert second.outputs["api"] == report.outputs["api"]
    assert second.outputs["api-key"]["key"] == report.outputs["api-key"]["key"]
    down(make_stack())
    assert left(make_stack()) == []


def test_a_plan_writes_nothing(make_stack: MakeStack):
    made = plan(make_stack())
    assert {step.action for step in made.steps if step.resource.step != "image"} == {"create"}
    assert left(make_stack()) == []


@pytest.mark.parametrize(
    ("section", "value", "changed"),
    [
        ("worker", {"handler": "handler:handle", "memory": 2048}, {"task-definition", "service"}),
        ("worker", {"handler": "handler:handle", "env": {"X": "1"}}, {"task-definition", "service"}),
        ("worker", {"handler": "handler:handle", "concurrency": 4}, {"task-definition", "service", "scaling"}),
        ("worker", {"handler": "handler:handle", "max_attempts": 5}, {"queue", "task-definition", "service"}),
        ("scaling", {"min": 1, "max": 4}, {"scaling"}),
        ("retention", {"log_days": 90}, {"logs"}),
        ("retention", {"queue_days": 7}, {"api", "bucket", "queue"}),
        ("api", {"rate": 7}, {"api", "api-key"}),
        ("api", {"quota": 5}, {"api-key"}),
    ],
)
def test_a_change_of_configuration_changes_only_what_it_must(
    make_stack: MakeStack, section: str, value: dict[str, Any], changed: set[str]
):
    up(make_stack())
    assert set(up(make_stack(**{section: value})).changed) == changed
    assert up(make_stack(**{section: value})).changed == []


def test_a_new_image_rolls_the_service_and_nothing_else(make_stack: MakeStack, clients: Clients):
    up(make_stack())
    other = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/asyncjobs@sha256:{'1' * 64}"
    assert set(up(make_stack(image=other)).changed) == {"task-definition", "service"}
    service = clients.ecs.describe_services(cluster=NAMES.cluster, services=["worker"])["services"][0]
    assert service["taskDefinition"].endswith(":2")


def test_another_stage_would_change_every_url_and_is_refused(make_stack: MakeStack):
    up(make_stack())
    with pytest.raises(ConfigError, match="stage cannot be changed from 'v1' to 'v2'"):
        plan(make_stack(api={"stage": "v2"}))


def test_two_stacks_do_not_touch_each_other(make_stack: MakeStack):
    first, second = up(make_stack("one")), up(make_stack("two"))
    assert first.outputs["api"]["id"] != second.outputs["api"]["id"]
    down(make_stack("one"))
    assert left(make_stack("one")) == []
    assert up(make_stack("two")).changed == []


def test_a_stack_whose_name_begins_like_anothers_keeps_its_own(make_stack: MakeStack):
    up(make_stack("a"))
    up(make_stack("a-b"))
    down(make_stack("a"))
    assert up(make_stack("a-b")).changed == []


def make_queue(clients: Clients) -> None:
    clients.sqs.create_queue(QueueName=NAMES.queue)


def make_table(clients: Clients) -> None:
    clients.dynamodb.create_table(
        TableName=NAMES.table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def make_role(clients: Clients) -> None:
    clients.iam.create_role(RoleName=NAMES.task_role, AssumeRolePolicyDocument="{}")


def make_bucket(clients: Clients) -> None:
    where = {"LocationConstraint": "eu-west-1"}
    clients.s3.create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration=where)  # type: ignore[arg-type]


def make_api(clients: Clients) -> None:
    clients.apigateway.create_rest_api(name=NAMES.rest_api)


def make_group(clients: Clients) -> None:
    clients.logs.create_log_group(logGroupName=NAMES.log_group)


def make_cluster(clients: Clients) -> None:
    clients.ecs.create_cluster(clusterName=NAMES.cluster)


@pytest.mark.parametrize(
    "make",
    [make_queue, make_table, make_role, make_bucket, make_api, make_group, make_cluster],
    ids=lambda m: m.__name__,
)
def test_a_namesake_without_our_tag_is_refused_and_named(make_stack: MakeStack, clients: Clients, make: Any):
    make(clients)
    with pytest.raises(NotOursError) as caught:
        plan(make_stack())
    assert "demo" in caught.value.what
    with pytest.raises(NotOursError):
        read_all(make_stack())


def test_what_security_asks_of_each_resource(make_stack: MakeStack, clients: Clients):
    report = up(make_stack())
    queue = clients.sqs.get_queue_attributes(QueueUrl=report.outputs["queue"]["url"], AttributeNames=["All"])
    attributes = queue["Attributes"]
    assert attributes["SqsManagedSseEnabled"] == "true"
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"] == NAMES.dead_letter_queue_arn
    denied = json.loads(attributes["Policy"])["Statement"][0]
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    blocks = clients.s3.get_public_access_block(Bucket=NAMES.bucket)["PublicAccessBlockConfiguration"]
    assert all(blocks.values())
    recovery = clients.dynamodb.describe_continuous_backups(TableName=NAMES.table)["ContinuousBackupsDescription"]
    assert recovery["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    definition = clients.ecs.describe_task_definition(taskDefinition=NAMES.task_family)["taskDefinition"]
    container = definition["containerDefinitions"][0]
    assert container["user"] == "10001:10001"
    assert container["readonlyRootFilesystem"]
    assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
    assert container["stopTimeout"] == 120


@pytest.mark.parametrize("role", [NAMES.api_role, NAMES.task_role, NAMES.execution_role])
def test_no_role_may_do_everything_or_to_everything(make_stack: MakeStack, clients: Clients, role: str):
    up(make_stack())
    document: Any = clients.iam.get_role_policy(RoleName=role, PolicyName="asyncjobs")["PolicyDocument"]
    for statement in document["Statement"]:
        assert not [action for action in statement["Action"] if "*" in action]
        assert statement["Resource"] != "*" or statement["Action"] == ["ecr:GetAuthorizationToken"]
    trust: Any = clients.iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
    if role != NAMES.api_role:
        assert trust["Statement"][0]["Condition"]["StringEquals"] == {"aws:SourceAccount": NAMES.account}


def test_down_empties_a_bucket_first(make_stack: MakeStack, clients: Clients):
    up(make_stack())
    clients.s3.delete_bucket_policy(Bucket=NAMES.bucket)  # moto denies what the policy denies only without TLS
    for number in range(3):
        clients.s3.put_object(Bucket=NAMES.bucket, Key=f"results/{number}", Body=b"x")
    down(make_stack())
    assert left(make_stack()) == []


def test_without_a_key_there_is_no_key(make_stack: MakeStack):
    report = up(make_stack(api={"auth": "none"}))
    assert "api-key" not in report.outputs


def test_down_needs_no_configuration(make_stack: MakeStack):
    """What `down` knows is only the stack's name; what `up` was told does not matter."""
    up(make_stack(retention={"log_days": 90}, scaling={"max": 3}, worker={"command": ["./run"]}))
    down(make_stack())
    assert left(make_stack()) == []
