"""Kills `up` or `down` at a chosen AWS call, and looks at what is then there in the whole account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol

import boto3
import pytest
from fake_clock import FakeClock
from moto import mock_aws
from moto_mends import mend
from sessions import ACCOUNT, REGION, plain_session

from asyncjobs.aws import Clients, Waiter
from asyncjobs.config import Config
from asyncjobs.names import Names
from asyncjobs.progress import NullProgress, Progress
from asyncjobs.provision.context import Context
from asyncjobs.provision.engine import Engine, Report
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.plan import plan_down, plan_up, read_all
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.stack import stack_resources

NAMES = Names("crash", ACCOUNT, REGION)
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{NAMES.repository}@sha256:{'0' * 64}"
# One for all accounts and runs: a lease that a killed `up` left runs out while the next one waits.
CLOCK = FakeClock()
When = Literal["before", "after"]


class Clock(Protocol):
    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SlowClock:
    """For two runs at once: under the fake clock the one that waits would use up the other's lease while it works."""

    now = staticmethod(time.time)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.1))


class Killed(BaseException):
    """The process is gone: nothing catches this."""


class Killer:
    """Counts the calls of a session's clients and kills the process at one of them.

    Args:
        at: The number of the call, from 1 on; 0 kills never.
        when: Before the call reaches AWS, or after it has taken effect and before its answer is seen.
    """

    def __init__(self, session: boto3.session.Session, at: int = 0, when: When = "before") -> None:
        self.calls: list[str] = []
        self._at = at
        self._when = when
        self.dead = False
        # One call at a time, in whatever order the threads come: moto's own state is not made for threads.
        self._lock = threading.Lock()
        session.events.register_first("before-call.*.*", self._before)
        session.events.register_last("after-call.*.*", self._after)
        session.events.register_last("after-call-error.*.*", self._failed)

    def _before(self, model: Any, **_: Any) -> None:
        self._lock.acquire()
        self.calls.append(model.name)
        if self.dead or (self._when == "before" and len(self.calls) == self._at):
            self._kill()

    def _after(self, **_: Any) -> None:
        if self._when == "after" and len(self.calls) == self._at:
            self._kill()
        self._lock.release()

    def _failed(self, **_: Any) -> None:
        self._lock.release()

    def _kill(self) -> None:
        self.dead = True
        self._lock.release()
        raise Killed


@contextmanager
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty account."""
    with monkeypatch.context() as patch, mock_aws():
        mend(partial(patch.setattr, raising=False))
        patch.setenv("MOTO_ECS_SERVICE_RUNNING", "1")
        yield


def resources(
    of: boto3.session.Session,
    names: Names = NAMES,
    *,
    progress: Progress | None = None,
    clock: Clock = CLOCK,
    **sections: Any,
) -> list[Resource]:
    context = Context(
        Clients(of),
        names,
        Waiter(progress or NullProgress(), clock.sleep, clock.now),
        Config.model_validate({"worker": {"handler": "handler:handle"}, **sections}),
        lambda api, stage: f"https://{api}.execute-api.{REGION}.amazonaws.com/{stage}",
        wait=False,
        now=clock.now,
    )
    return stack_resources(context, GivenImage(IMAGE, "x86_64"))


def up(of: boto3.session.Session, names: Names = NAMES, **sections: Any) -> Report:
    stack = resources(of, names, **sections)
    return Engine(NullProgress()).up(plan_up(stack, read_all(stack)))


def down(of: boto3.session.Session, names: Names = NAMES) -> None:
    stack = resources(of, names)
    Engine(NullProgress()).down(plan_down(stack, read_all(stack, on_namesake=lambda _: None)))


def properties() -> dict[str, Mapping[str, Any]]:
    """What the stack's resources are like, by our own reading; generated ids and revisions left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for resource in resources(plain_session()):
        state = resource.read()
        if state is not None and resource.step != "image":
            left_out = {"task definition", "network", "stages", "vpc"}
            found[resource.step] = {key: value for key, value in state.properties.items() if key not in left_out}
    return found


