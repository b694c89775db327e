"""Calls into a loop from another thread, many for one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class Mailbox:
    """Runs calls in a loop's thread, in the order they were posted.

    A loop is woken through a socket, which costs more than most of what is asked of it; so it is woken once for all
    that is posted until it looks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._posted: deque[Callable[[], object]] = deque()
        self._woken = False

    def post(self, call: Callable[[], object]) -> None:
        """From any thread; nothing happens once the loop is closed."""
        self._posted.append(call)
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        # First, so that what is posted from here on wakes the loop again.
        self._woken = False
        while self._posted:
            self._posted.popleft()()
