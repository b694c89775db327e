"""Keeps the leases of running jobs alive and writes their progress, beside the work."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from asyncjobs.jobs.leases import JobStore, Lease, LeaseLostError
from asyncjobs.jobs.queue import JobQueue, Message
from asyncjobs.jobs.record import CANCELLED, TERMINAL
from asyncjobs.worker.executor import Control
from asyncjobs.worker.logs import Log

TICK_SECONDS = 0.5  # also the least time between two progress writes of a job
# What a handler has to see that its job is cancelled, and to return, before it is ended.
CANCEL_SECONDS = 5.0


@dataclass(eq=False, slots=True)
class Held:
    """A job at work.

    Args:
        progress: The newest progress not yet written.
        last_word: What the handler last said of its progress.
        due: Monotonic seconds of the next heartbeat; of its end, once the job is cancelled.
        lost: The state that the job was found in when the lease was lost; "" while it is ours.
        ending: Its end is being written, and that write finds out by itself whose the lease is.
    """

    lease: Lease
    message: Message
    control: Control
    due: float
    progress: tuple[float, str] | None = None
    last_word: str = ""
    lost: str = ""
    ending: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def on_progress(self, fraction: float, message: str) -> None:
        """Called by handlers, in their threads: keeps two values and no more."""
        self.progress = (fraction, message)
        self.last_word = message

    @property
    def ended(self) -> bool:
        """Whether the lease was lost because the job has ended without us."""
        return self.lost in TERMINAL


class Keeper:
    """Extends leases and visibility together, well before they end.

    Args:
        lease_seconds: How long a lease lasts; a heartbeat comes after about a third of it, with jitter, so that many
            jobs claimed at once do not beat at once, and two may fail before the lease is in danger.
    """

    def __init__(
        self,
        store: JobStore,
        queue: JobQueue,
        log: Log,
        *,
        lease_seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._queue = queue
        self._log = log
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._held: set[Held] = set()
        self._ticks: set[asyncio.Task[None]] = set()
        self.ticked = clock()  # when it last looked

    def hold(self, lease: Lease, message: Message, control: Control) -> Held:
        held = Held(lease, message, control, self._next_beat())
        self._held.add(held)
        return held

    async def release(self, held: Held) -> None:
        """No heartbeat or progress write is under way for it after this returns; released again, nothing happens."""
        self._held.discard(held)
        held.progress = None
        if held.lock.locked():
            async with held.lock:
                pass

    @property
    def held(self) -> list[Held]:
        return list(self._held)

    async def run(self) -> None:
        """Tick for ever; a tick whose calls hang does not keep the next one from its own."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            task = asyncio.create_task(self.tick())
            self._ticks.add(task)
            task.add_done_callback(self._ticks.discard)

    async def tick(self) -> None:
        """Write what is due."""
        now = self.ticked = self._clock()
        due = [held for held in self._held if held.progress is not None or now >= held.due]
        await asyncio.gather(*(self._keep(held) for held in due if not held.lock.locked()))

    async def _keep(self, held: Held) -> None:
        async with held.lock:
            if held not in self._held:
                return
            if held.lost:
                await self._end(held)
                return
            progress, held.progress = held.progress, None
            try:
                if progress is not None:
                    await self._store.progress(held.lease, *progress)
                    progress = None
                if self._clock() >= held.due:
                    held.due = self._next_beat()
                    await self._store.heartbeat(held.lease)
                    await self._queue.show_in(held.message, self._lease_seconds)
            except LeaseLostError as error:
                await self._lose(held, error)
            except Exception as error:
                # Whatever AWS answers, the next tick tries again; the lease decides, not this task.
                held.due = min(held.due, self._clock() + 2 * TICK_SECONDS)
                held.progress = held.progress or progress
                self._log.warning(f"heartbeat failed: {error}", jobId=held.lease.job_id, attempt=held.lease.attempt)

    async def _lose(self, held: Held, error: LeaseLostError) -> None:
        if held.ending:
            # Maybe to our own end, whose answer is still on its way.
            return
        held.lost = error.status
        self._log.warning(f"stopped: {error}", jobId=held.lease.job_id, attempt=held.lease.attempt)
        if error.status == CANCELLED:
            # Nobody else has the job: the handler may come to an end of its own.
            held.control.cancelled.set()
            held.due = self._clock() + CANCEL_SECONDS
        else:
            await self._end(held)

    async def _end(self, held: Held) -> None:
        if self._clock() >= held.due or held.lost != CANCELLED:
            held.progress = None
            held.due = float("inf")
            # Ending a process tree takes a look at all processes there are.
            await asyncio.to_thread(held.control.stop)

    def _next_beat(self) -> float:
        return self._clock() + self._lease_seconds / 3 * random.uniform(0.7, 1.0)
