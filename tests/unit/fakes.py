"""The queue, the table and the bucket of a worker in memory, a slot without a process, and a clock that is told."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from typing import Any

from botocore.exceptions import ClientError

from asyncjobs.jobs.leases import AlreadyEnded, Busy, Claim, Claimed, Lease, LeaseLostError, Location, NewJob, Result
from asyncjobs.jobs.queue import LONGEST_VISIBILITY, MOST_MESSAGES, Message, PoisonError
from asyncjobs.jobs.record import CANCELLED, FAILED, PAYLOAD_IN_RECORD, QUEUED, RUNNING, SUCCEEDED, TERMINAL
from asyncjobs.worker.executor import Attempt
from asyncjobs.worker.logs import Log
from asyncjobs.worker.outcome import Outcome, Succeeded


class Clock:
    """Seconds that pass only when told to; also a `sleep` that takes no time."""

    def __init__(self, now: float = 1_795_416_232.0) -> None:
        self.now = now
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


class Lines(Log):
    """A log that keeps its lines as values."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        super().__init__(self._text)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._text.getvalue().splitlines()]

    def messages(self, level: str = "") -> list[str]:
        return [line["message"] for line in self.lines if not level or line["level"] == level]


@dataclass
class _Sent:
    job_id: str
    payload: str | bytes
    content_type: str
    visible_at: float
    generation: int = 1
    receives: int = 0
    receipt: str = ""


