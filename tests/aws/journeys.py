"""Each command with all that it can meet, so that every AWS call it ever makes is made once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from authorization import NAMES, Answer, Iam, refusal
from fake_clock import FakeClock
from images import PretendBuilder, built_image, put_image
from test_conformance import DRIFTS
from test_posture import (
    break_service,
    loosen_queue,
    open_bucket,
    reshape_index,
    stop_alarm,
    stop_recovery,
    stop_scanning,
    trust_everybody,
)

from asyncjobs.aws import Clients, Waiter
from asyncjobs.commands import down, info, logs, result, retry, scale, upload
from asyncjobs.commands import up as up_command
from asyncjobs.commands.session import Options, Session
from asyncjobs.config import Config
from asyncjobs.console.output import Output
from asyncjobs.errors import ProvisionError
from asyncjobs.progress import NullProgress
from asyncjobs.provision.context import Context
from asyncjobs.provision.engine import Engine
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.plan import plan_up, read_all
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.stack import stack_resources

CLOCK = FakeClock()
IMAGE = f"{NAMES.account}.dkr.ecr.{NAMES.region}.amazonaws.com/theirs:1"
DRIFTERS = (
    # `reshape_index` is about the same index.
    *(drift for step, (_, drift) in DRIFTS.items() if step != "table"),
    *(loosen_queue, open_bucket, stop_recovery, reshape_index, trust_everybody, stop_scanning, stop_alarm),
    break_service,
)


def clients() -> Clients:
    return Clients(boto3.session.Session("testing", "testing", region_name=NAMES.region))


def resources(
    *, wait: bool = False, tags: Mapping[str, str] | None = None, project: Path | None = None, **sections: Any
) -> list[Resource]:
    values = {"stack": {"tags": tags or {}}, "worker": {"handler": "handler:handle"}, **sections}
    context = Context(
        clients(),
        NAMES,
        Waiter(NullProgress(), CLOCK.sleep, CLOCK.now),
        Config.model_validate(values),
        lambda api, stage: f"https://{api}.execute-api.{NAMES.region}.amazonaws.com/{stage}",
        wait=wait,
        now=CLOCK.now,
    )
    given = GivenImage(IMAGE, "x86_64")
    built = built_image(context.clients, NAMES.repository, project, PretendBuilder()) if project else given
    return stack_resources(context, built)


def bring_up(**settings: Any) -> None:
    stack = resources(**settings)
    Engine(NullProgress()).up(plan_up(stack, read_all(stack)))


def up(iam: Iam, session: Session) -> None:
    """A first one in an account that never had ECS, and that fails; everything mended; keys gone and back."""
    iam.answers = {"CreateCluster": once(no_linked_role), "CreateApiKey": once(too_many_keys)}
    with iam.during("up"), pytest.raises(ProvisionError, match="CreateApiKey failed"):
        bring_up()
    iam.answers = {}
    with iam.during("up"):
        bring_up()
    change_everything()
    with iam.during("up"):
        bring_up()
        bring_up(tags={"team": "search"})
        bring_up(api={"auth": "none"})
        bring_up()
    build_twice(iam, session.directory)
    tasks_that_do_not_start(iam)
    give_an_image(iam)
    with iam.during("up"):
        up_command.run(session, target="aws", image=IMAGE, wait=False, yes=True)
    iam.answers = {}


def build_twice(iam: Iam, project: Path) -> None:
    for content in ("1", "2"):
        (project / "handler.py").write_text(f"def handle(job): return {content}\n")
        with iam.during("up"):
            bring_up(project=project)


def give_an_image(iam: Iam) -> None:
    """In another repository of this account: what it is for is read from it, as far as moto has it."""
    clients().ecr.create_repository(repositoryName="theirs")
    put_image("theirs", "1", {"config": {"digest": f"sha256:{'0' * 64}"}, "layers": []})
    nowhere = {"downloadUrl": "file:///nowhere"}
    iam.answers = {"GetDownloadUrlForLayer": lambda: (SimpleNamespace(status_code=200), dict(nowhere))}


def change_everything() -> None:
    there = clients()
    there.apigateway.create_rest_api(name=NAMES.rest_api, tags=NAMES.tags)  # what a repeated call leaves
    for drift in DRIFTERS:
        drift(there)
    rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    there.s3.put_bucket_encryption(Bucket=NAMES.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})


def tasks_that_do_not_start(iam: Iam) -> None:
    """ECS gives the deployment up, and says why the last task stopped."""
    arn = f"arn:aws:ecs:{NAMES.region}:{NAMES.account}:task/{NAMES.cluster}/0a1b"
    service = clients().ecs.describe_services(cluster=NAMES.cluster, services=[NAMES.service], include=["TAGS"])
    service["services"][0]["deployments"][0].update({"status": "PRIMARY", "rolloutState": "FAILED"})
    iam.answers = {
        "DescribeServices": lambda: (SimpleNamespace(status_code=200), dict(service)),
        "ListTasks": lambda: (SimpleNamespace(status_code=200), {"taskArns": [arn]}),
        "DescribeTasks": lambda: (SimpleNamespace(status_code=200), {"tasks": [{"taskArn": arn}]}),
    }
    with iam.during("up"), pytest.raises(ProvisionError, match="its tasks do not start"):
        bring_up(wait=True)
    iam.answers = {}


def take_down(iam: Iam, session: Session) -> None:
    """A stack that holds data, with a policy that somebody attached."""
    there = clients()
    there.s3.delete_bucket_policy(Bucket=NAMES.bucket)  # moto denies what the policy denies only without TLS
    there.s3.put_object(Bucket=NAMES.bucket, Key="results/1", Body=b"x")
    there.s3.create_multipart_upload(Bucket=NAMES.bucket, Key="results/2")
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}]}
    arn = there.iam.create_policy(PolicyName="theirs", PolicyDocument=json.dumps(policy))["Policy"]["Arn"]
    for role in (NAMES.api_role, NAMES.task_role, NAMES.execution_role):
        there.iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    with iam.during("down"):
        down.run(session, target="aws", yes=True)


def operate(iam: Iam, session: Session) -> None:
    """All commands that talk to AWS other than `up` and `down`."""
    there = clients()
    there.s3.delete_bucket_policy(Bucket=NAMES.bucket)
    there.s3.put_object(Bucket=NAMES.bucket, Key="results/1", Body=b"x")
    job = {"status": "SUCCEEDED", "resultLocation": {"bucket": NAMES.bucket, "key": "results/1"}}
    ended = [ended_job(there, size) for size in (0, 1, 9_000_000)]
    with iam.during("operate"):
        info.run(session, show_key=True)
        session.client()  # `submit`, `status`: on a machine that did not bring the stack up
        logs.run(session, job_id=None, follow=False, since="10m")
        result.show_result(session, job)
        result.save_result(session, job, session.directory / "result")
        for size in (1, 9_000_000):  # in one piece, and in parts
            upload.submit(session, payload_file(session, size), ended[0], "text/plain")
        for one in ended:
            retry.run(session, job_id=one)
        scale.run(session, count=1)


def payload_file(session: Session, size: int) -> Path:
    file = session.directory / "payload"
    file.write_bytes(b"x" * size)
    return file


def ended_job(there: Clients, size: int = 0) -> str:
    """Args: size: Of a payload in the bucket, in bytes."""
    job_id = f"1795416232123-ended-{size}"
    payload: Any = {"payload": {"S": "x"}}
    if size:
        key = f"payloads/{job_id}/{'0a' * 32}"
        there.s3.put_object(Bucket=NAMES.bucket, Key=key, Body=b"x" * size)
        payload = {"payloadLocation": {"M": {"bucket": {"S": NAMES.bucket}, "key": {"S": key}}}}
    item: Any = {
        "jobId": {"S": job_id},
        "status": {"S": "FAILED"},
        "generation": {"N": "1"},
        "contentType": {"S": "text/plain"},
        "expiresAt": {"N": "9999999999"},
        **payload,
    }
    there.dynamodb.put_item(TableName=NAMES.table, Item=item)
    return job_id


def session(env: Mapping[str, str], directory: Any) -> Session:
    out = io.TextIOWrapper(io.BytesIO())
    output = Output(quiet=True, stdout=out, stderr=io.StringIO(), env={})
    return Session(Options(stack=NAMES.stack, region=NAMES.region, quiet=True), output, env, directory)


def once(answer: Callable[[], Answer | None]) -> Callable[[], Answer | None]:
    left = [answer]
    return lambda: left.pop()() if left else None


def no_linked_role() -> Answer:
    """CreateCluster on an account's first use of ECS."""
    message = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."
    return refusal(400, "InvalidParameterException", message)


def too_many_keys() -> Answer:
    """An account holds so many API keys and no more."""
    return refusal(400, "LimitExceededException", "API key limit reached")
