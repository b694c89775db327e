"""Claims, heartbeats and ends of jobs: each one conditional write on the lease's fencing token.

A worker that was paused past its lease finds its token gone from the record and can change nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from asyncjobs.jobs import ids
from asyncjobs.jobs.record import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    Item,
    iso_time,
    shard_key,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DAY_SECONDS = 86_400
ERROR_LENGTH = 4_000  # characters of an error's message kept in the record


@dataclass(frozen=True)
class Location:
    """An object in S3."""

    bucket: str
    key: str


@dataclass(frozen=True)
class NewJob:
    """What was submitted, as a message or the record has it.

    Args:
        payload: Text or bytes small enough for the record, or where the payload is.
    """

    job_id: str
    content_type: str
    payload: str | bytes | Location


@dataclass(frozen=True)
class Lease:
    """A worker's right to a job.

    Args:
        token: The fencing token; fresh at each claim.
        attempt: Counts from 1.
    """

    job_id: str
    token: str
    attempt: int
    generation: int


@dataclass(frozen=True)
class Claimed:
    """The job is ours to run.

    Args:
        job: As its record has it: what came with its first message, whatever later ones of the same id say.
    """

    lease: Lease
    job: NewJob


@dataclass(frozen=True)
class AlreadyEnded:
    """Nothing to do: the message is a duplicate of a job that has ended."""

    status: str


@dataclass(frozen=True)
class Busy:
    """Another worker holds the lease until this epoch time in milliseconds."""

    until_ms: int


Claim = Claimed | AlreadyEnded | Busy


class LeaseLostError(Exception):
    """The record no longer carries our token: another worker has the job, or it was cancelled."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the lease is lost; the job is {status}")
        self.status = status


@dataclass(frozen=True)
class Result:
    """A handler's result: JSON text in the record, or where it is."""

    json_text: str | None = None
    location: Location | None = None


class JobStore(Protocol):
    """Every method but `claim` raises LeaseLostError when the lease is no longer ours."""

    def claim(self, job: NewJob) -> Claim: ...

    def heartbeat(self, lease: Lease) -> None: ...

    def progress(self, lease: Lease, fraction: float, message: str) -> None: ...

    def succeed(self, lease: Lease, result: Result, message: str = "") -> None: ...

    def fail(self, lease: Lease, error_type: str, message: str) -> None: ...

    def retry_later(self, lease: Lease, error_type: str, message: str) -> None: ...

    def hand_back(self, lease: Lease) -> None: ...


@dataclass
class _Update:
    """One UpdateItem under construction."""

    sets: list[str] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def set(self, attribute: str, value: dict[str, Any]) -> None:
        # Every name goes through a placeholder: `status`, `error` and `result` are or may become reserved words.
        self.sets.append(f"#{attribute} = :{attribute}")
        self.values[f":{attribute}"] = value

    def set_once(self, attribute: str, value: dict[str, Any]) -> None:
        self.sets.append(f"#{attribute} = if_not_exists(#{attribute}, :{attribute})")
        self.values[f":{attribute}"] = value

    @property
    def expression(self) -> str:
        remove = f" REMOVE {', '.join(f'#{name}' for name in self.removes)}" if self.removes else ""
        return f"SET {', '.join(self.sets)}{remove}"


_FREE = (
    "(attribute_not_exists(jobId) OR #status = :queued OR (#status = :status AND #leaseUntil < :now))"
    " AND (attribute_not_exists(#attempt) OR #attempt < :maxAttempts)"
)


