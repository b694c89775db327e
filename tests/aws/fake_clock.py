"""Time that passes only when somebody waits for it."""

from __future__ import annotations

import threading


class FakeClock:
    """Seconds; starts at an epoch time, so that it serves as wall clock and as monotonic clock alike."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds
