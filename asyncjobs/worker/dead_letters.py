"""Looks after the dead-letter queue: a job whose message ended up there has no worker coming, and must still end.

What is no job of ours stays there to be looked at.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from asyncjobs.jobs.leases import AlreadyEnded, JobStore
from asyncjobs.jobs.queue import MOST_MESSAGES, JobQueue, Message, PoisonError
from asyncjobs.worker.logs import Log
from asyncjobs.worker.payloads import ObjectStore

LOOK_SECONDS = 20.0  # between looks, half to all of it
VISIBILITY_SECONDS = 10  # that a look hides what it finds, so that people see the queue as it is


class DeadLetters:
    """Ends jobs whose messages came to the dead-letter queue.

    Args:
        queue: The dead-letter queue.
        sleep, jitter: Injected in tests.
    """

    def __init__(
        self,
        queue: JobQueue,
        store: JobStore,
        objects: ObjectStore,
        log: Log,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),
    ) -> None:
        self._queue = queue
        self._store = store
        self._objects = objects
        self._log = log
        self._sleep = sleep
        self._jitter = jitter

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self._sleep(LOOK_SECONDS * self._jitter())
            try:
                # More may be waiting where there is a job among what came; poison alone comes again and again.
                while await self.look():
                    pass
            except Exception as error:
                self._log.warning(f"the dead-letter queue was not looked at: {error}")

    async def look(self) -> int:
        """How many messages were done with."""
        done = 0
        for message in await self._queue.receive(MOST_MESSAGES):
            if isinstance(message, PoisonError):
                await self._queue.show_in(message, 0)
            else:
                done += await self._end(message)
        return done

    async def _end(self, message: Message) -> bool:
        end = await self._store.lose(await self._objects.keep_payload(message), generation=message.generation)
        if not isinstance(end, AlreadyEnded):
            # A worker has it just now; its end deletes no message here, but the next look will.
            return False
        self._log.warning(f"taken from the dead-letter queue: {end.status}", jobId=message.job_id)
        await self._queue.delete(message)
        return True
