"""One message from claim to delete."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from botocore.exceptions import ClientError

from asyncjobs.jobs.aws_errors import AWS_ERRORS, error_code, is_passing
from asyncjobs.jobs.leases import AlreadyEnded, Busy, Claimed, JobStore, LeaseLostError, Location
from asyncjobs.jobs.queue import JobQueue, Message
from asyncjobs.worker.executor import Attempt, Control
from asyncjobs.worker.keeper import Held, Keeper
from asyncjobs.worker.logs import Log
from asyncjobs.worker.metrics import Metrics
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded
from asyncjobs.worker.payloads import ObjectStore
from asyncjobs.worker.slots import SlotPool

P = ParamSpec("P")
T = TypeVar("T")
LONGEST_BACKOFF = 900  # seconds
LONGEST_PAUSE = 20.0  # seconds between tries to record a result
RECORD_SECONDS = 600  # how long a result is tried to be recorded while AWS fails; the heartbeat goes on meanwhile


class Runner:
    """Claims, runs, records, and only then deletes the message.

    Args:
        directory: Where each attempt gets a folder of its own.
        timeout: Seconds an attempt may take.
        sleep, jitter: Injected in tests.
    """

    def __init__(
        self,
        queue: JobQueue,
        store: JobStore,
        objects: ObjectStore,
        keeper: Keeper,
        log: Log,
        metrics: Metrics,
        *,
        directory: Path,
        timeout: float,
        max_attempts: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._store = store
        self._objects = objects
        self._keeper = keeper
        self._log = log
        self._metrics = metrics
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._jitter = jitter
        self._now = now
        self._directory = directory
        self._numbers = itertools.count(1)

    async def handle(self, message: Message, slots: SlotPool) -> None:
        """Do what the message asks for. A failure of AWS leaves the message to be received again."""
        try:
            sent = await self._objects.keep_payload(message)
            claim = await self._store.claim(sent, generation=message.generation, likely_new=message.receives == 1)
            if isinstance(claim, AlreadyEnded):
                await self._queue.delete(message)
            elif isinstance(claim, Busy):
                # Kept, and seen again when that worker's lease is over: it may not live to delete its own message.
                seconds = claim.until_ms / 1000 - self._now()
                await self._queue.show_in(message, max(1, int(seconds) + 1))
            elif isinstance(claim, Claimed):
                # An earlier message may have brought another payload: that is the job's.
                mine = claim.job.payload == sent.payload
                await self._run(message, claim, message.payload if mine else claim.job.payload, slots)
        except AWS_ERRORS as error:
            refused = "" if is_passing(error) else "refused, "
            self._log.error(f"{refused}left for later: {error}", jobId=message.job_id)

    async def _run(self, message: Message, claim: Claimed, payload: str | bytes | Location, slots: SlotPool) -> None:
        lease = claim.lease
        held = self._keeper.hold(lease, message, Control())
        started = time.monotonic()
        attempt: Attempt | None = None
        try:
            outcome: Outcome
            try:
                attempt = self._attempt(held, claim.job.content_type)
                attempt.payload = await self._insist(self._objects.read_payload, payload, attempt.make_directory)
                outcome = await self._in_slot(attempt, held, slots)
            except (*AWS_ERRORS, OSError) as error:
                outcome = Failed("PayloadUnavailable", f"the payload cannot be read: {error}")
            if held.lost:
                await self._leave(held)
                return
            end = await self._record(message, held, outcome)
        except LeaseLostError as error:
            self._log.warning(f"result discarded: {error}", jobId=lease.job_id, attempt=lease.attempt)
            held.lost = error.status
            await self._leave(held)
            return
        finally:
            await self._keeper.release(held)
            if attempt is not None and attempt.has_directory:
                await asyncio.to_thread(shutil.rmtree, attempt.folder, ignore_errors=True)
        seconds = time.monotonic() - started
        self._metrics.ended(end.partition(" ")[0], seconds)
        self._log.info(end, jobId=lease.job_id, attempt=lease.attempt, seconds=round(seconds, 3))

    async def _leave(self, held: Held) -> None:
        """Another worker's message is left alone; that of a job that has ended, by a cancellation, is done with."""
        self._metrics.ended("lost", 0)
        if held.ended:
            await self._queue.delete(held.message)

    def _attempt(self, held: Held, content_type: str) -> Attempt:
        return Attempt(
            job_id=held.lease.job_id,
            attempt=held.lease.attempt,
            max_attempts=self._max_attempts,
            content_type=content_type,
            payload=b"",
            folder=f"{self._directory}/{next(self._numbers)}",
            timeout=self._timeout,
            on_progress=held.on_progress,
            control=held.control,
        )

    async def _in_slot(self, attempt: Attempt, held: Held, slots: SlotPool) -> Outcome:
        slot = await slots.take(held.control)
        if slot is None:
            return Stopped()
        began = time.monotonic()
        self._metrics.started(held.message.sent_ms)
        self._log.info("started", jobId=attempt.job_id, attempt=attempt.attempt)
        try:
            return await slot.run(attempt)
        finally:
            slots.give(slot, time.monotonic() - began)

    async def _record(self, message: Message, held: Held, outcome: Outcome) -> str:
        """Write the outcome, then let the message go or come back; says in a word how it ended."""
        lease = held.lease
        if isinstance(outcome, Succeeded):
            refusal = await self._succeed(held, outcome)
            if refusal is None:
                await self._insist(self._queue.delete, message)
                return "succeeded"
            outcome = refusal
        if isinstance(outcome, Stopped):
            await self._write(held, self._store.hand_back, lease)
            await self._insist(self._queue.show_in, message, 0)
            return "handed back"
        failed = outcome
        self._log.error(
            f"{failed.error_type}: {failed.message}",
            jobId=lease.job_id,
            attempt=lease.attempt,
            traceback=failed.detail or None,
        )
        if failed.final or lease.attempt >= self._max_attempts:
            await self._write(held, self._store.fail, lease, failed.error_type, failed.message)
            await self._insist(self._queue.delete, message)
            return "failed"
        return await self._retry_later(message, held, failed)

    async def _succeed(self, held: Held, outcome: Succeeded) -> Failed | None:
        """Keep the result; the failure of the job if the table can hold no such thing."""
        result = await self._insist(self._objects.keep_result, held.lease, outcome)
        try:
            await self._write(held, self._store.succeed, held.lease, result, held.last_word)
        except ClientError as error:
            if error_code(error) != "ValidationException":
                raise
            return Failed("ResultNotStorable", f"the table does not take the result: {error}", final=True)
        return None

    async def _retry_later(self, message: Message, held: Held, outcome: Failed) -> str:
        seconds = backoff_seconds(held.lease.attempt, self._jitter())
        await self._write(held, self._store.retry_later, held.lease, outcome.error_type, outcome.message)
        await self._insist(self._queue.show_in, message, seconds)
        return f"to be tried again in {seconds} s"

    async def _write(self, held: Held, end: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        """End the lease in the record, and only then its heartbeat, which would hide the message again."""
        held.ending, held.progress = True, None
        await self._insist(end, *args, **kwargs)
        await self._keeper.release(held)

    async def _insist(self, call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work is not lost to a passing failure of AWS; what AWS refuses for good holds no slot."""
        deadline = time.monotonic() + RECORD_SECONDS
        pause = 0.5
        while True:
            try:
                return await call(*args, **kwargs)
            except Exception as error:
                if not is_passing(error) or time.monotonic() > deadline:
                    raise
            await self._sleep(pause + random.uniform(0, 0.5))
            pause = min(2 * pause, LONGEST_PAUSE)


def backoff_seconds(attempt: int, jitter: float) -> int:
    """2, 4, 8 … seconds after the first, second, third attempt, times `jitter` (0.5 to 1), 15 minutes at most."""
    return max(1, int(min(LONGEST_BACKOFF, 2.0 ** min(attempt, 20)) * jitter))
