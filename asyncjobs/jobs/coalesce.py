"""Calls that are wanted at the same time, sent as few."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_PARTIAL_AT_ONCE = 2
_AT_ONCE = 32
_SLOW_SECONDS = 1.0  # after which a call under way keeps no other waiting: heartbeats are among them


class Coalescer(Generic[T, R]):
    """Collects items while calls are under way and sends them together; each caller gets the answer to its own.

    Nothing waits while little is going on: a batch that is not full goes out as long as fewer than two such are under
    way, a full one at once. So batches fill up by themselves as the load grows, and no time is given away before.

    Args:
        send: Answers each item in its place, with an exception where it failed. What it raises, all of them get.
        most: Items of one call.
        linger: Seconds that an item may wait for company before its batch goes out, for calls nobody waits for.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]], *, most: int, linger: float = 0
    ) -> None:
        self._send = send
        self._most = most
        self._linger = linger
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._timer: asyncio.Handle | None = None
        self._partial = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, item: T) -> asyncio.Future[R]:
        """Called in the loop's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._most:
            self._flush()
        elif self._timer is None:
            # At the end of this turn of the loop, when all who want something now have said so.
            self._timer = loop.call_later(self._linger, self._due) if self._linger else loop.call_soon(self._due)
        return future

    def _due(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        while self._waiting and len(self._tasks) < _AT_ONCE:
            full = len(self._waiting) >= self._most
            if not full and (self._partial >= _PARTIAL_AT_ONCE or self._timer is not None):
                return
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            self._partial += not full
            task = asyncio.create_task(self._run(batch, full))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[tuple[T, asyncio.Future[R]]], full: bool) -> None:
        counted = not full

        def pass_on() -> None:
            nonlocal counted
            self._partial -= counted
            counted = False
            self._flush()

        loop = asyncio.get_running_loop()
        slow = loop.call_later(_SLOW_SECONDS, pass_on)
        try:
            answers = await self._send([item for item, _ in batch])
            for (_, future), answer in zip(batch, answers, strict=True):
                _settle(future, answer)
        except BaseException as error:
            for _, future in batch:
                _settle(future, error)
            if not isinstance(error, Exception):
                raise
        finally:
            slow.cancel()
            # Once this task counts as done.
            loop.call_soon(pass_on)


def _settle(future: asyncio.Future[R], answer: R | BaseException) -> None:
    if future.done():  # who asked has gone
        return
    if isinstance(answer, asyncio.CancelledError):
        future.cancel()
    elif isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)
