"""A handler run as a worker runs it, with everything but the handler in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asyncjobs.jobs import ids
from asyncjobs.jobs.queue import Message
from asyncjobs.testing.clock import Clock
from asyncjobs.testing.lines import Lines
from asyncjobs.testing.objects import InMemoryObjects
from asyncjobs.testing.queue import InMemoryQueue
from asyncjobs.testing.slots import FakeSlot
from asyncjobs.testing.store import InMemoryStore
from asyncjobs.worker.call import Handler, call_handler
from asyncjobs.worker.executor import Attempt
from asyncjobs.worker.job import Job
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.metrics import Metrics
from asyncjobs.worker.outcome import Outcome
from asyncjobs.worker.runner import Runner
from asyncjobs.worker.slots import SlotPool

_LEASE_SECONDS = 30


@dataclass(frozen=True)
class Run:
    """What came of a job.

    Args:
        job: As `GET /jobs/{id}` and JobsClient.get answer it.
        data: The result's bytes where the handler returned bytes or a file, else None.
        progress: All that the handler reported, attempt after attempt.
        pauses: The seconds that the job waited after each failed attempt.
        log: The worker's log lines, tracebacks of failed attempts among them.
    """

    job: dict[str, Any]
    data: bytes | None = None
    progress: list[tuple[float, str]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """SUCCEEDED or FAILED."""
        return str(self.job["status"])

    @property
    def result(self) -> Any:
        """What JobsClient.result answers: the JSON value, or the bytes."""
        return self.job.get("result") if self.data is None else self.data

    @property
    def error(self) -> dict[str, str]:
        """The `type` and `message` of a job that failed, else {}."""
        error: dict[str, str] = self.job.get("error", {})
        return error


def run(
    handler: Callable[[Job], Any],
    payload: str | bytes,
    *,
    content_type: str = "application/octet-stream",
    max_attempts: int = 3,
    job_id: str | None = None,
) -> Run:
    """Submit a payload, and have a worker run the handler on it until the job has ended.

    The worker is the real one but for where the handler runs: a thread of this process, without a timeout. The waits
    between attempts take no time.

    Args:
        handler: A function or coroutine function of a job.
        payload: Text, or bytes.
        max_attempts: As in `[worker]` of asyncjobs.toml.
        job_id: `<13-digit epoch milliseconds>-<1 to 64 of A-Za-z0-9._->`; one is minted when None.

    Raises:
        BaseException: Nothing that the handler raises: that is in the job's error, as in production.
    """
    clock = Clock()
    world = _World(handler, clock, max_attempts)
    job_id = job_id or ids.mint(clock)
    world.queue.send(job_id, payload, content_type)
    # In a thread, because the test may be a coroutine and have a loop running in this one.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, world.work()).result()
    return world.outcome(job_id)


class _World:
    """A worker and its surroundings, for one job."""

    def __init__(self, handler: Handler, clock: Clock, max_attempts: int) -> None:
        self._handler = handler
        self._clock = clock
        self._max_attempts = max_attempts
        self.queue = InMemoryQueue(clock, lease_seconds=_LEASE_SECONDS)
        self.store = InMemoryStore(clock, lease_seconds=_LEASE_SECONDS, max_attempts=max_attempts)
        self.objects = InMemoryObjects()
        self.log = Lines()
        self.progress: list[tuple[float, str]] = []
        self.pauses: list[float] = []

    async def work(self) -> None:
        """Run the job's attempts until its message is deleted."""
        with TemporaryDirectory(prefix="asyncjobs-", ignore_cleanup_errors=True) as directory:
            runner = self._runner(Path(directory))
            slots = SlotPool([FakeSlot(self._attempt)])
            while self.queue.left:
                if wait := max(0.0, *self.queue.hidden_for.values()):
                    self.pauses.append(wait)
                    await self._clock.sleep(wait)
                for message in await self.queue.receive(1):
                    if isinstance(message, Message):
                        await runner.handle(message, slots)

    def outcome(self, job_id: str) -> Run:
        job = self.store.get(job_id) or {}
        data = None
        if "resultLocation" in job:
            data = self.objects.kept[job["resultLocation"]["key"]]
        return Run(job, data, self.progress, self.pauses, self.log.lines)

    def _runner(self, directory: Path) -> Runner:
        keeper = Keeper(self.store, self.queue, self.log, lease_seconds=_LEASE_SECONDS, clock=self._clock)
        return Runner(
            self.queue,
            self.store,
            self.objects,
            keeper,
            self.log,
            Metrics(self.log, now=self._clock),
            directory=directory,
            timeout=float("inf"),
            max_attempts=self._max_attempts,
            sleep=self._clock.sleep,
            jitter=lambda: 1.0,
            now=self._clock,
        )

    def _attempt(self, attempt: Attempt) -> Outcome:
        def on_progress(fraction: float, message: str) -> None:
            self.progress.append((fraction, message))
            attempt.on_progress(fraction, message)

        job = Job(
            attempt.payload,
            id=attempt.job_id,
            attempt=attempt.attempt,
            max_attempts=attempt.max_attempts,
            content_type=attempt.content_type,
            make_directory=attempt.make_directory,
            on_progress=on_progress,
            is_cancelled=attempt.control.cancelled.is_set,
        )
        return call_handler(self._handler, job)
