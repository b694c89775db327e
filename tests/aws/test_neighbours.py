"""Whoever else is at work in the account: other `up`s of the stack, other stacks, and things that are not ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from crash import CLOCK, NAMES, SlowClock, account, differences, down, inventory, resources, undisturbed, up
from sessions import plain_session, session

from asyncjobs.errors import AsyncJobsError
from asyncjobs.names import Names
from asyncjobs.progress import NullProgress
from asyncjobs.provision.engine import Engine
from asyncjobs.provision.plan import plan_up, read_all

PAIRS = int(os.environ.get("PAIRS", "1"))
OTHER_REGION = "us-east-1"
OTHER_ACCOUNT = "999999999999"


@pytest.fixture(autouse=True)
def empty_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with account(monkeypatch):
        yield


@pytest.fixture(scope="module")
def clean() -> Any:
    return undisturbed()


def at_once(*works: Callable[[], object]) -> list[Exception]:
    """Do all at the same time; the errors."""
    errors: list[Exception] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("pair", range(PAIRS))
def test_two_ups_at_once_make_one_of_everything(clean: Any, pair: int):
    stacks = [resources(session(), clock=SlowClock()) for _ in range(2)]
    # Both have seen an empty account before either makes anything: there is no closer race.
    plans = [plan_up(stack, read_all(stack)) for stack in stacks]
    assert at_once(*(lambda plan=plan: Engine(NullProgress()).up(plan) for plan in plans)) == []
    assert differences(clean) == {}
    # Each registered the same task definition: the service may run the earlier of the two revisions.
    assert up(plain_session()).changed in ([], ["service"])
    assert up(plain_session()).changed == []
    down(plain_session())
    assert inventory() == {}


def test_up_and_down_at_once_end_in_words_and_converge(clean: Any):
    up(plain_session())
    errors = at_once(lambda: up(plain_session(), retention={"log_days": 90}), lambda: down(plain_session()))
    assert all(isinstance(error, AsyncJobsError) for error in errors), errors
    CLOCK.sleep(60)
    up(plain_session())
    assert differences(clean) == {}
    down(plain_session())
    assert inventory() == {}


def make_decoys(of: boto3.session.Session, names: Names) -> None:
    """Of what AWS allows two of one name: untagged ones of ours. Of the rest: untagged ones that begin like ours."""
    aws = of.client
    aws("apigateway").create_rest_api(name=names.rest_api)
    aws("apigateway").create_api_key(name=names.api_key)
    aws("apigateway").create_usage_plan(name=names.usage_plan)
    vpc = aws("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    aws("ec2").create_security_group(GroupName=names.security_group, Description="another", VpcId=vpc)
    aws("ecs").register_task_definition(
        family=names.task_family, containerDefinitions=[{"name": "x", "image": "x", "memory": 64}]
    )


def make_namesakes(of: boto3.session.Session, base: str, log_group: str) -> None:
    aws = of.client
    aws("sqs").create_queue(QueueName=base)
    aws("dynamodb").create_table(
        TableName=base,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    aws("ecr").create_repository(repositoryName=base)
    aws("ecs").create_cluster(clusterName=base)
    aws("logs").create_log_group(logGroupName=log_group)
    aws("cloudwatch").put_metric_alarm(
        AlarmName=f"{base}-busy",
        Namespace="x",
        MetricName="x",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )


def test_down_of_one_stack_touches_neither_another_nor_what_nobody_tagged():
    other = Names("crash-2", NAMES.account, NAMES.region)
    make_namesakes(plain_session(), f"{NAMES.base}x", f"{NAMES.log_group}x")
    make_namesakes(plain_session(OTHER_REGION), NAMES.base, NAMES.log_group)
    up(plain_session(), other)
    others = inventory(), inventory(plain_session(OTHER_REGION))
    up(plain_session())
    # Only now: had they been there before, `up` would have refused them.
    make_decoys(plain_session(), NAMES)
    down(plain_session())
    assert inventory(plain_session(OTHER_REGION)) == others[1]
    left = inventory()
    decoys = {kind: [name for name in names if name not in others[0].get(kind, [])] for kind, names in left.items()}
    assert {kind: names for kind, names in decoys.items() if names} == {
        "security groups": [NAMES.security_group],
        "task definitions": [f"ACTIVE arn:aws:ecs:{NAMES.region}:{NAMES.account}:task-definition/{NAMES.task_family}"],
        "apis": [NAMES.rest_api],
        "keys": [NAMES.api_key],
        "usage plans": [NAMES.usage_plan],
    }
    assert all(set(names) <= set(left.get(kind, [])) for kind, names in others[0].items())
    assert up(plain_session(), other).changed == []


def test_the_same_stack_in_two_regions():
    there = Names(NAMES.stack, NAMES.account, OTHER_REGION)
    up(plain_session())
    up(plain_session(OTHER_REGION), there)
    down(plain_session())
    assert up(plain_session(OTHER_REGION), there).changed == []
    down(plain_session(OTHER_REGION), there)
    assert (inventory(), inventory(plain_session(OTHER_REGION))) == ({}, {})


def test_the_same_stack_in_two_accounts():
    role = (
        plain_session()
        .client("sts")
        .assume_role(RoleArn=f"arn:aws:iam::{OTHER_ACCOUNT}:role/deployer", RoleSessionName="test")["Credentials"]
    )

    other = session(NAMES.region, (role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"]))
    there = Names(NAMES.stack, OTHER_ACCOUNT, NAMES.region)
    up(plain_session())
    up(other, there)
    down(plain_session())
    assert inventory() == {}
    assert up(other, there).changed == []
    down(other, there)
    assert inventory(other) == {}
