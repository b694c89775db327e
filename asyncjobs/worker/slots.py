"""The slots of a worker, and who waits for one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from asyncjobs.worker.executor import Control, Slot

# Messages are fetched ahead of free slots only as far as they will start within this time, so that a long job never
# keeps a message from another worker.
AHEAD_SECONDS = 0.1
MOST_AHEAD = 512
_SMOOTHING = 0.2  # the weight of the newest duration
_SHORTEST = 0.001


class SlotPool:
    """Hands out slots in the order they are asked for.

    Args:
        slots: Started already.
    """

    def __init__(self, slots: Sequence[Slot], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.size = len(slots)
        self._clock = clock
        self._free = deque(slots)
        self._since: dict[Slot, float] = {}  # when it was taken, in order of that
        self._waiting: deque[asyncio.Future[Slot | None]] = deque()
        # Nothing is known yet, so nothing is fetched ahead.
        self._seconds = float("inf")
        self._closed = False

    @property
    def busy(self) -> int:
        return self.size - len(self._free)

    @property
    def ahead(self) -> int:
        """How many messages beyond the free slots are worth having."""
        average = max(self._seconds, _SHORTEST)
        now = self._clock()
        slow, others = 0.0, self.size
        for since in self._since.values():
            if now - since <= average:
                break
            # At work for longer than jobs take on average, it is taken for a long one, whatever was short before.
            slow += 1 / (now - since)
            others -= 1
        return int(min((slow + others / average) * AHEAD_SECONDS, MOST_AHEAD))

    async def take(self, control: Control) -> Slot | None:
        """A slot; None when the job is stopped, or the worker goes, while it waits."""
        if self._closed or control.stopped:
            return None
        if self._free:
            return self._taken(self._free.popleft())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Slot | None] = loop.create_future()
        control.on_stop(lambda: loop.call_soon_threadsafe(_decline, future))
        self._waiting.append(future)
        try:
            return await future
        finally:
            control.on_stop(None)

    def give(self, slot: Slot, seconds: float) -> None:
        """Back, after so many seconds of work."""
        del self._since[slot]
        if self._seconds == float("inf"):
            self._seconds = seconds
        else:
            # A long one counts at once, short ones bit by bit.
            smooth = self._seconds + _SMOOTHING * (seconds - self._seconds)
            self._seconds = max(smooth, min(seconds, 10.0) / 2)
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(self._taken(slot))
                return
        self._free.append(slot)

    def _taken(self, slot: Slot) -> Slot:
        self._since[slot] = self._clock()
        return slot

    def close(self) -> None:
        """Nobody gets a slot any more: the worker goes, and who waits may as well start elsewhere."""
        self._closed = True
        while self._waiting:
            _decline(self._waiting.popleft())


def _decline(future: asyncio.Future[Slot | None]) -> None:
    if not future.done():
        future.set_result(None)
