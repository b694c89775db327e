"""The queue as a worker sees it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from asyncjobs.jobs import ids

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MOST_MESSAGES = 10  # of one ReceiveMessage
LONGEST_VISIBILITY = 43_200  # seconds; https://docs.aws.amazon.com/AWSSimpleQueueService: 12 hours


class PoisonError(Exception):
    """A message that is no job of ours; it goes the way of the dead-letter queue."""


@dataclass(frozen=True)
class Message:
    """A job's message.

    Args:
        payload: As it was submitted: text, or bytes of a binary content type.
        receives: How often it was received, this time included.
    """

    receipt: str
    job_id: str
    content_type: str
    payload: str | bytes
    receives: int


class JobQueue(Protocol):
    def receive(self, most: int) -> list[Message | PoisonError]:
        """Wait for messages, up to the queue's long-poll time."""

    def delete(self, message: Message) -> None: ...

    def show_in(self, message: Message, seconds: int) -> None:
        """Let it be received again after so many seconds."""


class SqsJobQueue:
    """The job queue in SQS.

    Args:
        lease_seconds: The visibility timeout of a received message.
        wait_seconds: How long a receive waits for messages, 20 at most.
    """

    def __init__(self, client: SQSClient, url: str, *, lease_seconds: int, wait_seconds: int = 20) -> None:
        self._client = client
        self._url = url
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds

    def receive(self, most: int) -> list[Message | PoisonError]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=min(most, MOST_MESSAGES),
            WaitTimeSeconds=self._wait_seconds,
            VisibilityTimeout=self._lease_seconds,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [_parse(message) for message in answer.get("Messages", [])]

    def delete(self, message: Message) -> None:
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt)

    def show_in(self, message: Message, seconds: int) -> None:
        self._client.change_message_visibility(
            QueueUrl=self._url,
            ReceiptHandle=message.receipt,
            VisibilityTimeout=max(0, min(seconds, LONGEST_VISIBILITY)),
        )


def _parse(message: Any) -> Message | PoisonError:
    attributes = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
    job_id = attributes.get("jobId", "")
    if not ids.is_well_formed(job_id):
        return PoisonError(f"message {message.get('MessageId')}: no valid jobId attribute")
    payload: str | bytes = message["Body"]
    encoding = attributes.get("encoding", "")
    if encoding not in ("", "base64"):
        return PoisonError(f"job {job_id}: the encoding {encoding!r} is none that a worker knows")
    if encoding:
        try:
            payload = base64.b64decode(payload, validate=True)
        except ValueError as error:  # also for text outside ASCII, which is no binascii.Error
            return PoisonError(f"job {job_id}: the body is not base64: {error}")
    return Message(
        message["ReceiptHandle"],
        job_id,
        attributes.get("contentType") or "application/json",
        payload,
        int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
    )
