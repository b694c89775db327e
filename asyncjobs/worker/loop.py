"""The worker's loop: keeps as many messages as it has free slots, and leaves no job behind when it goes.

Receiving, claiming, running, recording and deleting all overlap: each message is a task of its own from its receive to
its delete, and holds a slot only while its handler runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from asyncjobs.jobs.queue import MOST_MESSAGES, JobQueue, Message, PoisonError
from asyncjobs.worker.executor import Slot, StartError
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.logs import Log
from asyncjobs.worker.protection import NoProtection, Protection
from asyncjobs.worker.runner import Runner
from asyncjobs.worker.slots import SlotPool

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between receives that fail
_DRAIN_SECONDS = 0.2  # between looks at what is left to do before the worker goes
# Ending handlers and handing their jobs back takes no longer; begun so much before the stop timeout is over.
_LEAVE_SECONDS = 0.5
_MOST_RECEIVES = 16  # at once, while the queue is full


class Worker:
    """Runs jobs until it is told to stop.

    Args:
        slots: As many jobs run at once.
        stop_timeout: Seconds after `stop` within which the worker is gone; shortly before, what is still at work is
            handed back.
        beside: What runs as long as the worker does.
    """

    def __init__(
        self,
        queue: JobQueue,
        runner: Runner,
        keeper: Keeper,
        slots: Sequence[Slot],
        log: Log,
        *,
        stop_timeout: float,
        protection: Protection | None = None,
        beside: Sequence[Callable[[SlotPool], Awaitable[None]]] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._keeper = keeper
        self._slots = slots
        self._log = log
        self._stop_timeout = stop_timeout
        self._protection = protection or NoProtection()
        self._beside = beside
        self._sleep = sleep
        self._pool = SlotPool(slots)
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._changed = asyncio.Event()  # a message is done with, or a receive has come back
        self._work: set[asyncio.Task[None]] = set()
        self._receives: dict[asyncio.Task[None], int] = {}
        self._wanted = 1  # receives at once
        self._none_ahead = False  # the queue had no more, and no work has ended since
        self._pause, self._next_pause = 0.0, _FIRST_PAUSE

    def stop(self) -> None:
        """Receive no more; let work end in its time. Called again: hand everything back at once.

        To be called in the worker's loop.
        """
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            StartError: The handler cannot be run.
            BaseException: What ended the receiver. Work was let end or handed back, as when the worker is stopped.
        """
        beside: list[asyncio.Future[None]] = []
        try:
            await self._start_slots()
            running = [self._keeper.run(), *(start(self._pool) for start in self._beside)]
            beside = [asyncio.ensure_future(one) for one in running]
            self._log.info(f"ready for {len(self._slots)} jobs at once")
            try:
                await self._receive()
            finally:
                self._stopping.set()
                await self._drain()
        except StartError as error:
            self._log.error(f"the handler cannot be run: {error}")
            raise
        finally:
            for future in beside:
                future.cancel()
            await asyncio.gather(*(slot.close() for slot in self._slots))
            await self._protection.off()

    async def _start_slots(self) -> None:
        # All of them to their end before the first error: a slot must not be closed while it is starting.
        for outcome in await asyncio.gather(*(slot.start() for slot in self._slots), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _receive(self) -> None:
        """Keep receives under way for as many messages as there is room for."""
        while not self._stopping.is_set():
            self._changed.clear()
            if self._pause:
                pause, self._pause = self._pause, 0.0
                await self._sleep(pause)
            while (most := self._room()) and len(self._receives) < self._wanted and not self._stopping.is_set():
                # With no slot free it must not lie in wait: what arrives later, other workers may have slots for, and
                # the jobs that are short now may be long ones then.
                task = asyncio.create_task(self._receive_once(most, wait=self._free() > 0))
                self._receives[task] = most
            await self._changed.wait()
            for task in [task for task in self._receives if task.done()]:
                del self._receives[task]
                task.result()

    def _room(self) -> int:
        """How many messages to ask for now, 0 for none."""
        ahead = self._pool.ahead
        free = self._free()
        if self._none_ahead and free <= 0:
            return 0
        room = free + ahead
        # While enough is at hand to keep the slots busy, a receive waits until it is worth its call.
        least = MOST_MESSAGES if ahead >= MOST_MESSAGES and self._work else 1
        return min(room, MOST_MESSAGES) if room >= least else 0

    def _free(self) -> int:
        """The slots that no message is at hand or asked for; negative where some are held ahead."""
        return self._pool.size - len(self._work) - sum(self._receives.values())

    async def _receive_once(self, most: int, wait: bool) -> None:
        try:
            messages = await self._queue.receive(most, wait=wait)
        except Exception as error:
            # Whatever came back, only asking again can help.
            self._wanted = 1
            if not self._pause:
                self._pause, self._next_pause = self._next_pause, min(self._next_pause * 2, _LONGEST_PAUSE)
            self._log.warning(f"receiving failed, next try in {self._pause:g} s: {error!r}")
        else:
            self._next_pause = _FIRST_PAUSE
            # SQS asks some of its servers, so an answer that is half full means more too; after an empty one a single
            # long poll will do.
            if not messages:
                self._wanted = 1
                self._none_ahead = True
            elif 2 * len(messages) >= most:
                self._wanted = min(self._wanted + 1, _MOST_RECEIVES)
            for message in messages:
                self._dispatch(message)
        finally:
            self._changed.set()

    def _dispatch(self, message: Message | PoisonError) -> None:
        if isinstance(message, PoisonError):
            # Not deleted: after the queue's receive limit it is in the dead-letter queue, where it can be looked at.
            self._log.warning(f"not a job: {message}")
            return
        self._work.add(asyncio.create_task(self._handle(message)))

    async def _handle(self, message: Message) -> None:
        try:
            if self._stopping.is_set():
                await self._return(message)
            else:
                await self._protection.on()
                await self._runner.handle(message, self._pool)
        except Exception as error:
            # One job's surprise must not cost the worker: its message comes again when the lease is over.
            self._log.error(f"unexpected: {error!r}", jobId=message.job_id)
        finally:
            # Here, because a callback of the task would be a turn of the loop for each job.
            self._work.discard(asyncio.current_task())
            self._none_ahead = False
            self._changed.set()

    async def _return(self, message: Message) -> None:
        try:
            await self._queue.show_in(message, 0)
        except Exception as error:
            self._log.warning(f"not handed back: {error}", jobId=message.job_id)

    async def _drain(self) -> None:
        """Let work end in its time, then stop what is left; what has not started yet goes back at once."""
        self._pool.close()
        self._log.info(f"stopping; {self._pool.busy} jobs at work have {self._stop_timeout:g} s to end")
        deadline = time.monotonic() + self._stop_timeout - min(_LEAVE_SECONDS, self._stop_timeout / 4)
        while self._work or self._receives:
            if self._at_once.is_set() or time.monotonic() >= deadline:
                # Again and again: what was being claimed just now is held a moment later.
                await self._stop_held()
            if under_way := [*self._work, *self._receives]:
                left = max(0.0, deadline - time.monotonic()) or _DRAIN_SECONDS
                await asyncio.wait(under_way, timeout=min(_DRAIN_SECONDS, left), return_when="FIRST_COMPLETED")
            for task in [task for task in self._receives if task.done()]:
                del self._receives[task]
                with suppress(BaseException):
                    task.result()

    async def _stop_held(self) -> None:
        running = [held.control for held in self._keeper.held if not held.control.stopped]
        await asyncio.gather(*(asyncio.to_thread(control.stop) for control in running))
