"""Saves the emulator's state while it runs, so that a kill loses seconds and not everything.

The emulator itself saves only when it stops cleanly. Requests that may change something mark a state dirty; dirty
states are copied on the event loop, between two requests, so that the copies fit together, and written on a thread.
Large states are saved less often, to spend at most about a twentieth of the time on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

FIRST_DELAY = 1.0
_SHARE = 20.0
_LONGEST_DELAY = 60.0
# Reading verbs. Receiving a message changes only how long it stays hidden, which may as well be lost.
_READS = ("Describe", "Get", "List", "Query", "Scan", "BatchGet", "Filter", "Receive", "Head", "Lookup")


class SavedState(Protocol):
    def state_keys(self, service: str) -> set[str]: ...
    def snapshot(self, keys: Iterable[str]) -> dict[str, Any]: ...
    def write(self, states: dict[str, Any]) -> None: ...


def may_change(method: str, action: str) -> bool:
    """Whether a request may change state, judged by its action, or by its method for REST services."""
    if action:
        return not action.startswith(_READS)
    return method not in ("GET", "HEAD", "OPTIONS")


class StateSaver:
    """Collects what is dirty and saves it a little later.

    Args:
        state: The emulator's state.
        clock: Monotonic seconds.
    """

    def __init__(self, state: SavedState, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._clock = clock
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._writing: asyncio.Task[None] | None = None

    def touch(self, service: str) -> None:
        """A state may have changed. From the event loop."""
        self._dirty |= self._state.state_keys(service)
        self._wake.set()

    def touch_from_thread(self, service: str) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.touch, service)

    async def run(self) -> None:
        """Save whenever something is dirty, until cancelled."""
        delay = FIRST_DELAY
        while True:
            await self._wake.wait()
            await asyncio.sleep(delay)
            started = self._clock()
            await self.save()
            delay = min(_LONGEST_DELAY, max(FIRST_DELAY, _SHARE * (self._clock() - started)))

    async def save(self) -> None:
        """Save what is dirty now."""
        keys, self._dirty = self._dirty, set()
        self._wake.clear()
        try:
            states = self._state.snapshot(keys)
        except RuntimeError:
            # A thread of the emulator changed a dictionary while it was copied: the next round has it.
            self._dirty |= keys
            self._wake.set()
            return
        self._writing = asyncio.create_task(asyncio.to_thread(self._state.write, states))
        await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Save the rest. Afterwards nothing is being written any more."""
        if self._writing is not None:
            await self._writing
        await self.save()