class InMemoryQueue:
    """A JobQueue with SQS's rules: a received message is hidden for the visibility timeout, then comes again."""

    def __init__(self, clock: Callable[[], float], *, lease_seconds: int = 30) -> None:
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._sent: list[_Sent] = []
        self._poison: list[PoisonError] = []
        self._receipts = itertools.count(1)
        self._lock = threading.Lock()
        self.errors: list[Exception] = []  # each makes one call fail

    def send(
        self,
        job_id: str,
        payload: str | bytes = "{}",
        content_type: str = "application/json",
        generation: int = 1,
    ) -> None:
        with self._lock:
            self._sent.append(_Sent(job_id, payload, content_type, self._clock(), generation))

    def send_poison(self, error: PoisonError) -> None:
        with self._lock:
            self._poison.append(error)

    async def receive(self, most: int, *, wait: bool = True) -> list[Message | PoisonError]:
        # A long poll, short enough that a test's clock may stand still.
        for _ in range(5 if wait else 0):
            with self._lock:
                if self.errors or self._poison or self._visible():
                    break
            await asyncio.sleep(0.002)
        with self._lock:
            self._fail_if_told()
            found: list[Message | PoisonError] = list(self._poison)
            self._poison.clear()
            return found + [self._deliver(sent) for sent in self._visible()[: min(most, MOST_MESSAGES)]]

    async def delete(self, message: Message) -> None:
        with self._lock:
            self._fail_if_told()
            self._sent = [sent for sent in self._sent if sent.receipt != message.receipt]

    async def show_in(self, message: Message | PoisonError, seconds: int) -> None:
        with self._lock:
            self._fail_if_told()
            if isinstance(message, PoisonError):
                self._poison.append(message)
            for sent in self._sent:
                if sent.receipt == message.receipt:
                    sent.visible_at = self._clock() + max(0, min(seconds, LONGEST_VISIBILITY))

    @property
    def left(self) -> list[str]:
        """The ids of all messages not yet deleted."""
        with self._lock:
            return [sent.job_id for sent in self._sent]

    @property
    def poison(self) -> list[PoisonError]:
        with self._lock:
            return list(self._poison)

    @property
    def hidden_for(self) -> dict[str, float]:
        """Seconds until each message can be received; 0 or less: at once."""
        with self._lock:
            return {sent.job_id: sent.visible_at - self._clock() for sent in self._sent}

    def _visible(self) -> list[_Sent]:
        return [sent for sent in self._sent if sent.visible_at <= self._clock()]

    def _deliver(self, sent: _Sent) -> Message:
        sent.receives += 1
        sent.receipt = f"receipt-{next(self._receipts)}"
        sent.visible_at = self._clock() + self._lease_seconds
        return Message(
            sent.receipt,
            sent.job_id,
            sent.content_type,
            sent.payload,
            sent.receives,
            int(self._clock() * 1000),
            sent.generation,
        )

    def _fail_if_told(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


@dataclass
class Record:
    """A job in the InMemoryStore; times in epoch milliseconds."""

    status: str
    attempt: int
    generation: int
    token: str
    lease_until: int
    job: NewJob
    progress: tuple[float, str] | None = None
    result: Result | None = None
    error: tuple[str, str] | None = None
    writes: list[str] = field(default_factory=list)  # each status written, in order


class InMemoryStore:
    """A JobStore with the conditions of the one in DynamoDB, each method as one atomic step."""

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
                if record.status not in TERMINAL or generation != record.generation + 1:
                    return Busy(now + self._lease_ms)
                self._next_generation(record)
            if record.status in TERMINAL:
                return AlreadyEnded(record.status)
            if record.status == RUNNING and record.lease_until >= now:
                return Busy(record.lease_until)
            if record.attempt >= self._max_attempts:
                return self._give_up(record)
            record.attempt += 1
            record.token, record.lease_until, record.progress = token, now + self._lease_ms, None
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
            record = self._owned(lease)
            record.result, record.error, record.progress = result, None, (1.0, message)
            self._enter(record, SUCCEEDED)

    async def fail(self, lease: Lease, error_type: str, message: str) -> None:
        with self._lock:
            record = self._owned(lease)
            record.error = (error_type, message)
            self._enter(record, FAILED)

    async def retry_later(self, lease: Lease, error_type: str, message: str) -> None:
        with self._lock:
            record = self._owned(lease)
            record.error, record.progress = (error_type, message), None
            self._enter(record, QUEUED)

    async def hand_back(self, lease: Lease) -> None:
        with self._lock:
            record = self._owned(lease)
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
            record.error = ("WorkerLost", "The job was received too often.")
            self._enter(record, FAILED)
            return AlreadyEnded(FAILED)

    def cancel(self, job_id: str) -> None:
        """What the API's DELETE does."""
        with self._lock:
            if self.records[job_id].status not in TERMINAL:
                self._enter(self.records[job_id], CANCELLED)

    def retry(self, job_id: str) -> None:
        """What `retry` marks in the record, once its message is sent."""
        with self._lock:
            if self.records[job_id].status in TERMINAL:
                self._next_generation(self.records[job_id])

    def _next_generation(self, record: Record) -> None:
        record.generation, record.attempt = record.generation + 1, 0
        record.result, record.error, record.progress = None, None, None
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

    def _enter(self, record: Record, status: str) -> None:
        record.status = status
        record.writes.append(status)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _fail_if_told(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


class InMemoryObjects:
    """An ObjectStore that keeps big payloads, and all results that are not JSON, in `kept`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def keep_payload(self, message: Message) -> NewJob:
        data = message.payload.encode() if isinstance(message.payload, str) else message.payload
        if len(data) <= PAYLOAD_IN_RECORD:
            return NewJob(message.job_id, message.content_type, message.payload)
        key = f"payloads/{message.job_id}/{hashlib.sha256(data).hexdigest()}"
        self.kept[key] = data
        return NewJob(message.job_id, message.content_type, Location("bucket", key))

    async def read_payload(self, payload: str | bytes | Location) -> bytes:
        if isinstance(payload, Location):
            if payload.key not in self.kept:
                raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "there is none"}}, "GetObject")
            return self.kept[payload.key]
        return payload.encode() if isinstance(payload, str) else payload

    async def keep_result(self, lease: Lease, outcome: Succeeded) -> Result:
        if outcome.json_text is not None:
            return Result(json_text=outcome.json_text)
        key = f"results/{lease.job_id}/{lease.generation}-{lease.token}"
        self.kept[key] = outcome.file.read_bytes() if outcome.file else outcome.data or b""
        return Result(location=Location("bucket", key))


Run = Callable[[Attempt], Outcome | Awaitable[Outcome]]


class FakeSlot:
    """A slot that answers with what a function, in a thread, or a coroutine makes of the attempt."""

    def __init__(self, run: Run = lambda _: Succeeded(json_text="null")) -> None:
        self._run = run
        self.attempts: list[Attempt] = []
        self.closed = False

    async def start(self) -> None:
        """Always ready."""

    async def run(self, attempt: Attempt) -> Outcome:
        self.attempts.append(attempt)
        outcome = self._run(attempt) if iscoroutinefunction(self._run) else asyncio.to_thread(self._run, attempt)
        return await outcome  # type: ignore[misc, no-any-return]

    async def close(self) -> None:
        self.closed = True
