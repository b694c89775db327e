"""The worker's loop: receives as many messages as it has free slots, and leaves no job behind when it goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue

from asyncjobs.jobs.queue import JobQueue, Message, PoisonError
from asyncjobs.worker.executor import Slot, StartError
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.logs import Log
from asyncjobs.worker.runner import Runner

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between receives that fail
_DRAIN_SECONDS = 0.2  # between looks at what is left to do before the worker goes


class Worker:
    """Runs jobs until it is told to stop.

    Args:
        slots: As many jobs run at once.
        stop_timeout: Seconds that work may go on after `stop`, before it is handed back.
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._queue = queue
        self._runner = runner
        self._keeper = keeper
        self._slots = slots
        self._log = log
        self._stop_timeout = stop_timeout
        self._sleep = sleep
        self._stopping = threading.Event()
        self._at_once = threading.Event()
        self._free: SimpleQueue[Slot] = SimpleQueue()
        self._idle = threading.Condition()
        self._busy: set[Message] = set()

    def stop(self) -> None:
        """Receive no more; let work end in its time. Called again: hand everything back at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped.

        Raises:
            StartError: The handler cannot be run.
            BaseException: What ended the receiver. Work was let end or handed back, as when the worker is stopped.
        """
        # One more than slots, for the receiver: a long poll must not keep the worker from noticing that it has to stop.
        pool = ThreadPoolExecutor(max_workers=len(self._slots) + 1, thread_name_prefix="slot")
        try:
            # All of them to their end before the first error: a slot must not be closed while it is starting.
            starting = [pool.submit(slot.start) for slot in self._slots]
            wait(starting)
            for started in starting:
                started.result()
            for slot in self._slots:
                self._free.put(slot)
            self._keeper.start()
            self._log.info(f"ready for {len(self._slots)} jobs at once")
            receiver = pool.submit(self._receive, pool)
            # Without it the worker would live on and do nothing.
            receiver.add_done_callback(lambda _: self._stopping.set())
            self._stopping.wait()
            self._drain(receiver)
            receiver.result()
        except StartError as error:
            self._log.error(f"the handler cannot be run: {error}")
            raise
        finally:
            self._keeper.stop()
            for slot in self._slots:
                slot.close()
            pool.shutdown(wait=False, cancel_futures=True)

    def _receive(self, pool: ThreadPoolExecutor) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            self._wait_for_a_slot()
            free = self._free.qsize()
            if not free or self._stopping.is_set():
                continue
            try:
                messages = self._queue.receive(free)
                pause = _FIRST_PAUSE
            except Exception as error:
                # Whatever came back, only asking again can help.
                self._log.warning(f"receiving failed, next try in {pause:g} s: {error!r}")
                self._sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            for message in messages:
                self._dispatch(message, pool)

    def _dispatch(self, message: Message | PoisonError, pool: ThreadPoolExecutor) -> None:
        if isinstance(message, PoisonError):
            # Not deleted: after the queue's receive limit it is in the dead-letter queue, where it can be looked at.
            self._log.warning(f"not a job: {message}")
        elif self._stopping.is_set():
            self._return(message)
        else:
            with self._idle:
                self._busy.add(message)
            try:
                pool.submit(self._work, message, self._free.get())
            except BaseException:
                # No thread can be started any more: nobody must wait for this one to end.
                self._done(message)
                raise

    def _work(self, message: Message, slot: Slot) -> None:
        try:
            self._runner.handle(message, slot)
        except Exception as error:
            # One job's surprise must not cost the worker: its message comes again when the lease is over.
            self._log.error(f"unexpected: {error!r}", jobId=message.job_id)
        finally:
            self._free.put(slot)
            self._done(message)

    def _done(self, message: Message) -> None:
        with self._idle:
            self._busy.discard(message)
            self._idle.notify_all()

    def _return(self, message: Message) -> None:
        try:
            self._queue.show_in(message, 0)
        except Exception as error:
            self._log.warning(f"not handed back: {error}", jobId=message.job_id)

    def _wait_for_a_slot(self) -> None:
        with self._idle:
            self._idle.wait_for(lambda: len(self._busy) < len(self._slots) or self._stopping.is_set())

    def _drain(self, receiver: Future[None]) -> None:
        with self._idle:
            self._idle.notify_all()
            busy = len(self._busy)
        self._log.info(f"stopping; {busy} jobs at work have {self._stop_timeout:g} s to end")
        deadline = time.monotonic() + self._stop_timeout
        while not self._at_once.is_set() and time.monotonic() < deadline:
            if self._wait_idle(_DRAIN_SECONDS):
                wait([receiver], _DRAIN_SECONDS)
                if receiver.done() and self._wait_idle(0):
                    return
        self._hand_back()
        wait([receiver])
        self._hand_back()

    def _hand_back(self) -> None:
        """Stop all that is at work, until nothing is: what was being claimed just now is held a moment later."""
        while not self._wait_idle(0):
            for held in self._keeper.held:
                if not held.control.stopped:
                    held.control.stop()
            self._wait_idle(_DRAIN_SECONDS)

    def _wait_idle(self, seconds: float | None) -> bool:
        with self._idle:
            return self._idle.wait_for(lambda: not self._busy, seconds)
