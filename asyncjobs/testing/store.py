"""The job store in memory."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from asyncjobs.jobs import ids
from asyncjobs.jobs.leases import AlreadyEnded, Busy, Claim, Claimed, Lease, LeaseLostError, NewJob, Result
from asyncjobs.jobs.record import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, TERMINAL, iso_time

_ERROR_LENGTH = 4_000  # as the table's record has it


@dataclass
class Record:
    """A job in the InMemoryStore; times in epoch milliseconds, 0 where there is none.

    Args:
        job: None where the job was cancelled before a worker saw it.
        writes: Each status written, in order.
    """

    status: str
    attempt: int
    generation: int
    token: str
    lease_until: int
    job: NewJob | None
    max_attempts: int = 0
    started: int = 0
    finished: int = 0
    progress: tuple[float, str] | None = None
    result: Result | None = None
    error: tuple[str, str] | None = None
    writes: list[str] = field(default_factory=list)

    def as_json(self, job_id: str) -> dict[str, Any]:
        """The job as the API's GET answers it."""
        job: dict[str, Any] = {
            "jobId": job_id,
            "status": self.status,
            "submittedAt": iso_time(ids.submitted_ms(job_id)),
        }
        job |= {"startedAt": iso_time(self.started)} if self.started else {}
        job |= {"finishedAt": iso_time(self.finished)} if self.finished else {}
        job |= {"attempt": self.attempt} if self.attempt else {}
        job |= {"maxAttempts": self.max_attempts} if self.max_attempts else {}
        if self.progress is not None:
            fraction, message = self.progress
            job["progress"] = {"fraction": fraction} | ({"message": message} if message else {})
        job |= {"contentType": self.job.content_type} if self.job else {}
        if self.result is not None and self.result.location is not None:
            job["resultLocation"] = {"bucket": self.result.location.bucket, "key": self.result.location.key}
        elif self.result is not None:
            job["result"] = json.loads(self.result.json_text or "null")
        if self.error is not None:
            job["error"] = dict(zip(("type", "message"), self.error, strict=True))
        return job


