"""Ends a running plan early: because somebody asked, or because its time is up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from asyncjobs.errors import AsyncJobsError, InterruptedByUserError, TimedOutError


class Halt:
    """Once halted, no step starts and no wait goes on; calls under way end by themselves.

    Args:
        timeout: Seconds from now on after which it halts by itself; None means never.
        clock: Monotonic seconds.
    """

    def __init__(self, timeout: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._deadline = None if timeout is None else clock() + timeout
        self._asked = threading.Event()

    def ask(self) -> None:
        """Halt now; safe in a signal handler."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    @property
    def halted(self) -> bool:
        return self._asked.is_set() or self._left() <= 0

    def sleep(self, seconds: float) -> None:
        """Sleep.

        Raises:
            InterruptedByUserError: Asked to halt, before or meanwhile.
            TimedOutError: The time is up, or would be before `seconds` have passed.
        """
        if self._asked.wait(max(0.0, min(seconds, self._left()))):
            raise self.error("Interrupted while waiting.")
        if self._left() <= 0:
            raise self.error(f"Not done within {self._timeout:.0f} s.")

    def error(self, what: str) -> AsyncJobsError:
        """The error that says why it halted."""
        return InterruptedByUserError(what) if self._asked.is_set() else TimedOutError(what)

    def _left(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - self._clock()