class DynamoJobStore:
    """The job store in DynamoDB.

    Args:
        lease_seconds: How long a claim or heartbeat lasts.
        max_attempts: Runs of a job before it ends FAILED.
        result_days: How long a record is kept after its end.
        now: Epoch seconds. Workers' clocks may differ by a fraction of the lease: a fast one could take a lease over
            too early, which costs an extra run and no result, because the token decides.
    """

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        *,
        lease_seconds: int,
        max_attempts: int,
        result_days: int,
        now: Callable[[], float] = time.time,
        new_token: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._client = client
        self._table = table
        self._lease_ms = lease_seconds * 1000
        self._max_attempts = max_attempts
        self._result_seconds = result_days * DAY_SECONDS
        self._now = now
        self._new_token = new_token

    def claim(self, job: NewJob) -> Claim:
        """Take the job if it is free: new, queued, or its worker's lease has run out.

        The first claim's payload and content type stay the job's, also where a later message brings others.
        """
        token, now = self._new_token(), self._now_ms()
        kind, other = "payload", "payloadLocation"
        if isinstance(job.payload, Location):
            kind, other = other, kind
        update = self._claim_update(job, token, now)
        update.set_once(kind, _payload(job.payload))
        old = self._write(job.job_id, update, f"{_FREE} AND attribute_not_exists(#{other})", new=True)
        if not isinstance(old, _Written) and other in old:
            # No single expression says "unless the other one is there", so claim once more without a payload.
            old = self._write(job.job_id, self._claim_update(job, token, now), _FREE, new=True)
        if isinstance(old, _Written):
            return self._claimed(job.job_id, token, old.item)
        return self._not_free(job.job_id, token, old, now)

    def heartbeat(self, lease: Lease) -> None:
        """Make the lease last from now on as long as a new one."""
        update = _Update()
        update.set("leaseUntil", {"N": str(self._now_ms() + self._lease_ms)})
        self._owned(lease, update, RUNNING)

    def progress(self, lease: Lease, fraction: float, message: str) -> None:
        update = _Update()
        update.set("progress", _progress(fraction, message))
        self._owned(lease, update, RUNNING)

    def succeed(self, lease: Lease, result: Result, message: str = "") -> None:
        """Record the result; `message` is the last word on its progress."""
        update = self._end(lease, SUCCEEDED)
        update.set("progress", _progress(1.0, message))
        update.removes += ["error"]
        if result.location is not None:
            update.set("resultLocation", _location(result.location))
        else:
            update.set("result", {"S": result.json_text or "null"})
        self._owned(lease, update, SUCCEEDED)

    def fail(self, lease: Lease, error_type: str, message: str) -> None:
        update = self._end(lease, FAILED)
        update.set("error", _error(error_type, message))
        self._owned(lease, update, FAILED)

    def retry_later(self, lease: Lease, error_type: str, message: str) -> None:
        """Back to QUEUED, with the error of this attempt kept."""
        update = self._requeue(lease)
        update.set("error", _error(error_type, message))
        self._owned(lease, update, QUEUED)

    def hand_back(self, lease: Lease) -> None:
        """Back to QUEUED without charging the attempt: the worker is leaving."""
        update = self._requeue(lease)
        update.set("attempt", {"N": str(lease.attempt - 1)})
        self._owned(lease, update, QUEUED)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    def _claim_update(self, job: NewJob, token: str, now: int) -> _Update:
        update = _Update()
        update.set("status", {"S": RUNNING})
        update.set("statusShard", {"S": shard_key(RUNNING, job.job_id)})
        update.set("startedAt", {"S": iso_time(now)})
        update.set("maxAttempts", {"N": str(self._max_attempts)})
        update.set("leaseToken", {"S": token})
        update.set("leaseUntil", {"N": str(now + self._lease_ms)})
        update.set("expiresAt", self._expiry(job.job_id, now))
        update.set_once("submittedAt", {"S": iso_time(ids.submitted_ms(job.job_id))})
        update.set_once("contentType", {"S": job.content_type})
        update.set_once("generation", {"N": "1"})
        update.sets.append("#attempt = if_not_exists(#attempt, :zero) + :one")
        update.values |= {
            ":zero": {"N": "0"},
            ":one": {"N": "1"},
            ":queued": {"S": QUEUED},
            ":now": {"N": str(now)},
        }
        update.removes += ["progress", "finishedAt"]
        return update

    def _claimed(self, job_id: str, token: str, item: Item) -> Claimed:
        lease = Lease(job_id, token, int(item["attempt"]["N"]), int(item["generation"]["N"]))
        return Claimed(lease, NewJob(job_id, item["contentType"]["S"], _kept_payload(item)))

    def _not_free(self, job_id: str, token: str, item: Item, now: int) -> Claim:
        status = item["status"]["S"]
        if status in TERMINAL:
            return AlreadyEnded(status)
        if item.get("leaseToken", {}).get("S") == token:
            # Our own write, sent again by the SDK because its first answer was lost.
            return self._claimed(job_id, token, item)
        until = int(item.get("leaseUntil", {}).get("N", "0"))
        if status == RUNNING and until >= now:
            return Busy(until)
        return self._give_up(job_id, item)

    def _give_up(self, job_id: str, item: Item) -> Claim:
        """The last attempt's worker died: end the job, unless something else happened to it meanwhile."""
        lease = Lease(
            job_id,
            item.get("leaseToken", {}).get("S", ""),
            int(item["attempt"]["N"]),
            int(item["generation"]["N"]),
        )
        update = self._end(lease, FAILED)
        if item["status"]["S"] == RUNNING:
            message = f"The worker of attempt {lease.attempt} of {self._max_attempts} was lost."
            update.set("error", _error("WorkerLost", message))
        condition = "#status = :was AND #leaseToken = :token AND #attempt = :attempts"
        update.values |= {
            ":was": {"S": item["status"]["S"]},
            ":token": {"S": lease.token},
            ":attempts": {"N": str(lease.attempt)},
        }
        old = self._write(job_id, update, condition)
        if isinstance(old, _Written):
            return AlreadyEnded(FAILED)
        now_status = old.get("status", {}).get("S", CANCELLED)
        return AlreadyEnded(now_status) if now_status in TERMINAL else Busy(self._now_ms() + self._lease_ms)

    def _end(self, lease: Lease, status: str) -> _Update:
        now = self._now_ms()
        update = _Update()
        update.set("status", {"S": status})
        update.set("statusShard", {"S": shard_key(status, lease.job_id)})
        update.set("finishedAt", {"S": iso_time(now)})
        update.set("expiresAt", self._expiry(lease.job_id, now))
        # The token stays: it tells a repeated write from a foreign one.
        update.removes += ["leaseUntil"]
        return update

    def _expiry(self, job_id: str, now: int) -> dict[str, Any]:
        # A clock that is behind must not end a record before its time.
        return {"N": str(max(ids.submitted_ms(job_id), now) // 1000 + self._result_seconds)}

    def _requeue(self, lease: Lease) -> _Update:
        update = _Update()
        update.set("status", {"S": QUEUED})
        update.set("statusShard", {"S": shard_key(QUEUED, lease.job_id)})
        update.removes += ["leaseUntil", "progress"]
        return update

    def _owned(self, lease: Lease, update: _Update, outcome: str) -> None:
        """Write if the lease is still ours, or the record already says what we wanted to say.

        A lease that has run out counts as lost even if nobody has taken the job over yet: whoever was paused so long
        may change nothing.
        """
        update.values |= {
            ":token": {"S": lease.token},
            ":running": {"S": RUNNING},
            ":now": {"N": str(self._now_ms())},
        }
        condition = "#status = :running AND #leaseToken = :token AND #leaseUntil >= :now"
        old = self._write(lease.job_id, update, condition)
        if isinstance(old, _Written):
            return
        status = old.get("status", {}).get("S", "gone")
        ours = old.get("leaseToken", {}).get("S") == lease.token
        # A repeated heartbeat meets its own condition; one that does not is late.
        if not (ours and status == outcome != RUNNING):
            raise LeaseLostError(status)

    def _write(self, job_id: str, update: _Update, condition: str, *, new: bool = False) -> _Written | Item:
        """The written item, or the one that was in the way."""
        expression = update.expression
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"jobId": {"S": job_id}},
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=_names(f"{expression} {condition}"),
                ExpressionAttributeValues=update.values,
                ReturnValues="ALL_NEW" if new else "NONE",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as error:
            item: Item = error.response.get("Item", {})  # type: ignore[assignment]
            return item
        return _Written(answer.get("Attributes", {}))


@dataclass(frozen=True)
class _Written:
    item: Item


def _names(expressions: str) -> dict[str, str]:
    words = expressions.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {word: word[1:] for word in words if word.startswith("#")}


def _payload(payload: str | bytes | Location) -> dict[str, Any]:
    if isinstance(payload, Location):
        return _location(payload)
    return {"S" if isinstance(payload, str) else "B": payload}


def _kept_payload(item: Item) -> str | bytes | Location:
    if "payloadLocation" in item:
        at = item["payloadLocation"]["M"]
        return Location(at["bucket"]["S"], at["key"]["S"])
    (payload,) = item["payload"].values()
    return payload  # type: ignore[no-any-return]


def _location(location: Location) -> dict[str, Any]:
    return {"M": {"bucket": {"S": location.bucket}, "key": {"S": location.key}}}


def _progress(fraction: float, message: str) -> dict[str, Any]:
    values: dict[str, Any] = {"fraction": {"N": f"{min(1.0, max(0.0, fraction)):.6g}"}}
    if message:
        values["message"] = _text(message)
    return {"M": values}


def _error(error_type: str, message: str) -> dict[str, Any]:
    return {"M": {"type": {"S": error_type}, "message": _text(message)}}


def _text(message: str) -> dict[str, Any]:
    # A lone surrogate, as in the name of a file that is no UTF-8, is nothing that DynamoDB would take.
    return {"S": message[:ERROR_LENGTH].encode("utf-8", "replace").decode()}
