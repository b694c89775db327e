"""One message from claim to delete."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from asyncjobs.jobs.queue import JobQueue, Message
from asyncjobs.jobs.store import AlreadyEnded, Busy, Claimed, JobStore, LeaseLostError, Location
from asyncjobs.worker.aws_errors import AWS_ERRORS, error_code, is_passing
from asyncjobs.worker.executor import Attempt, Control, Slot
from asyncjobs.worker.keeper import Held, Keeper
from asyncjobs.worker.logs import Log
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded
from asyncjobs.worker.payloads import ObjectStore

T = TypeVar("T")
LONGEST_BACKOFF = 900  # seconds
RECORD_SECONDS = 600  # how long a result is tried to be recorded while AWS fails; the heartbeat goes on meanwhile


class Runner:
    """Claims, runs, records, and only then deletes the message.

    Args:
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
        *,
        timeout: float,
        max_attempts: int,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._store = store
        self._objects = objects
        self._keeper = keeper
        self._log = log
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._sleep = sleep
        self._jitter = jitter
        self._now = now

    def handle(self, message: Message, slot: Slot) -> None:
        """Do what the message asks for. A failure of AWS leaves the message to be received again."""
        try:
            sent = self._objects.keep_payload(message)
            claim = self._store.claim(sent)
            if isinstance(claim, AlreadyEnded):
                self._queue.delete(message)
            elif isinstance(claim, Busy):
                # Kept, and seen again when that worker's lease is over: it may not live to delete its own message.
                seconds = claim.until_ms / 1000 - self._now()
                self._queue.show_in(message, max(1, int(seconds) + 1))
            elif isinstance(claim, Claimed):
                # An earlier message may have brought another payload: that is the job's.
                mine = claim.job.payload == sent.payload
                self._run(message, claim, message.payload if mine else claim.job.payload, slot)
        except AWS_ERRORS as error:
            refused = "" if is_passing(error) else "refused, "
            self._log.error(f"{refused}left for later: {error}", jobId=message.job_id)

    def _run(self, message: Message, claim: Claimed, payload: str | bytes | Location, slot: Slot) -> None:
        lease = claim.lease
        started = time.monotonic()
        self._log.info("started", jobId=lease.job_id, attempt=lease.attempt)
        held = self._keeper.hold(lease, message, Control())
        try:
            with tempfile.TemporaryDirectory(prefix="asyncjobs-", ignore_cleanup_errors=True) as directory:
                outcome = self._attempt(held, claim.job.content_type, payload, Path(directory), slot)
                if held.lost:
                    return
                end = self._record(message, held, outcome)
        except LeaseLostError as error:
            self._log.warning(f"result discarded: {error}", jobId=lease.job_id, attempt=lease.attempt)
            return
        finally:
            self._keeper.release(held)
        self._log.info(end, jobId=lease.job_id, attempt=lease.attempt, seconds=round(time.monotonic() - started, 3))

    def _attempt(
        self, held: Held, content_type: str, payload: str | bytes | Location, directory: Path, slot: Slot
    ) -> Outcome:
        try:
            data = self._insist(lambda: self._objects.read_payload(payload))
        except AWS_ERRORS as error:
            return Failed("PayloadUnavailable", f"the payload cannot be read: {error}")
        return slot.run(
            Attempt(
                job_id=held.lease.job_id,
                attempt=held.lease.attempt,
                max_attempts=self._max_attempts,
                content_type=content_type,
                payload=data,
                directory=directory,
                timeout=self._timeout,
                on_progress=held.on_progress,
                control=held.control,
            )
        )

    def _record(self, message: Message, held: Held, outcome: Outcome) -> str:
        """Write the outcome, then let the message go or come back; says in a word how it ended."""
        lease = held.lease
        if isinstance(outcome, Succeeded):
            refusal = self._succeed(held, outcome)
            if refusal is None:
                self._insist(lambda: self._queue.delete(message))
                return "succeeded"
            outcome = refusal
        if isinstance(outcome, Stopped):
            self._write(held, lambda: self._store.hand_back(lease))
            self._insist(lambda: self._queue.show_in(message, 0))
            return "handed back"
        self._log.error(
            f"{outcome.error_type}: {outcome.message}",
            jobId=lease.job_id,
            attempt=lease.attempt,
            traceback=outcome.detail or None,
        )
        if outcome.final or lease.attempt >= self._max_attempts:
            self._write(held, lambda: self._store.fail(lease, outcome.error_type, outcome.message))
            self._insist(lambda: self._queue.delete(message))
            return "failed"
        return self._retry_later(message, held, outcome)

    def _succeed(self, held: Held, outcome: Succeeded) -> Failed | None:
        """Keep the result; the failure of the job if the table can hold no such thing."""
        result = self._insist(lambda: self._objects.keep_result(held.lease, outcome))
        try:
            self._write(held, lambda: self._store.succeed(held.lease, result, held.last_word))
        except ClientError as error:
            if error_code(error) != "ValidationException":
                raise
            return Failed("ResultNotStorable", f"the table does not take the result: {error}", final=True)
        return None

    def _retry_later(self, message: Message, held: Held, outcome: Failed) -> str:
        seconds = backoff_seconds(held.lease.attempt, self._jitter())
        self._write(held, lambda: self._store.retry_later(held.lease, outcome.error_type, outcome.message))
        self._insist(lambda: self._queue.show_in(message, seconds))
        return f"to be tried again in {seconds} s"

    def _write(self, held: Held, end: Callable[[], None]) -> None:
        """End the lease in the record, and only then its heartbeat, which would hide the message again."""
        self._insist(end)
        self._keeper.release(held)

    def _insist(self, call: Callable[[], T]) -> T:
        """Work is not lost to a passing failure of AWS; what AWS refuses for good holds no slot."""
        retrying = Retrying(
            retry=retry_if_exception(is_passing),
            stop=stop_after_delay(RECORD_SECONDS),
            wait=wait_exponential(multiplier=0.5, max=20) + wait_random(0, 0.5),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(call)


def backoff_seconds(attempt: int, jitter: float) -> int:
    """2, 4, 8 … seconds after the first, second, third attempt, times `jitter` (0.5 to 1), 15 minutes at most."""
    return max(1, int(min(LONGEST_BACKOFF, 2.0 ** min(attempt, 20)) * jitter))
