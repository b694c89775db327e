"""What a person does to a job: cancel it, or run it once more.

For the command line and other callers that wait; a worker does neither.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from asyncjobs.jobs import ids
from asyncjobs.jobs.aws_errors import error_code
from asyncjobs.jobs.queue import NO_BODY
from asyncjobs.jobs.record import CANCELLED, QUEUED, TERMINAL, Item, iso_time, shard_key
from asyncjobs.jobs.store import DAY_SECONDS


@dataclass(frozen=True)
class Changed:
    """It is done; `record` is the job's as it is now."""

    record: Item


@dataclass(frozen=True)
class Unchanged:
    """It cannot be done in the job's state.

    Args:
        record: The job's; empty where there is none, or none any more.
        why: What is in the way, as the end of a sentence.
    """

    record: Item
    why: str


class JobControl:
    """Cancels and retries jobs of one stack.

    Args:
        dynamodb, sqs, s3: boto3's clients.
        result_days: How long a record is kept after this.
        now: Epoch seconds.
    """

    def __init__(
        self,
        dynamodb: Any,
        sqs: Any,
        s3: Any,
        *,
        table: str,
        queue_url: str,
        result_days: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._dynamodb = dynamodb
        self._sqs = sqs
        self._s3 = s3
        self._table = table
        self._queue_url = queue_url
        self._result_seconds = result_days * DAY_SECONDS
        self._now = now

    def cancel(self, job_id: str) -> Changed | Unchanged:
        """End a job that waits or runs; its result, should one come, is discarded.

        A job that no worker has seen yet has no record. It gets one that says CANCELLED, so that its message is dropped
        when it comes. Whether such an id is one of a job at all is for the caller to know.
        """
        now = self._now_ms()
        names = {
            f"#{name}": name
            for name in ("jobId", "status", "statusShard", "submittedAt", "finishedAt", "expiresAt", "generation")
        } | {"#attempt": "attempt", "#leaseUntil": "leaseUntil"}
        values = {
            ":cancelled": {"S": CANCELLED},
            ":shard": {"S": shard_key(CANCELLED, job_id)},
            ":submitted": {"S": iso_time(ids.submitted_ms(job_id))},
            ":now": {"S": iso_time(now)},
            ":expires": self._expiry(job_id, now),
            ":one": {"N": "1"},
            ":zero": {"N": "0"},
            ":queued": {"S": QUEUED},
            ":running": {"S": "RUNNING"},
            ":seconds": {"N": str(now // 1000)},
        }
        update = (
            "SET #status = :cancelled, #statusShard = :shard, #finishedAt = :now, #expiresAt = :expires,"
            " #submittedAt = if_not_exists(#submittedAt, :submitted),"
            " #generation = if_not_exists(#generation, :one), #attempt = if_not_exists(#attempt, :zero)"
            " REMOVE #leaseUntil"
        )
        condition = "attribute_not_exists(#jobId) OR (#status IN (:queued, :running) AND #expiresAt > :seconds)"
        done = self._write(job_id, update, condition, names, values)
        if done.ok:
            return Changed(done.record)
        if not self._lasting(done.record):
            return Unchanged({}, "it has no record any more")
        return Unchanged(done.record, f"it is {done.record['status']['S']} already")

    def retry(self, job_id: str) -> Changed | Unchanged:
        """Start a job that has ended once more, with the payload it had.

        The message goes first: should this break off before the record is marked, a worker takes the message of the
        next generation for what it is. The other way round, the job could be QUEUED with no message to run it.
        """
        record = self._read(job_id)
        if not record:
            return Unchanged({}, "it has no record")
        status, generation = record["status"]["S"], int(record["generation"]["N"])
        if status not in TERMINAL:
            return Unchanged(record, f"it is {status}")
        if "payload" not in record and "payloadLocation" not in record:
            return Unchanged(record, "it was cancelled before a worker saw it, so its payload was not kept")
        if "payloadLocation" in record and not self._renew(record):
            return Unchanged(record, "its payload is not in the bucket any more")
        self._send(record, generation + 1)
        done = self._mark(job_id, generation)
        if done.ok or int(done.record.get("generation", {}).get("N", "0")) == generation + 1:
            return Changed(done.record)
        return Unchanged(done.record, "it was changed by someone else meanwhile")

    def _read(self, job_id: str) -> Item:
        answer = self._dynamodb.get_item(TableName=self._table, Key={"jobId": {"S": job_id}}, ConsistentRead=True)
        return self._lasting(answer.get("Item", {}))

    def _lasting(self, record: Item) -> Item:
        """DynamoDB deletes what has expired hours later; until then it counts as gone, as it does for GET."""
        expires = int(record.get("expiresAt", {}).get("N", "0"))
        return record if expires > self._now() else {}

    def _renew(self, record: Item) -> bool:
        """Let the payload last as long as the record will now; False if it is gone.

        S3 counts its days from when an object was last written, and copied onto itself it is.
        """
        at = record["payloadLocation"]["M"]
        source = {"Bucket": at["bucket"]["S"], "Key": at["key"]["S"]}
        # S3 copies nothing onto itself that stays exactly as it is.
        changed = {"MetadataDirective": "REPLACE", "ContentType": record["contentType"]["S"]}
        try:
            self._s3.copy(source, source["Bucket"], source["Key"], ExtraArgs=changed)
        except ClientError as error:
            if error_code(error) not in ("404", "NoSuchKey"):
                raise
            return False
        return True

    def _send(self, record: Item, generation: int) -> None:
        """The payload too, or where it is, so that the message can be looked at."""
        attributes = {
            "jobId": record["jobId"]["S"],
            "contentType": record["contentType"]["S"],
            "generation": str(generation),
        }
        if "payloadLocation" in record:
            attributes["payloadKey"] = record["payloadLocation"]["M"]["key"]["S"]
        payload = next(iter(record.get("payload", {"S": ""}).values()))
        if isinstance(payload, bytes):
            payload, attributes["encoding"] = base64.b64encode(payload).decode(), "base64"
        self._sqs.send_message(
            QueueUrl=self._queue_url,
            MessageBody=payload or NO_BODY,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )

    def _mark(self, job_id: str, generation: int) -> _Done:
        now = self._now_ms()
        sets = {
            "status": {"S": QUEUED},
            "statusShard": {"S": shard_key(QUEUED, job_id)},
            "generation": {"N": str(generation + 1)},
            "attempt": {"N": "0"},
            "expiresAt": self._expiry(job_id, now),
        }
        removes = (
            "startedAt",
            "finishedAt",
            "progress",
            "result",
            "resultLocation",
            "error",
            "leaseToken",
            "leaseUntil",
        )
        update = f"SET {', '.join(f'#{name} = :{name}' for name in sets)} REMOVE {', '.join(f'#{n}' for n in removes)}"
        values = {f":{name}": value for name, value in sets.items()} | {":previous": {"N": str(generation)}}
        values |= {f":t{number}": {"S": status} for number, status in enumerate(sorted(TERMINAL))}
        condition = "#generation = :previous AND #status IN (:t0, :t1, :t2)"
        return self._write(job_id, update, condition, {f"#{name}": name for name in (*sets, *removes)}, values)

    def _write(
        self, job_id: str, update: str, condition: str, names: Mapping[str, str], values: Mapping[str, Any]
    ) -> _Done:
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key={"jobId": {"S": job_id}},
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            found: Any = error.response.get("Item", {})
            return _Done(False, found)
        return _Done(True, answer["Attributes"])

    def _expiry(self, job_id: str, now: int) -> dict[str, Any]:
        return {"N": str(max(ids.submitted_ms(job_id), now) // 1000 + self._result_seconds)}

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


@dataclass(frozen=True)
class _Done:
    ok: bool
    record: Item
