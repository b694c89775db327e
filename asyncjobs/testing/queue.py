"""The job queue in memory."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from asyncjobs.jobs.leases import Location
from asyncjobs.jobs.queue import LONGEST_VISIBILITY, MOST_MESSAGES, Message, PoisonError


@dataclass
class _Sent:
    job_id: str
    payload: str | bytes | Location
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
        payload: str | bytes | Location = "{}",
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
