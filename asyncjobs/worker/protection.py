"""Scale-in protection: ECS stops no task that is at work.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Protocol

from asyncjobs.worker.logs import Log

MINUTES = 60  # that protection lasts, 1 to 2,880; renewed at half of it
IDLE_SECONDS = 15.0  # without work before it is let go; off and on for each job would meet the agent's rate limit
PAUSE_SECONDS = 10.0  # after a refusal, before the agent is asked again
_TIMEOUT = 5.0

Put = Callable[[bool, int], Awaitable[None]]


class Protection(Protocol):
    async def on(self) -> None:
        """Called before a job is claimed; never fails."""

    async def tend(self, busy: bool) -> None:
        """Called now and then: renews protection while there is work, and lets it go when there is none."""

    async def off(self) -> None: ...


class NoProtection:
    """Outside of ECS."""

    async def on(self) -> None:
        """Nothing could stop the worker but a person."""

    async def tend(self, busy: bool) -> None:
        """See `on`."""

    async def off(self) -> None:
        """See `on`."""


class AgentProtection:
    """Of this task, through the agent's endpoint.

    Args:
        put: Tells the agent: whether, and for how many minutes. Raises OSError or ValueError.
    """

    def __init__(self, put: Put, log: Log, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._put = put
        self._log = log
        self._clock = clock
        self._lock = asyncio.Lock()
        self._until = 0.0  # of the protection that the agent has confirmed
        self._not_before = 0.0
        self._worked = clock()

    async def on(self) -> None:
        self._worked = self._clock()
        if self._lacks():
            async with self._lock:
                if self._lacks():
                    await self._tell(True)

    async def tend(self, busy: bool) -> None:
        if busy:
            await self.on()
        elif self._until and self._clock() - self._worked >= IDLE_SECONDS:
            await self.off()

    async def off(self) -> None:
        async with self._lock:
            if self._until:
                await self._tell(False)

    def _lacks(self) -> bool:
        now = self._clock()
        return self._until - now < MINUTES * 60 / 2 and now >= self._not_before

    async def _tell(self, enabled: bool) -> None:
        try:
            await self._put(enabled, MINUTES)
        except (OSError, ValueError) as error:
            # Work goes on: unprotected it may have to be done again, not done it would only be late.
            self._not_before = self._clock() + PAUSE_SECONDS
            self._log.warning(f"scale-in protection could not be turned {'on' if enabled else 'off'}: {error}")
            return
        self._until = self._clock() + MINUTES * 60 if enabled else 0.0


def agent_put(uri: str) -> Put:
    """Args: uri: ECS_AGENT_URI."""

    def put(enabled: bool, minutes: int) -> None:
        wanted = {"ProtectionEnabled": enabled, **({"ExpiresInMinutes": minutes} if enabled else {})}
        request = urllib.request.Request(
            f"{uri}/task-protection/v1/state",
            data=json.dumps(wanted).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            state = json.load(answer)
        if "protection" not in state:
            raise ValueError(f"the agent answered {state}")

    return lambda enabled, minutes: asyncio.to_thread(put, enabled, minutes)
