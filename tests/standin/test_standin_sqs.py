"""The stand-in's queues behave as SQS: botocore checks the digests by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws

ATTRIBUTES = {
    "jobId": {"DataType": "String", "StringValue": "1795416232123-abc"},
    "a-number": {"DataType": "Number", "StringValue": "7"},
    "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
}


@pytest.fixture
def ours(client: Callable[[str], Any]) -> Any:
    return client("sqs")


@pytest.fixture
def motos(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield boto3.client("sqs", "us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")


@pytest.fixture
def url(ours: Any) -> Any:
    return ours.create_queue(QueueName="jobs", Attributes={"VisibilityTimeout": "30"})["QueueUrl"]


def receive(client: Any, url: str, **options: Any) -> list[Any]:
    options = {"MessageAttributeNames": ["All"], "MessageSystemAttributeNames": ["All"]} | options
    messages: list[Any] = client.receive_message(QueueUrl=url, **options).get("Messages", [])
    return messages


def test_a_message_comes_as_it_does_from_moto(ours: Any, motos: Any) -> None:
    seen = []
    for client in (ours, motos):
        url = client.create_queue(QueueName="jobs")["QueueUrl"]
        sent = client.send_message(QueueUrl=url, MessageBody='{"a": "☕\\n"}', MessageAttributes=ATTRIBUTES)
        (message,) = receive(client, url)
        assert message["MessageId"] == sent["MessageId"]
        kept = ("Body", "MD5OfBody", "MessageAttributes", "MD5OfMessageAttributes")
        seen.append(
            [message[name] for name in kept]
            + [sent["MD5OfMessageBody"], sent["MD5OfMessageAttributes"]]
            + [message["Attributes"]["ApproximateReceiveCount"], sorted(message["Attributes"])]
        )
    assert seen[0] == seen[1]


def test_the_digest_is_md5_at_every_length(ours: Any, url: str) -> None:
    for length in (1, 55, 56, 63, 64, 65, 119, 120, 1000):
        body = "x" * length
        sent = ours.send_message(QueueUrl=url, MessageBody=body)
        assert sent["MD5OfMessageBody"] == hashlib.md5(body.encode()).hexdigest()


def test_a_received_message_is_hidden_until_it_is_shown_or_deleted(ours: Any, url: str) -> None:
    ours.send_message(QueueUrl=url, MessageBody="x")
    (first,) = receive(ours, url)
    assert receive(ours, url) == []
    ours.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    (second,) = receive(ours, url)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    ours.delete_message(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])  # an old receipt: no error, no effect
    assert counts(ours, url) == ("0", "1")
    with pytest.raises(ClientError, match="MessageNotInflight"):
        ours.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    ours.delete_message(QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    assert counts(ours, url) == ("0", "0")
    with pytest.raises(ClientError, match="ReceiptHandleIsInvalid"):
        ours.delete_message(QueueUrl=url, ReceiptHandle="nonsense")


def counts(client: Any, url: str) -> tuple[str, str]:
    """Visible and in flight."""
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found["ApproximateNumberOfMessages"], found["ApproximateNumberOfMessagesNotVisible"]


def test_what_runs_out_of_its_time_comes_again_to_who_waits(ours: Any, url: str) -> None:
    ours.send_message(QueueUrl=url, MessageBody="x")
    assert receive(ours, url, VisibilityTimeout=1)
    (again,) = receive(ours, url, WaitTimeSeconds=10)
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"


def test_after_too_many_receives_it_goes_to_the_dead_letter_queue(ours: Any, url: str) -> None:
    dead = ours.create_queue(QueueName="dead")["QueueUrl"]
    arn = ours.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    ours.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
    ours.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=ATTRIBUTES)
    assert receive(ours, url, VisibilityTimeout=0)
    assert receive(ours, url, VisibilityTimeout=0)
    assert receive(ours, url) == []
    (message,) = receive(ours, dead)
    assert message["MessageAttributes"] == ATTRIBUTES
    assert message["Attributes"]["ApproximateReceiveCount"] == "3"


def test_batches_answer_for_each_entry(ours: Any, url: str) -> None:
    sent = ours.send_message_batch(
        QueueUrl=url, Entries=[{"Id": str(number), "MessageBody": f"job {number}"} for number in range(10)]
    )
    assert [one["Id"] for one in sent["Successful"]] == [str(number) for number in range(10)]
    receipts = [message["ReceiptHandle"] for message in receive(ours, url, MaxNumberOfMessages=10)]
    assert len(receipts) == 10
    entries = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate([*receipts[:3], "bad"])]
    deleted = ours.delete_message_batch(QueueUrl=url, Entries=entries)
    assert [one["Id"] for one in deleted["Successful"]] == ["0", "1", "2"]
    assert [(one["Id"], one["Code"]) for one in deleted["Failed"]] == [("3", "ReceiptHandleIsInvalid")]
    shown = [{"Id": "a", "ReceiptHandle": receipts[3], "VisibilityTimeout": 0}]
    assert len(ours.change_message_visibility_batch(QueueUrl=url, Entries=shown)["Successful"]) == 1
    assert counts(ours, url) == ("1", "6")
    with pytest.raises(ClientError, match="TooManyEntriesInBatchRequest"):
        ours.delete_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": "x"} for n in range(11)])


def test_a_queue_that_is_not_there_is_an_error_the_sdk_knows(ours: Any) -> None:
    with pytest.raises(ours.exceptions.QueueDoesNotExist):
        ours.get_queue_url(QueueName="none")


def test_a_benchmark_fills_resets_and_measures(ours: Any, url: str, server: Any) -> None:
    jobs = [{"id": f"job-{number}", "body": "x", "attributes": {}} for number in range(20)]
    server.fill("jobs", jobs)
    assert len(receive(ours, url, MaxNumberOfMessages=10)) == 10
    assert server.stats()["calls"]["ReceiveMessage"] == 1
    assert server.stats()["firstReceive"] > 0
    server.reset()
    assert counts(ours, url) == ("0", "0")
    assert server.stats()["calls"] == {"GetQueueAttributes": 1}


def test_a_long_poll_of_who_is_gone_takes_no_message(ours: Any, url: str) -> None:
    impatient = boto3.client(
        "sqs",
        endpoint_url=ours.meta.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(read_timeout=0.2, retries={"total_max_attempts": 1}),
    )
    with pytest.raises(ReadTimeoutError):
        receive(impatient, url, WaitTimeSeconds=20)
    impatient.close()
    ours.send_message(QueueUrl=url, MessageBody="x")
    assert len(receive(ours, url, WaitTimeSeconds=5)) == 1
