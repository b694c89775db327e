"""A slot without a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any

from asyncjobs.worker.executor import Attempt
from asyncjobs.worker.outcome import Outcome, Succeeded

Answer = Callable[[Attempt], Outcome | Awaitable[Outcome]]


class FakeSlot:
    """A slot that answers with what a function, in a thread, or a coroutine makes of the attempt."""

    def __init__(self, run: Answer = lambda _: Succeeded(json_text="null")) -> None:
        self._run = run
        self.attempts: list[Attempt] = []
        self.closed = False

    async def start(self) -> None:
        """Always ready."""

    async def run(self, attempt: Attempt) -> Outcome:
        self.attempts.append(attempt)
        answer: Any = self._run(attempt) if iscoroutinefunction(self._run) else asyncio.to_thread(self._run, attempt)
        outcome: Outcome = await answer
        return outcome

    async def close(self) -> None:
        self.closed = True