def undisturbed() -> tuple[Any, Any]:
    """Inventory and properties of a stack that nothing came in the way of, in an account of its own."""
    with account(pytest.MonkeyPatch()):
        up(plain_session())
        return inventory(), properties()


def differences(expected: tuple[Any, Any]) -> dict[str, Any]:
    """Where inventory and properties are not what was expected: both sides of each."""
    found: dict[str, Any] = {}
    for now, then in zip((inventory(), properties()), expected, strict=True):
        found |= {key: (now.get(key), then.get(key)) for key in {*now, *then} if now.get(key) != then.get(key)}
    return found


def inventory(of: boto3.session.Session | None = None) -> dict[str, list[str]]:
    """Everything there is in the account, by plain listing, whoever owns it; kinds that are empty left out."""
    aws = (of or plain_session()).client
    ecs, iam, gateway, scaling = aws("ecs"), aws("iam"), aws("apigateway"), aws("application-autoscaling")
    # moto goes on listing what it calls INACTIVE.
    clusters = [
        one["clusterName"]
        for one in ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        if one["status"] != "INACTIVE"
    ]
    # Service-linked roles are the account's, and stay.
    roles = [
        role["RoleName"] for role in iam.list_roles()["Roles"] if not role["Path"].startswith("/aws-service-role/")
    ]
    apis = gateway.get_rest_apis()["items"]
    plans = gateway.get_usage_plans()["items"]
    listed: dict[str, Callable[[], list[Any]]] = {
        "queues": lambda: aws("sqs").list_queues().get("QueueUrls", []),
        "tables": lambda: aws("dynamodb").list_tables()["TableNames"],
        "buckets": lambda: [bucket["Name"] for bucket in aws("s3").list_buckets()["Buckets"]],
        "roles": lambda: roles,
        "role policies": lambda: [
            f"{role} {name}" for role in roles for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
        ],
        "log groups": lambda: [group["logGroupName"] for group in aws("logs").describe_log_groups()["logGroups"]],
        "security groups": lambda: [
            group["GroupName"]
            for group in aws("ec2").describe_security_groups()["SecurityGroups"]
            if group["GroupName"] != "default"
        ],
        "repositories": lambda: [one["repositoryName"] for one in aws("ecr").describe_repositories()["repositories"]],
        "clusters": lambda: clusters,
        "services": lambda: [
            service["serviceName"]
            for cluster in clusters
            for arn in ecs.list_services(cluster=cluster)["serviceArns"]
            for service in ecs.describe_services(cluster=cluster, services=[arn])["services"]
            if service["status"] != "INACTIVE"
        ],
        # A call that is repeated registers a revision more, which costs nothing and does nothing.
        "task definitions": lambda: [
            *{
                f"{status} {arn.rsplit(':', 1)[0]}"
                for status in ("ACTIVE", "INACTIVE")
                for arn in ecs.list_task_definitions(status=status)["taskDefinitionArns"]
            }
        ],
        "targets": lambda: [
            target["ResourceId"]
            for target in scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
        ],
        "policies": lambda: [
            one["PolicyName"] for one in scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
        ],
        "alarms": lambda: [alarm["AlarmName"] for alarm in aws("cloudwatch").describe_alarms()["MetricAlarms"]],
        "apis": lambda: [api["name"] for api in apis],
        "stages": lambda: [
            stage["stageName"] for api in apis for stage in gateway.get_stages(restApiId=api["id"])["item"]
        ],
        "keys": lambda: [key["name"] for key in gateway.get_api_keys()["items"]],
        "usage plans": lambda: [plan["name"] for plan in plans],
        "usage plan members": lambda: [
            f"{plan['name']} {len(plan.get('apiStages', []))} {key['name']}"
            for plan in plans
            for key in gateway.get_usage_plan_keys(usagePlanId=plan["id"])["items"]
        ],
    }
    found = {kind: sorted(names()) for kind, names in listed.items()}
    return {kind: names for kind, names in found.items() if names}
