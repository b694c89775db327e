"""The queue as a worker sees it."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from asyncjobs.jobs import ids
from asyncjobs.jobs.api import Api
from asyncjobs.jobs.coalesce import Coalescer
from asyncjobs.jobs.leases import Location, payload_prefix

MOST_MESSAGES = 10  # of one ReceiveMessage
LONGEST_VISIBILITY = 43_200  # seconds; https://docs.aws.amazon.com/AWSSimpleQueueService: 12 hours
DELETE_SECONDS = 0.005  # that a delete waits for others: the job has ended, and nobody waits for it
# What a message must have for a body where the payload is elsewhere.
NO_BODY = "-"
_HASH = re.compile(r"[0-9a-f]{64}\Z")


class PoisonError(Exception):
    """A message that is no job of ours; it goes the way of the dead-letter queue."""

    receipt = ""


@dataclass(slots=True)
class Message:
    """A job's message.

    Args:
        payload: As it was submitted: text, or bytes of a binary content type; where it is, if it outgrew the queue.
        receives: How often it was received, this time included.
        sent_ms: When it was sent, in epoch milliseconds; 0 where the queue does not say.
        generation: Which run of the job it starts: 1, and one more for each `retry`.
    """

    receipt: str
    job_id: str
    content_type: str
    payload: str | bytes | Location
    receives: int
    sent_ms: int = 0
    generation: int = 1


class JobQueue(Protocol):
    async def receive(self, most: int, *, wait: bool = True) -> list[Message | PoisonError]:
        """Wait for messages, up to the queue's long-poll time; without `wait`, take what is there."""

    def delete(self, message: Message) -> Awaitable[None]: ...

    def show_in(self, message: Message | PoisonError, seconds: int) -> Awaitable[None]:
        """Let it be received again after so many seconds."""


class SqsJobQueue:
    """The job queue in SQS. Deletes and changes of visibility that are wanted at the same time share a call.

    Args:
        lease_seconds: The visibility timeout of a received message.
        bucket: Where the payloads are that messages point at.
        wait_seconds: How long a receive waits for messages, 20 at most.
    """

    def __init__(self, api: Api, url: str, *, bucket: str, lease_seconds: int, wait_seconds: int = 20) -> None:
        self._api = api
        self._url = url
        self._bucket = bucket
        self._lease_seconds = lease_seconds
        self._wait_seconds = wait_seconds
        self._deletes: Coalescer[dict[str, Any], None] = Coalescer(
            lambda entries: self._batch("DeleteMessageBatch", entries), most=MOST_MESSAGES, linger=DELETE_SECONDS
        )
        self._changes: Coalescer[dict[str, Any], None] = Coalescer(
            lambda entries: self._batch("ChangeMessageVisibilityBatch", entries), most=MOST_MESSAGES
        )

    async def receive(self, most: int, *, wait: bool = True) -> list[Message | PoisonError]:
        answer = await self._api.call(
            "ReceiveMessage",
            {
                "QueueUrl": self._url,
                "MaxNumberOfMessages": min(most, MOST_MESSAGES),
                "WaitTimeSeconds": self._wait_seconds if wait else 0,
                "VisibilityTimeout": self._lease_seconds,
                "MessageAttributeNames": ["All"],
                "MessageSystemAttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
            },
        )
        return [_parsed(message, self._bucket) for message in answer.get("Messages", [])]

    def delete(self, message: Message) -> Awaitable[None]:
        return self._deletes({"ReceiptHandle": message.receipt})

    def show_in(self, message: Message | PoisonError, seconds: int) -> Awaitable[None]:
        visibility = max(0, min(seconds, LONGEST_VISIBILITY))
        return self._changes({"ReceiptHandle": message.receipt, "VisibilityTimeout": visibility})

    async def _batch(self, operation: str, entries: Sequence[dict[str, Any]]) -> list[Exception | None]:
        numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
        answer = await self._api.call(operation, {"QueueUrl": self._url, "Entries": numbered})
        outcomes: list[Exception | None] = [None] * len(entries)
        for failed in answer.get("Failed", []):
            outcomes[int(failed["Id"])] = _refusal(operation, failed)
        return outcomes


def _refusal(operation: str, failed: dict[str, Any]) -> ClientError:
    """The error of one entry of a batch, as if it had been a call of its own."""
    response: Any = {
        "Error": {"Code": failed.get("Code", ""), "Message": failed.get("Message", "")},
        "ResponseMetadata": {"HTTPStatusCode": 400 if failed.get("SenderFault") else 500},
    }
    return ClientError(response, operation)


def _parsed(message: Any, bucket: str) -> Message | PoisonError:
    parsed = _parse(message, bucket)
    if isinstance(parsed, PoisonError):
        parsed.receipt = message["ReceiptHandle"]
    return parsed


def _parse(message: Any, bucket: str) -> Message | PoisonError:
    attributes = {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()}
    job_id = attributes.get("jobId", "")
    if not ids.is_well_formed(job_id):
        return PoisonError(f"message {message.get('MessageId')}: no valid jobId attribute")
    payload = _payload(job_id, message["Body"], attributes, bucket)
    if isinstance(payload, PoisonError):
        return payload
    generation = attributes.get("generation") or "1"
    if not generation.isdecimal() or int(generation) < 1:
        return PoisonError(f"job {job_id}: {generation!r} is no generation")
    known = message.get("Attributes", {})
    return Message(
        message["ReceiptHandle"],
        job_id,
        attributes.get("contentType") or "application/json",
        payload,
        int(known.get("ApproximateReceiveCount", 1)),
        int(known.get("SentTimestamp", 0)),
        int(generation),
    )


def _payload(job_id: str, body: str, attributes: dict[str, str], bucket: str) -> str | bytes | Location | PoisonError:
    if "payloadKey" in attributes:
        # A worker may read all of its bucket. What a message asks it to read is a payload of its own job, and a message
        # cannot name another bucket.
        key, prefix = attributes["payloadKey"], payload_prefix(job_id)
        if key.startswith(prefix) and _HASH.match(key, len(prefix)):
            return Location(bucket, key)
        return PoisonError(f"job {job_id}: {key!r} is no key of its payload")
    encoding = attributes.get("encoding", "")
    if encoding not in ("", "base64"):
        return PoisonError(f"job {job_id}: the encoding {encoding!r} is none that a worker knows")
    if not encoding:
        return body
    try:
        return base64.b64decode(body, validate=True)
    except ValueError as error:  # also for text outside ASCII, which is no binascii.Error
        return PoisonError(f"job {job_id}: the body is not base64: {error}")
