"""A slot whose handler runs in the worker's own process: light, for handlers that mostly wait; it cannot be killed.

Plain functions run in a thread of the slot's own. Coroutine functions of all slots share one event loop, which is not
the worker's: a handler that blocks it holds up its like, and no lease.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from asyncjobs.worker.call import Handler, call_async_handler, call_handler, find_handler
from asyncjobs.worker.executor import Attempt
from asyncjobs.worker.job import Job
from asyncjobs.worker.mailbox import Mailbox
from asyncjobs.worker.outcome import Failed, Outcome, Stopped
from asyncjobs.worker.thread_output import job_id

_SWEEP_SECONDS = 0.1  # between looks at what runs too long
_STOPPED = Stopped()


class Watch:
    """What runs now, seen from the worker's loop: hears how it ends, and gives up what takes too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._outbox = Mailbox(loop)
        self._deadlines: dict[asyncio.Future[Outcome | None], float] = {}
        self._sweeping = False

    def begin(self, timeout: float) -> asyncio.Future[Outcome | None]:
        """For the outcome; None when the time is over."""
        ended: asyncio.Future[Outcome | None] = self.loop.create_future()
        self._deadlines[ended] = time.monotonic() + timeout
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        return ended

    def settle(self, ended: asyncio.Future[Outcome | None], outcome: Outcome) -> None:
        """From any thread."""
        self._outbox.post(_settle, ended, outcome)

    def end(self, ended: asyncio.Future[Outcome | None]) -> None:
        del self._deadlines[ended]

    def _sweep(self) -> None:
        # A handler that blocks its loop also keeps that from saying what has ended there.
        self._outbox.look()
        now = time.monotonic()
        for ended, deadline in self._deadlines.items():
            if now >= deadline:
                _settle(ended, None)
        self._sweeping = bool(self._deadlines)
        if self._sweeping:
            self.loop.call_later(_SWEEP_SECONDS, self._sweep)


def _settle(ended: asyncio.Future[Outcome | None], outcome: Outcome | None) -> None:
    if not ended.done():
        ended.set_result(outcome)


class _Run:
    """One call of a handler."""

    __slots__ = ("attempt", "ended", "handler", "task", "watch")

    def __init__(self, handler: Handler, attempt: Attempt, watch: Watch) -> None:
        self.handler = handler
        self.attempt = attempt
        self.watch = watch
        self.ended = watch.begin(attempt.timeout)
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        self.watch.settle(self.ended, _STOPPED)

    def call(self) -> None:
        """In a thread."""
        job_id.set(self.attempt.job_id)
        self.watch.settle(self.ended, call_handler(self.handler, _job(self.attempt)))

    async def call_async(self) -> None:
        """In the handlers' loop."""
        job_id.set(self.attempt.job_id)
        self.watch.settle(self.ended, await call_async_handler(self.handler, _job(self.attempt)))


class HandlerLoop:
    """An event loop in a thread, for the coroutines of handlers."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: Watch | None = None

    def start(self) -> None:
        """Started again, nothing happens."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._inbox = Mailbox(self._loop)
            threading.Thread(target=self._run, args=(self._loop,), name="handlers", daemon=True).start()

    def watch(self, loop: asyncio.AbstractEventLoop) -> Watch:
        """Over what runs for the worker of that loop."""
        if self._watch is None or self._watch.loop is not loop:
            self._watch = Watch(loop)
        return self._watch

    def stop(self) -> None:
        """What is at work is cancelled, but not waited for."""
        if self._loop is not None:
            loop, self._loop = self._loop, None
            loop.call_soon_threadsafe(loop.stop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_forever()
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
            self._tasks.difference_update(left)
        loop.close()

    def submit(self, run: _Run) -> None:
        if self._loop is None:
            raise RuntimeError("the loop was not started")
        self._inbox.post(self._begin, run)

    def cancel(self, run: _Run) -> None:
        """From any thread."""
        self._inbox.post(self._cancel, run)

    def _begin(self, run: _Run) -> None:
        run.task = asyncio.get_running_loop().create_task(self._call(run))
        self._tasks.add(run.task)

    def _cancel(self, run: _Run) -> None:
        if run.task is not None:
            # One that has not begun yet ends without a step of `_call`.
            run.task.add_done_callback(self._tasks.discard)
            run.task.cancel()

    async def _call(self, run: _Run) -> None:
        try:
            await run.call_async()
        finally:
            # Here, because a callback of the task would be a turn of the loop for each job.
            self._tasks.discard(run.task)


class _Thread:
    """A daemon thread that runs one thing after the other."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="handler", daemon=True).start()

    def run(self, work: Callable[[], None]) -> None:
        self._work.put(work)

    def end(self) -> None:
        """Once what it runs now has ended."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            # What one job sets in its context is not the next one's.
            contextvars.Context().run(work)


class ThreadSlot:
    """Runs one attempt at a time, and leaves behind what will not end."""

    def __init__(self, handler: str, handlers: HandlerLoop) -> None:
        self._name = handler
        self._handlers = handlers
        self._handler: Handler | None = None
        self._is_async = False
        self._thread: _Thread | None = None

    async def start(self) -> None:
        self._handler = find_handler(self._name)
        self._is_async = inspect.iscoroutinefunction(self._handler)
        if self._is_async:
            self._handlers.start()

    async def run(self, attempt: Attempt) -> Outcome:
        handler = self._handler
        if handler is None:
            raise RuntimeError("the slot was not started")
        watch = self._handlers.watch(asyncio.get_running_loop())
        run = _Run(handler, attempt, watch)
        control = attempt.control
        control.on_stop(run.stop)
        if self._is_async:
            self._handlers.submit(run)
        else:
            self._start_thread(run)
        try:
            outcome = await run.ended
        finally:
            watch.end(run.ended)
            control.on_stop(None)
        if outcome is None or outcome is _STOPPED:
            control.cancelled.set()
            if self._is_async:
                self._handlers.cancel(run)
            else:
                self._leave_thread()
        if outcome is None:
            what = "task was cancelled" if self._is_async else "thread cannot be ended and was left behind"
            return Failed("Timeout", f"the handler ran longer than {attempt.timeout:g} s; its {what}")
        return outcome

    async def close(self) -> None:
        self._leave_thread()
        self._handlers.stop()

    def _start_thread(self, run: _Run) -> None:
        if self._thread is None:
            self._thread = _Thread()
        self._thread.run(run.call)

    def _leave_thread(self) -> None:
        if self._thread is not None:
            self._thread.end()
            self._thread = None


def _job(attempt: Attempt) -> Job:
    return Job(
        attempt.payload,
        id=attempt.job_id,
        attempt=attempt.attempt,
        max_attempts=attempt.max_attempts,
        content_type=attempt.content_type,
        make_directory=attempt.make_directory,
        on_progress=attempt.on_progress,
        is_cancelled=attempt.control.cancelled.is_set,
    )