class InMemoryStore:
    """A JobStore with the conditions of the one in DynamoDB, each method as one atomic step.

    Args:
        clock: Epoch seconds.
    """

    def __init__(self, clock: Callable[[], float], *, lease_seconds: int = 30, max_attempts: int = 3) -> None:
        self._clock = clock
        self._lease_ms = lease_seconds * 1000
        self._max_attempts = max_attempts
        self._tokens = itertools.count(1)
        self._lock = threading.Lock()
        self.records: dict[str, Record] = {}
        self.errors: list[Exception] = []  # each makes one call fail before it does anything

    async def claim(self, job: NewJob, *, generation: int = 1, likely_new: bool = False) -> Claim:
        with self._lock:
            self._fail_if_told()
            now, token = self._now_ms(), f"token-{next(self._tokens)}"
            record = self.records.get(job.job_id)
            if record is None:
                if generation > 1:
                    return AlreadyEnded("gone")
                record = self.records[job.job_id] = Record(QUEUED, 0, 1, "", 0, job)
            if generation < record.generation:
                return AlreadyEnded("retried")
            if generation > record.generation:
                next_one = record.status in TERMINAL and generation == record.generation + 1
                if not next_one or record.job is None:
                    return Busy(now + self._lease_ms)
                self._next_generation(record)
            if record.status in TERMINAL or record.job is None:
                return AlreadyEnded(record.status)
            if record.status == RUNNING and record.lease_until >= now:
                return Busy(record.lease_until)
            if record.attempt >= self._max_attempts:
                return self._give_up(record)
            record.attempt += 1
            record.token, record.lease_until, record.progress = token, now + self._lease_ms, None
            record.started, record.finished, record.max_attempts = now, 0, self._max_attempts
            self._enter(record, RUNNING)
            return Claimed(Lease(job.job_id, token, record.attempt, record.generation), record.job)

    async def heartbeat(self, lease: Lease) -> None:
        with self._lock:
            self._owned(lease).lease_until = self._now_ms() + self._lease_ms

    async def progress(self, lease: Lease, fraction: float, message: str) -> None:
        with self._lock:
            self._owned(lease).progress = (min(1.0, max(0.0, fraction)), message)

    async def succeed(self, lease: Lease, result: Result, message: str = "") -> None:
        with self._lock:
            if record := self._to_end(lease, SUCCEEDED):
                record.result, record.error, record.progress = result, None, (1.0, message)
                self._enter(record, SUCCEEDED)

    async def fail(self, lease: Lease, error_type: str, message: str) -> None:
        with self._lock:
            if record := self._to_end(lease, FAILED):
                record.error = (error_type, message[:_ERROR_LENGTH])
                self._enter(record, FAILED)

    async def retry_later(self, lease: Lease, error_type: str, message: str) -> None:
        with self._lock:
            if record := self._to_end(lease, QUEUED):
                record.error, record.progress = (error_type, message[:_ERROR_LENGTH]), None
                self._enter(record, QUEUED)

    async def hand_back(self, lease: Lease) -> None:
        with self._lock:
            if record := self._to_end(lease, QUEUED):
                record.attempt, record.progress = lease.attempt - 1, None
                self._enter(record, QUEUED)

    async def lose(self, job: NewJob, *, generation: int = 1) -> AlreadyEnded | Busy:
        with self._lock:
            record = self.records.get(job.job_id)
            if record is None and generation == 1:
                record = self.records[job.job_id] = Record(QUEUED, 0, 1, "", 0, job)
            if record is None or generation != record.generation or record.status in TERMINAL:
                return AlreadyEnded(record.status if record else "gone")
            if record.status == RUNNING and record.lease_until >= self._now_ms():
                return Busy(record.lease_until)
            message = "The job was received too often without an end: its workers were lost, or it was handed back."
            record.error = ("WorkerLost", message)
            self._enter(record, FAILED)
            return AlreadyEnded(FAILED)

    def get(self, job_id: str) -> dict[str, Any] | None:
        """The job as the API's GET answers it; None without a record, where the API says QUEUED to a fresh id."""
        with self._lock:
            record = self.records.get(job_id)
            return record.as_json(job_id) if record else None

    def cancel(self, job_id: str) -> bool:
        """What the API's DELETE does; whether the job had not ended."""
        with self._lock:
            record = self.records.setdefault(job_id, Record(QUEUED, 0, 1, "", 0, None))
            if record.status in TERMINAL:
                return False
            self._enter(record, CANCELLED)
            return True

    def retry(self, job_id: str) -> bool:
        """What `retry` marks in the record, once its message is sent; whether there was something to run again."""
        with self._lock:
            record = self.records.get(job_id)
            if record is None or record.status not in TERMINAL or record.job is None:
                return False
            self._next_generation(record)
            return True

    def _next_generation(self, record: Record) -> None:
        record.generation, record.attempt = record.generation + 1, 0
        record.result, record.error, record.progress, record.token = None, None, None, ""
        record.started = 0
        self._enter(record, QUEUED)

    def _give_up(self, record: Record) -> AlreadyEnded:
        if record.status == RUNNING:
            record.error = ("WorkerLost", f"The worker of attempt {record.attempt} of {self._max_attempts} was lost.")
        self._enter(record, FAILED)
        return AlreadyEnded(FAILED)

    def _owned(self, lease: Lease) -> Record:
        self._fail_if_told()
        record = self.records.get(lease.job_id)
        if record is None:
            raise LeaseLostError("gone")
        mine = record.token == lease.token and record.status == RUNNING
        if not (mine and record.lease_until >= self._now_ms()):
            raise LeaseLostError(record.status)
        return record

    def _to_end(self, lease: Lease, outcome: str) -> Record | None:
        """The record of a lease that is good; None where the same end was written before, and its answer was lost."""
        try:
            return self._owned(lease)
        except LeaseLostError as error:
            record = self.records.get(lease.job_id)
            if record is None or record.token != lease.token or error.status != outcome:
                raise
            return None

    def _enter(self, record: Record, status: str) -> None:
        record.status = status
        record.finished = self._now_ms() if status in TERMINAL else 0
        record.writes.append(status)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _fail_if_told(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
