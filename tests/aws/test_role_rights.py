"""What the code in a stack does with its roles: it gets by with their policies, and each right is for something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from authorization import NAMES, Iam, allowing, needs, refusal
from moto import mock_aws
from moto_mends import mend

from asyncjobs.jobs.api import BotoApi
from asyncjobs.jobs.leases import Claimed, Location
from asyncjobs.jobs.queue import Message, SqsJobQueue
from asyncjobs.jobs.store import DynamoJobStore
from asyncjobs.provision.api_document import ApiSettings, render
from asyncjobs.provision.roles import api_role, task_role
from asyncjobs.provision.table import ATTRIBUTES
from asyncjobs.worker.outcome import Succeeded
from asyncjobs.worker.payloads import S3ObjectStore

JOB = "1795416232123-abc"
BIG = "x" * 300_000
# The agent in a task calls ECS for it, as the task: there is no call of boto3's.
NOT_BY_CALL = {"ecs:UpdateTaskProtection"}


@pytest.fixture
def iam(monkeypatch: pytest.MonkeyPatch) -> Iterator[Iam]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    watched = Iam(policy=task_role(NAMES).policy)
    with mock_aws():
        mend(partial(monkeypatch.setattr, raising=False))
        watched.watch(monkeypatch)
        yield watched


def client(service: str) -> Any:
    return boto3.session.Session("testing", "testing", region_name=NAMES.region).client(service)  # type: ignore[call-overload]


def test_a_worker_needs_all_that_the_task_role_allows_and_no_more(iam: Iam, tmp_path: Path):
    sqs, dynamodb, s3 = client("sqs"), client("dynamodb"), client("s3")
    url = sqs.create_queue(QueueName=NAMES.queue)["QueueUrl"]
    key = [{"AttributeName": "jobId", "KeyType": "HASH"}]
    dynamodb.create_table(
        TableName=NAMES.table, KeySchema=key, AttributeDefinitions=ATTRIBUTES[:1], BillingMode="PAY_PER_REQUEST"
    )
    s3.create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration={"LocationConstraint": NAMES.region})
    attributes = {"jobId": JOB, "contentType": "text/plain"}
    sqs.send_message(
        QueueUrl=url,
        MessageBody=BIG,
        MessageAttributes={name: {"DataType": "String", "StringValue": text} for name, text in attributes.items()},
    )
    # moto knows no such call; that it was made, and what for, is all that is asked here.
    iam.answers = {"BatchExecuteStatement": lambda: refusal(400, "UnknownOperationException", "")}
    queue = SqsJobQueue(BotoApi(sqs), url, bucket=NAMES.bucket, lease_seconds=30, wait_seconds=0)

    def store() -> DynamoJobStore:
        return DynamoJobStore(
            BotoApi(dynamodb), NAMES.table, lease_seconds=30, max_attempts=3, result_days=30, coalesce=1
        )

    with iam.during("worker"):
        asyncio.run(work(queue, store, S3ObjectStore(lambda: s3, NAMES.bucket), tmp_path))
    policy = task_role(NAMES).policy
    needed = {need for request in iam.requests["worker"] for need in needs(request)}
    assert all(len(allowing(policy, need)) == 1 for need in needed)
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert {need.action for need in needed} == allowed - NOT_BY_CALL


async def sent_by_pointer() -> Location:
    """What only a person's `submit` may put there."""
    location = Location(NAMES.bucket, f"payloads/{JOB}/{'0a' * 32}")
    await asyncio.to_thread(client("s3").put_object, Bucket=location.bucket, Key=location.key, Body=b"x" * 9_000_000)
    return location


async def work(
    queue: SqsJobQueue, store: Callable[[], DynamoJobStore], objects: S3ObjectStore, directory: Path
) -> None:
    """One job with a big payload and a big result, run twice: the first attempt is handed back.

    Each store tries to write several records in one call, and goes without that once it is refused.
    """
    (message,) = await queue.receive(1)
    assert isinstance(message, Message)
    first, second = store(), store()
    claim = await first.claim(await objects.keep_payload(message), likely_new=True)
    assert isinstance(claim, Claimed)
    await second.hand_back(claim.lease)
    await queue.show_in(message, 0)
    (message,) = await queue.receive(1)
    assert isinstance(message, Message)
    claim = await second.claim(await objects.keep_payload(message))
    assert isinstance(claim, Claimed)
    assert await objects.read_payload(claim.job.payload, lambda: directory) == BIG.encode()
    assert await objects.read_payload(await sent_by_pointer(), lambda: directory) == directory / "payload"
    await second.heartbeat(claim.lease)
    await second.progress(claim.lease, 0.5, "half")
    file = directory / "result"
    file.write_bytes(b"x" * 9_000_000)  # goes in parts
    result = await objects.keep_result(claim.lease, Succeeded(file=file, content_type="text/plain"))
    await second.succeed(claim.lease, result)
    await queue.delete(message)


def test_the_apis_document_makes_the_calls_that_its_role_allows():
    document = render(
        NAMES,
        ApiSettings(
            auth="api-key",
            stage="v1",
            cors_origins=("*",),
            queue_retention_seconds=1_209_600,
            max_message_bytes=1_048_576,
        ),
        "<html></html>",
    )
    called = set()
    for methods in document["paths"].values():
        for method in methods.values():
            integration = method.get("x-amazon-apigateway-integration", {}) if isinstance(method, dict) else {}
            uri = integration.get("uri", "")
            if ":sqs:path/" in uri:
                templates = integration["requestTemplates"].values()
                assert all("Action=SendMessage&" in template for template in templates)
                called.add(("sqs:SendMessage", f"arn:aws:sqs:{NAMES.region}:{uri.split('path/')[1].replace('/', ':')}"))
            elif uri:
                action = uri.split(":dynamodb:action/")[1]
                assert all(f'"{NAMES.table}"' in one for one in integration["requestTemplates"].values())
                called.add((f"dynamodb:{action}", NAMES.table_arn))
    statements = api_role(NAMES).policy["Statement"]
    assert called == {(action, one["Resource"]) for one in statements for action in one["Action"]}
