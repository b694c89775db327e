"""Calls into a loop from another thread, many for one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Mailbox:
    """Runs calls in a loop's thread, in the order they were posted.

    A loop is woken through a socket, which costs more than most of what is asked of it, and hands the interpreter to
    its thread in the middle of what the other one is at; so it is woken once for all that is posted until it looks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._woken = False

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """From any thread; nothing happens once the loop is closed.

        Posted from within another loop, it goes at the end of that one's turn, with what else is posted until then.
        """
        self._posted.append((call, args))
        if self._woken:
            return
        self._woken = True
        try:
            sender = asyncio.get_running_loop()
        except RuntimeError:
            self._wake()
        else:
            sender.call_soon(self._wake)

    def look(self) -> None:
        """In the loop's thread: run what was posted."""
        # First, so that what is posted from here on wakes the loop again.
        self._woken = False
        while self._posted:
            call, args = self._posted.popleft()
            call(*args)

    def _wake(self) -> None:
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.look)
