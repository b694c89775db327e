"""Keeps the leases of running jobs alive and writes their progress, in a thread of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from asyncjobs.jobs.queue import JobQueue, Message
from asyncjobs.jobs.store import JobStore, Lease, LeaseLostError
from asyncjobs.worker.executor import Control
from asyncjobs.worker.logs import Log

TICK_SECONDS = 0.5  # also the least time between two progress writes of a job


@dataclass
class Held:
    """A job at work.

    Args:
        progress: The newest progress not yet written.
        last_word: What the handler last said of its progress.
        due: Monotonic seconds of the next heartbeat.
    """

    lease: Lease
    message: Message
    control: Control
    due: float
    progress: tuple[float, str] | None = None
    last_word: str = ""
    lost: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_progress(self, fraction: float, message: str) -> None:
        self.progress = (fraction, message)
        self.last_word = message


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
        self._held: list[Held] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def hold(self, lease: Lease, message: Message, control: Control) -> Held:
        held = Held(lease, message, control, self._next_beat())
        with self._lock:
            self._held.append(held)
        return held

    def release(self, held: Held) -> None:
        """No heartbeat or progress write is under way for it after this returns; released again, nothing happens."""
        with self._lock:
            if held in self._held:
                self._held.remove(held)
        with held.lock:
            held.progress = None

    @property
    def held(self) -> list[Held]:
        with self._lock:
            return list(self._held)

    def start(self) -> None:
        threading.Thread(target=self._run, name="keeper", daemon=True).start()

    def stop(self) -> None:
        self._ended.set()

    def tick(self) -> None:
        """Write what is due."""
        for held in self.held:
            with held.lock:
                self._keep(held)

    def _run(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            self.tick()

    def _keep(self, held: Held) -> None:
        if held.lost or held not in self.held:
            return
        progress, held.progress = held.progress, None
        try:
            if progress is not None:
                self._store.progress(held.lease, *progress)
                progress = None
            if self._clock() >= held.due:
                held.due = self._next_beat()
                self._store.heartbeat(held.lease)
                self._queue.show_in(held.message, self._lease_seconds)
        except LeaseLostError as error:
            held.lost = True
            held.control.stop()
            self._log.warning(f"stopped: {error}", jobId=held.lease.job_id, attempt=held.lease.attempt)
        except Exception as error:
            # Whatever AWS answers, the next tick tries again; the lease decides, not this thread.
            held.due = min(held.due, self._clock() + 2 * TICK_SECONDS)
            held.progress = held.progress or progress
            self._log.warning(f"heartbeat failed: {error}", jobId=held.lease.job_id, attempt=held.lease.attempt)

    def _next_beat(self) -> float:
        return self._clock() + self._lease_seconds / 3 * random.uniform(0.7, 1.0)
