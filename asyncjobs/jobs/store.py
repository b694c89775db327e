"""Claims, heartbeats and ends of jobs: each one conditional write on the lease's fencing token.

A worker that was paused past its lease finds its token gone from the record and can change nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from asyncjobs.jobs import ids
from asyncjobs.jobs.api import Api
from asyncjobs.jobs.leases import (
    AlreadyEnded,
    Busy,
    Claim,
    Claimed,
    Lease,
    LeaseLostError,
    Location,
    NewJob,
    Result,
)
from asyncjobs.jobs.record import (
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    Item,
    iso_time,
    shard_key,
)
from asyncjobs.jobs.writes import Refused, Update, Writer, Written

DAY_SECONDS = 86_400
ERROR_LENGTH = 4_000  # characters of an error's message kept in the record

# Of a later generation there must be a record: its payload is nowhere else.
_NEW_OR_FREE = "(attribute_not_exists(#jobId) OR #status = :queued OR (#status = :running AND #leaseUntil < :now))"
_FREE = "(#status = :queued OR (#status = :running AND #leaseUntil < :now))"
_SAME_GENERATION = "(attribute_not_exists(#generation) OR #generation = :generation)"
_ATTEMPTS_LEFT = "(attribute_not_exists(#attempt) OR #attempt < :maxAttempts)"
_OWNED = "#status = :running AND #leaseToken = :token AND #leaseUntil >= :now"

_STATUS: dict[str, dict[str, Any]] = {status: {"S": status} for status in (QUEUED, RUNNING, *TERMINAL)}


# Jobs come in batches, and those of a batch share most of their times.
@lru_cache(maxsize=64)
def _number(value: int) -> dict[str, Any]:
    return {"N": str(value)}


def _time(epoch_ms: int) -> dict[str, Any]:
    return {"S": iso_time(epoch_ms)}


class DynamoJobStore:
    """The job store in DynamoDB.

    Args:
        lease_seconds: How long a claim or heartbeat lasts.
        max_attempts: Runs of a job before it ends FAILED.
        result_days: How long a record is kept after its end.
        coalesce: From how many writes on, wanted at the same time, they go out as one call; 0: never.
        now: Epoch seconds. Workers' clocks may differ by a fraction of the lease: a fast one could take a lease over
            too early, which costs an extra run and no result, because the token decides.
    """

    def __init__(
        self,
        api: Api,
        table: str,
        *,
        lease_seconds: int,
        max_attempts: int,
        result_days: int,
        coalesce: int = 0,
        now: Callable[[], float] = time.time,
        new_token: Callable[[], str] = lambda: os.urandom(16).hex(),
    ) -> None:
        self._writer = Writer(api, table, coalesce=coalesce)
        self._lease_ms = lease_seconds * 1000
        self._max_attempts = max_attempts
        self._result_seconds = result_days * DAY_SECONDS
        self._now = now
        self._new_token = new_token

    async def claim(self, job: NewJob, *, generation: int = 1, likely_new: bool = False) -> Claim:
        """Take the job if it is free: new, queued, or its worker's lease has run out.

        The first claim's payload and content type stay the job's, also where a later message brings others.

        Args:
            generation: The message's. An older one than the record's is a leftover; the next one, of a job that has
                ended, is a retry that has not reached the record yet.
            likely_new: There is probably no record yet; making one can share a call with other writes.
        """
        token, now = self._new_token(), self._now_ms()
        if likely_new and generation == 1 and self._writer.coalesces:
            made = await self._writer.insert(job.job_id, self._first_claim(job, token, now))
            if isinstance(made, Written):
                return Claimed(Lease(job.job_id, token, 1, 1), job)
        free = f"{_NEW_OR_FREE if generation == 1 else _FREE} AND {_SAME_GENERATION} AND {_ATTEMPTS_LEFT}"
        old = await self._write_with_payload(job, free, lambda: self._claim_update(job, token, now, generation))
        if isinstance(old, Written):
            return self._claimed(job.job_id, token, old.item)
        return await self._not_free(job, token, old.item, now, generation)

    def heartbeat(self, lease: Lease) -> Awaitable[None]:
        """Make the lease last from now on as long as a new one."""
        return self._owned(lease, Update({"leaseUntil": _number(self._now_ms() + self._lease_ms)}), RUNNING)

    def progress(self, lease: Lease, fraction: float, message: str) -> Awaitable[None]:
        return self._owned(lease, Update({"progress": _progress(fraction, message)}), RUNNING)

    def succeed(self, lease: Lease, result: Result, message: str = "") -> Awaitable[None]:
        """Record the result; `message` is the last word on its progress."""
        update = self._end(lease.job_id, SUCCEEDED)
        update.sets["progress"] = _progress(1.0, message)
        update.removes += ("error",)
        if result.location is not None:
            update.sets["resultLocation"] = _location(result.location)
        else:
            update.sets["result"] = {"S": result.json_text or "null"}
        return self._owned(lease, update, SUCCEEDED)

    def fail(self, lease: Lease, error_type: str, message: str) -> Awaitable[None]:
        update = self._end(lease.job_id, FAILED)
        update.sets["error"] = _error(error_type, message)
        return self._owned(lease, update, FAILED)

    def retry_later(self, lease: Lease, error_type: str, message: str) -> Awaitable[None]:
        """Back to QUEUED, with the error of this attempt kept."""
        update = self._requeue(lease)
        update.sets["error"] = _error(error_type, message)
        return self._owned(lease, update, QUEUED)

    def hand_back(self, lease: Lease) -> Awaitable[None]:
        """Back to QUEUED without charging the attempt: the worker is leaving."""
        update = self._requeue(lease)
        update.sets["attempt"] = _number(lease.attempt - 1)
        return self._owned(lease, update, QUEUED)

    async def lose(self, job: NewJob, *, generation: int = 1) -> AlreadyEnded | Busy:
        """End a job whose message no worker will receive again, unless a worker has it just now."""
        now = self._now_ms()
        free = f"{_NEW_OR_FREE if generation == 1 else _FREE} AND {_SAME_GENERATION}"

        def update() -> Update:
            update = self._end(job.job_id, FAILED)
            message = "The job was received too often without an end: its workers were lost, or it was handed back."
            update.sets["error"] = _error("WorkerLost", message)
            update.once = {"attempt": _number(0), **self._description(job, generation)}
            update.given = {"queued": _STATUS[QUEUED], "running": _STATUS[RUNNING], "now": _number(now)}
            return update

        old = await self._write_with_payload(job, free, update)
        if isinstance(old, Written):
            return AlreadyEnded(FAILED)
        status = old.item.get("status", {}).get("S", "gone")
        if status == RUNNING and generation == _generation(old.item):
            return Busy(int(old.item["leaseUntil"]["N"]))
        return AlreadyEnded(status)

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    async def _write_with_payload(self, job: NewJob, condition: str, update: Callable[[], Update]) -> Written | Refused:
        """Keep the message's payload with the record, unless that has one already."""
        kind, other = "payload", "payloadLocation"
        if isinstance(job.payload, Location):
            kind, other = other, kind
        with_payload = update()
        with_payload.once[kind] = _payload(job.payload)
        old = await self._writer.write(
            job.job_id, with_payload, f"{condition} AND attribute_not_exists(#{other})", new=True
        )
        if isinstance(old, Refused) and other in old.item:
            # No single expression says "unless the other one is there", so write once more without a payload.
            return await self._writer.write(job.job_id, update(), condition, new=True)
        return old

    def _first_claim(self, job: NewJob, token: str, now: int) -> dict[str, Any]:
        """The record that it makes, without its key."""
        kind = "payloadLocation" if isinstance(job.payload, Location) else "payload"
        return {
            **self._start(job.job_id, token, now),
            **self._description(job, 1),
            "attempt": _number(1),
            kind: _payload(job.payload),
        }

    def _claim_update(self, job: NewJob, token: str, now: int, generation: int) -> Update:
        return Update(
            self._start(job.job_id, token, now),
            ("progress", "finishedAt"),
            {"queued": _STATUS[QUEUED], "running": _STATUS[RUNNING], "now": _number(now)},
            once=self._description(job, generation),
            counts="attempt",
        )

    def _start(self, job_id: str, token: str, now: int) -> dict[str, Any]:
        """What every claim sets."""
        return {
            "status": _STATUS[RUNNING],
            "statusShard": {"S": shard_key(RUNNING, job_id)},
            "startedAt": _time(now),
            "maxAttempts": _number(self._max_attempts),
            "leaseToken": {"S": token},
            "leaseUntil": _number(now + self._lease_ms),
            "expiresAt": self._expiry(job_id, now),
        }

    def _description(self, job: NewJob, generation: int) -> dict[str, Any]:
        """What only a job's first claim sets."""
        return {
            "submittedAt": _time(ids.submitted_ms(job.job_id)),
            "contentType": {"S": job.content_type},
            "generation": _number(generation),
        }

    def _claimed(self, job_id: str, token: str, item: Item) -> Claimed:
        lease = Lease(job_id, token, int(item["attempt"]["N"]), _generation(item))
        return Claimed(lease, NewJob(job_id, item["contentType"]["S"], _kept_payload(item)))

    async def _not_free(self, job: NewJob, token: str, item: Item, now: int, generation: int) -> Claim:
        if not item:
            return AlreadyEnded("gone")
        status, kept = item["status"]["S"], _generation(item)
        if status == RUNNING and item.get("leaseToken", {}).get("S") == token:
            # Our own write, sent again because its first answer was lost.
            return self._claimed(job.job_id, token, item)
        if generation < kept:
            return AlreadyEnded("retried")
        if generation > kept:
            return await self._claim_retried(job.job_id, token, item, now, generation)
        if status in TERMINAL:
            return AlreadyEnded(status)
        until = int(item.get("leaseUntil", {}).get("N", "0"))
        if status == RUNNING and until >= now:
            return Busy(until)
        return await self._give_up(job.job_id, item)

    async def _claim_retried(self, job_id: str, token: str, item: Item, now: int, generation: int) -> Claim:
        """Start the next generation: its message was faster than the mark in the record."""
        status = item["status"]["S"]
        if status not in TERMINAL or generation != _generation(item) + 1 or "contentType" not in item:
            return Busy(now + self._lease_ms)
        update = Update(
            {**self._start(job_id, token, now), "generation": _number(generation), "attempt": _number(1)},
            ("progress", "finishedAt", "result", "resultLocation", "error"),
            {"was": _STATUS[status], "previous": _number(generation - 1)},
        )
        old = await self._writer.write(job_id, update, "#status = :was AND #generation = :previous", new=True)
        if isinstance(old, Written) or old.item.get("leaseToken", {}).get("S") == token:
            return self._claimed(job_id, token, old.item)
        # The mark came in between: the message is good when it is seen again.
        return Busy(now)

    async def _give_up(self, job_id: str, item: Item) -> Claim:
        """The last attempt's worker died: end the job, unless something else happened to it meanwhile."""
        token, attempt = item.get("leaseToken", {}).get("S", ""), int(item["attempt"]["N"])
        update = self._end(job_id, FAILED)
        if item["status"]["S"] == RUNNING:
            message = f"The worker of attempt {attempt} of {self._max_attempts} was lost."
            update.sets["error"] = _error("WorkerLost", message)
        condition = "#status = :was AND #leaseToken = :token AND #attempt = :attempts"
        update.given = {"was": item["status"], "token": {"S": token}, "attempts": _number(attempt)}
        if item["status"]["S"] == RUNNING:
            # A heartbeat may have come in between.
            condition += " AND #leaseUntil = :until"
            update.given["until"] = item["leaseUntil"]
        old = await self._writer.write(job_id, update, condition)
        if isinstance(old, Written):
            return AlreadyEnded(FAILED)
        status = old.item.get("status", {}).get("S", "gone")
        return Busy(self._now_ms() + self._lease_ms) if status in (QUEUED, RUNNING) else AlreadyEnded(status)

    def _end(self, job_id: str, status: str) -> Update:
        now = self._now_ms()
        sets = {
            "status": _STATUS[status],
            "statusShard": {"S": shard_key(status, job_id)},
            "finishedAt": _time(now),
            "expiresAt": self._expiry(job_id, now),
        }
        # The token stays: it tells a repeated write from a foreign one.
        return Update(sets, ("leaseUntil",))

    def _expiry(self, job_id: str, now: int) -> dict[str, Any]:
        # A clock that is behind must not end a record before its time.
        return _number(max(ids.submitted_ms(job_id), now) // 1000 + self._result_seconds)

    def _requeue(self, lease: Lease) -> Update:
        sets = {"status": _STATUS[QUEUED], "statusShard": {"S": shard_key(QUEUED, lease.job_id)}}
        return Update(sets, ("leaseUntil", "progress"))

    async def _owned(self, lease: Lease, update: Update, outcome: str) -> None:
        """Write if the lease is still ours, or the record already says what we wanted to say.

        A lease that has run out counts as lost even if nobody has taken the job over yet: whoever was paused so long
        may change nothing.
        """
        update.given = {"running": _STATUS[RUNNING], "token": {"S": lease.token}, "now": _number(self._now_ms())}
        old = await self._writer.write(lease.job_id, update, _OWNED)
        if isinstance(old, Written):
            return
        status = old.item.get("status", {}).get("S", "gone")
        ours = old.item.get("leaseToken", {}).get("S") == lease.token
        # A repeated heartbeat meets its own condition; one that does not is late.
        if not (ours and status == outcome != RUNNING):
            raise LeaseLostError(status)


def _generation(item: Item) -> int:
    return int(item.get("generation", {}).get("N", "1"))


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
