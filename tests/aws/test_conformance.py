"""What every resource of a stack must do, whatever it is: a new one gets these tests by being listed in the stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from asyncjobs.aws import Clients
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.engine import Engine
from asyncjobs.provision.plan import plan_up, read_all
from asyncjobs.provision.resource import Inputs, Resource, State

NAMES = Names("demo", "123456789012", "eu-west-1")
MakeStack = Callable[..., list[Resource]]
TAGS = {"team": "search"}
# Revisions are numbered, so another registration of the same definition is another one.
NUMBERED = {"task-definition": {"arn"}}


def drift_role(clients: Clients, name: str) -> None:
    statement = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    clients.iam.put_role_policy(RoleName=name, PolicyName="asyncjobs", PolicyDocument=document)


def drift_queue(clients: Clients, name: str) -> None:
    url = clients.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    clients.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})


def drift_table(clients: Clients) -> None:
    clients.dynamodb.update_table(
        TableName=NAMES.table, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-status"}}]
    )


def drift_network(clients: Clients) -> None:
    filters: Any = [{"Name": "group-name", "Values": [NAMES.security_group]}]
    group = clients.ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]["GroupId"]
    rule: Any = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    clients.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])


def drift_cluster(clients: Clients) -> None:
    clients.ecs.put_cluster_capacity_providers(
        cluster=NAMES.cluster, capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[]
    )


def drift_definition(clients: Clients) -> None:
    arn = clients.ecs.describe_task_definition(taskDefinition=NAMES.task_family)["taskDefinition"]["taskDefinitionArn"]
    clients.ecs.tag_resource(resourceArn=arn, tags=[{"key": "asyncjobs:definition", "value": "another"}])


def drift_api(clients: Clients) -> None:
    api = clients.apigateway.get_rest_apis()["items"][0]["id"]
    faster: Any = [{"op": "replace", "path": "/*/*/throttling/rateLimit", "value": "9999"}]
    clients.apigateway.update_stage(restApiId=api, stageName="v1", patchOperations=faster)


def drift_key(clients: Clients) -> None:
    plan = clients.apigateway.get_usage_plans()["items"][0]["id"]
    more: Any = [{"op": "replace", "path": "/quota/limit", "value": "9"}]
    clients.apigateway.update_usage_plan(usagePlanId=plan, patchOperations=more)


DRIFTS: Mapping[str, tuple[str, Callable[[Clients], Any]]] = {
    "api-role": ("policy", lambda clients: drift_role(clients, NAMES.api_role)),
    "task-role": ("policy", lambda clients: drift_role(clients, NAMES.task_role)),
    "execution-role": ("policy", lambda clients: drift_role(clients, NAMES.execution_role)),
    "repository": (
        "tag mutability",
        lambda clients: clients.ecr.put_image_tag_mutability(
            repositoryName=NAMES.repository, imageTagMutability="MUTABLE"
        ),
    ),
    "table": ("listing index", drift_table),
    "dead-letter-queue": ("VisibilityTimeout", lambda clients: drift_queue(clients, NAMES.dead_letter_queue)),
    "queue": ("VisibilityTimeout", lambda clients: drift_queue(clients, NAMES.queue)),
    "bucket": ("policy", lambda clients: clients.s3.delete_bucket_policy(Bucket=NAMES.bucket)),
    "logs": (
        "retention in days",
        lambda clients: clients.logs.delete_retention_policy(logGroupName=NAMES.log_group),
    ),
    "network": ("inbound rules", drift_network),
    "cluster": ("capacity providers", drift_cluster),
    "task-definition": ("definition", drift_definition),
    "service": (
        "exec",
        lambda clients: clients.ecs.update_service(
            cluster=NAMES.cluster, service=NAMES.service, enableExecuteCommand=True
        ),
    ),
    "scaling": ("idle alarm", lambda clients: clients.cloudwatch.delete_alarms(AlarmNames=[f"{NAMES.base}-idle"])),
    "api": ("rate", drift_api),
    "api-key": ("monthly quota", drift_key),
}


class Bench:
    """One resource, with all it needs in place."""

    def __init__(self, make: MakeStack, step: str) -> None:
        stack = make()
        self.resource = next(one for one in stack if one.step == step)
        needed = self._needed(stack, step)
        before = [one for one in stack if one.step in needed]
        report = Engine(RecordingProgress()).up(plan_up(before, read_all(before)))
        self.inputs = Inputs(report.outputs)

    def _needed(self, stack: list[Resource], step: str) -> set[str]:
        needs = {one.step: one.needs for one in stack}
        found: set[str] = set()
        waiting = list(needs[step])
        while waiting:
            need = waiting.pop()
            found.add(need)
            waiting += needs[need]
        return found

    def read(self) -> State:
        state = self.resource.read()
        assert state is not None
        return state

    def differs(self, state: State) -> frozenset[str]:
        desired = self.resource.desired(self.inputs)
        assert desired is not None
        return frozenset(key for key, value in desired.items() if state.properties.get(key) != value)


def steps() -> list[str]:
    """Every step of the stack. Listed by name so that pytest can: `test_all_are_here` checks that it is all of them."""
    return list(DRIFTS)


@pytest.fixture(params=steps())
def bench(request: pytest.FixtureRequest, make_stack: MakeStack) -> Bench:
    return Bench(make_stack, request.param)


def test_all_are_here(make_stack: MakeStack):
    assert {one.step for one in make_stack()} - {"image"} == set(DRIFTS)


def test_it_is_made_found_mended_and_deleted(bench: Bench, clients: Clients):
    resource = bench.resource
    assert resource.read() is None
    made = resource.create(bench.inputs)
    found = bench.read()
    assert bench.differs(found) == frozenset()
    assert made.outputs.items() <= found.outputs.items()

    key, drift = DRIFTS[resource.step]
    drift(clients)
    drifted = bench.read()
    assert key in bench.differs(drifted)
    resource.update(drifted, bench.differs(drifted), bench.inputs)
    assert bench.differs(bench.read()) == frozenset()

    last = bench.read()
    resource.delete(last)
    assert resource.read() is None
    resource.delete(last)


def test_creating_again_changes_nothing(bench: Bench):
    bench.resource.create(bench.inputs)
    first = bench.read()
    bench.resource.create(bench.inputs)
    second = bench.read()
    assert second.properties == first.properties
    numbered = NUMBERED.get(bench.resource.step, set())
    assert {**second.outputs, **dict.fromkeys(numbered)} == {**first.outputs, **dict.fromkeys(numbered)}
    bench.resource.delete(second)
    assert bench.resource.read() is None


def test_tags_are_added_and_overwritten_and_others_are_left(make_stack: MakeStack):
    """All at once: a new tag on a whole stack starts no task, replaces nothing, and a second time is no change."""
    stack = make_stack()
    Engine(RecordingProgress()).up(plan_up(stack, read_all(stack)))
    before = read_all(stack)
    tagged = make_stack(tags=TAGS)
    plan = plan_up(tagged, read_all(tagged))
    assert {step.resource.step for step in plan.steps if step.action == "keep"} == {"image"}
    Engine(RecordingProgress()).up(plan)
    after = read_all(tagged)
    for step, state in after.items():
        known = before[step]
        assert state is not None
        assert known is not None
        assert state.outputs == known.outputs, step
        assert {**state.properties, "tags": 0} == {**known.properties, "tags": 0}, step
        if step != "image":
            assert state.properties["tags"] == {**TAGS, **NAMES.tags}, step
    again = plan_up(tagged, after)
    assert again.changes == ()
    # Those without the tag in their configuration do not look at it, and do not take it away.
    assert plan_up(stack, read_all(stack)).changes == ()
    assert read_all(tagged)["table"] == after["table"]
