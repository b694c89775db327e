"""The queue and the bucket as a worker uses them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest
from apis import Hosts, Waiting
from botocore.exceptions import ClientError

from asyncjobs.jobs.aws_errors import AWS_ERRORS
from asyncjobs.jobs.leases import Lease, Location, NewJob, Result
from asyncjobs.jobs.queue import Message, PoisonError, SqsJobQueue
from asyncjobs.jobs.record import PAYLOAD_IN_RECORD, RESULT_IN_RECORD
from asyncjobs.worker.outcome import Succeeded
from asyncjobs.worker.payloads import S3ObjectStore

ID = "1795416232123-abc"
BUCKET = "jobs-bucket"
LEASE = Lease(ID, "token", 1, 1)


class Sender:
    def __init__(self, hosts: Hosts) -> None:
        self._client = hosts.sqs
        self.url: str = hosts.sqs.create_queue(QueueName="jobs")["QueueUrl"]
        self.coroutines = SqsJobQueue(hosts.sqs_api, self.url, bucket=BUCKET, lease_seconds=30, wait_seconds=0)
        self.queue: Any = Waiting(self.coroutines, hosts.loop)

    def send(self, body: str, **attributes: str) -> None:
        self._client.send_message(
            QueueUrl=self.url,
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "Number" if name == "submittedAt" else "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )


@pytest.fixture
def sender(hosts: Hosts) -> Sender:
    return Sender(hosts)


def received(sender: Sender) -> Message:
    (message,) = sender.queue.receive(10)
    assert isinstance(message, Message)
    return message


def test_text_arrives_as_it_was_sent(sender: Sender) -> None:
    text = "é ☕ 😀 \r\n\t &MessageAttribute.1.Value.StringValue=x %41 +"
    sender.send(text, jobId=ID, contentType="text/plain", submittedAt="1795416232123")
    message = received(sender)
    assert (message.job_id, message.content_type, message.payload, message.receives) == (ID, "text/plain", text, 1)


def test_bytes_arrive_as_they_were_sent(sender: Sender) -> None:
    sender.send("AP9h", jobId=ID, contentType="application/pdf", encoding="base64")
    assert received(sender).payload == b"\x00\xffa"


def test_without_a_content_type_it_is_json(sender: Sender) -> None:
    sender.send("{}", jobId=ID)
    assert received(sender).content_type == "application/json"


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({}, "no valid jobId"),
        ({"jobId": "nonsense"}, "no valid jobId"),
        ({"jobId": ID, "encoding": "gzip"}, "the encoding 'gzip' is none that a worker knows"),
        ({"jobId": ID, "encoding": "base64"}, "the body is not base64"),
        ({"jobId": ID, "generation": "0"}, "'0' is no generation"),
    ],
)
@pytest.mark.parametrize("body", ["a, b", "é☕", "AP9"])
def test_what_is_no_job_is_poison_and_stays(sender: Sender, attributes: dict[str, str], why: str, body: str) -> None:
    sender.send(body, **attributes)
    (poison,) = sender.queue.receive(10)
    assert isinstance(poison, PoisonError)
    assert why in str(poison)


def test_a_message_is_hidden_shown_and_deleted(sender: Sender) -> None:
    sender.send("{}", jobId=ID)
    first = received(sender)
    assert sender.queue.receive(10) == []
    sender.queue.show_in(first, 0)
    second = received(sender)
    assert second.receives == 2
    sender.queue.show_in(second, -5)
    third = received(sender)
    sender.queue.delete(third)
    assert sender.queue.receive(10) == []


def test_many_are_deleted_or_shown_at_once(sender: Sender, hosts: Hosts) -> None:
    for number in range(25):
        sender.send("{}", jobId=f"{ID}{number}")
    messages = [message for _ in range(4) for message in sender.queue.receive(10)]
    assert len(messages) == 25

    async def finish() -> None:
        deletes = [sender.coroutines.delete(message) for message in messages[:15]]
        await asyncio.gather(*deletes, *(sender.coroutines.show_in(message, 0) for message in messages[15:]))

    hosts.loop.run_until_complete(finish())
    again = [message for _ in range(3) for message in sender.queue.receive(10)]
    assert {message.job_id for message in again} == {message.job_id for message in messages[15:]}


def test_a_message_that_cannot_be_shown_costs_no_other(sender: Sender, hosts: Hosts) -> None:
    sender.send("{}", jobId=ID)
    good = received(sender)
    bad = Message("no receipt", ID, "text/plain", "", 1)

    async def show() -> list[BaseException | None]:
        return await asyncio.gather(
            *(sender.coroutines.show_in(message, 0) for message in (bad, good)), return_exceptions=True
        )

    failed, done = hosts.loop.run_until_complete(show())
    assert isinstance(failed, ClientError)
    assert done is None
    assert received(sender).receives == 2


def test_of_which_run_and_when_it_was_sent(sender: Sender) -> None:
    sender.send("{}", jobId=ID, generation="3")
    message = received(sender)
    assert message.generation == 3
    assert 0 <= time.time() - message.sent_ms / 1000 < 60


def test_more_than_sqs_gives_at_once_may_be_asked_for(sender: Sender) -> None:
    for number in range(12):
        sender.send("{}", jobId=f"{ID}{number}")
    assert len(sender.queue.receive(50)) == 10


def test_a_payload_that_outgrew_the_queue_is_where_the_message_says(sender: Sender) -> None:
    key = f"payloads/{ID}/{'0a' * 32}"
    sender.send("-", jobId=ID, contentType="application/pdf", payloadKey=key)
    message = received(sender)
    assert (message.content_type, message.payload) == ("application/pdf", Location(BUCKET, key))


@pytest.mark.parametrize(
    "key",
    [
        f"results/{ID}/{'0a' * 32}",
        f"payloads/{ID}x/{'0a' * 32}",
        f"payloads/{ID}/{'0a' * 32}/x",
        f"payloads/{ID}/../{'0a' * 32}",
        f"payloads/{ID}/{'0a' * 31}",
        f"s3://other/payloads/{ID}/{'0a' * 32}",
    ],
)
def test_a_pointer_at_anything_else_than_a_payload_of_the_job_is_poison(sender: Sender, key: str) -> None:
    sender.send("-", jobId=ID, payloadKey=key)
    (poison,) = sender.queue.receive(10)
    assert isinstance(poison, PoisonError)


Objects = Any  # an S3ObjectStore that is waited for


@pytest.fixture
def objects(hosts: Hosts) -> Objects:
    hosts.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return Waiting(S3ObjectStore(lambda: hosts.s3, BUCKET), hosts.loop)


def read(hosts: Hosts, location: Location) -> tuple[bytes, str]:
    answer = hosts.s3.get_object(Bucket=location.bucket, Key=location.key)
    return answer["Body"].read(), answer["ContentType"]


@pytest.mark.parametrize("payload", ["é" * (PAYLOAD_IN_RECORD // 2), b"x" * PAYLOAD_IN_RECORD])
def test_a_small_payload_stays_in_the_record(objects: Objects, payload: str | bytes) -> None:
    message = Message("receipt", ID, "text/plain", payload, 1)
    assert objects.keep_payload(message) == NewJob(ID, "text/plain", payload)


@pytest.mark.parametrize("payload", ["é" * (PAYLOAD_IN_RECORD // 2) + "x", b"x" * (PAYLOAD_IN_RECORD + 1)])
def test_a_big_payload_goes_into_the_bucket(
    hosts: Hosts, objects: Objects, tmp_path: Path, payload: str | bytes
) -> None:
    job = objects.keep_payload(Message("receipt", ID, "text/plain", payload, 1))
    data = payload.encode() if isinstance(payload, str) else payload
    location = Location(BUCKET, f"payloads/{ID}/{hashlib.sha256(data).hexdigest()}")
    assert job.payload == location
    assert read(hosts, location) == (data, "text/plain")
    assert objects.read_payload(location, lambda: tmp_path) == data


def test_another_payload_of_the_same_job_overwrites_nothing(objects: Objects, tmp_path: Path) -> None:
    payloads = [b"1" * (PAYLOAD_IN_RECORD + 1), b"2" * (PAYLOAD_IN_RECORD + 1)]
    kept = [objects.keep_payload(Message("receipt", ID, "text/plain", payload, 1)).payload for payload in payloads]
    assert [objects.read_payload(payload, lambda: tmp_path) for payload in kept] == payloads


def test_a_payload_of_the_record_is_read_as_bytes(objects: Objects, tmp_path: Path) -> None:
    assert objects.read_payload("é", lambda: tmp_path) == "é".encode()
    assert objects.read_payload(b"\xff", lambda: tmp_path) == b"\xff"


def test_what_a_message_points_at_is_not_copied(objects: Objects) -> None:
    location = Location(BUCKET, f"payloads/{ID}/{'0a' * 32}")
    assert objects.keep_payload(Message("receipt", ID, "text/plain", location, 1)).payload == location


def test_a_payload_of_megabytes_becomes_a_file(hosts: Hosts, objects: Objects, tmp_path: Path) -> None:
    data = os.urandom(9 * 1024 * 1024)  # comes in parts
    location = Location(BUCKET, f"payloads/{ID}/{hashlib.sha256(data).hexdigest()}")
    hosts.s3.put_object(Bucket=location.bucket, Key=location.key, Body=data)
    file = objects.read_payload(location, lambda: tmp_path)
    assert file == tmp_path / "payload"
    assert file.read_bytes() == data


def test_a_payload_that_is_gone_is_an_error_of_aws(objects: Objects, tmp_path: Path) -> None:
    with pytest.raises(AWS_ERRORS):
        objects.read_payload(Location(BUCKET, f"payloads/{ID}/{'0a' * 32}"), lambda: tmp_path)


def test_a_result_of_many_bytes_goes_in_parts(hosts: Hosts, objects: Objects) -> None:
    data = os.urandom(9 * 1024 * 1024)
    kept = objects.keep_result(LEASE, Succeeded(data=data, content_type="application/pdf"))
    assert read(hosts, kept.location) == (data, "application/pdf")


def test_results(hosts: Hosts, objects: Objects, tmp_path: Path) -> None:
    location = Location(BUCKET, f"results/{ID}/1-token")
    small = '"' + "x" * (RESULT_IN_RECORD - 2) + '"'
    assert objects.keep_result(LEASE, Succeeded(json_text=small)) == Result(json_text=small)
    big = '"' + "x" * RESULT_IN_RECORD + '"'
    assert objects.keep_result(LEASE, Succeeded(json_text=big)) == Result(location=location)
    assert read(hosts, location) == (big.encode(), "application/json")
    assert objects.keep_result(LEASE, Succeeded(data=b"", content_type="image/png")) == Result(location=location)
    assert read(hosts, location) == (b"", "image/png")
    file = tmp_path / "a.csv"
    file.write_text("a,b")
    objects.keep_result(LEASE, Succeeded(file=file, content_type="text/csv"))
    assert read(hosts, location) == (b"a,b", "text/csv")
