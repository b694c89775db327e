"""How long a service waits before it starts another task in place of one that died soon after its start.

ECS does the same: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-throttle-logic.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
HEALTHY_SECONDS = 60.0


class RestartBackoff:
    """Delays per service: none at first, then 1, 2, 4 … 60 s while its tasks die young.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def delay(self, service: str) -> float:
        """Seconds until the service may start a task."""
        with self._lock:
            return max(0.0, self._not_before.get(service, 0.0) - self._clock())

    def died(self, service: str, lifetime: float) -> int:
        """A task ended by itself after `lifetime` seconds. Returns how many did so early in a row."""
        with self._lock:
            if lifetime >= HEALTHY_SECONDS:
                self._failures.pop(service, None)
                self._not_before.pop(service, None)
                return 0
            failures = self._failures.get(service, 0) + 1
            self._failures[service] = failures
            wait = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 10))
            self._not_before[service] = self._clock() + wait
            return failures

    def forget(self, service: str) -> None:
        """The service was changed or deleted: what its old tasks did says nothing about the new ones."""
        with self._lock:
            self._failures.pop(service, None)
            self._not_before.pop(service, None)
