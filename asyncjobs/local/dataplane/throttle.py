"""Token buckets and quotas of usage plans and stages. Kept in memory: API Gateway's are best-effort too."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock


@dataclass
class _Bucket:
    rate: float
    burst: float
    tokens: float
    filled_at: float


class Throttle:
    """One bucket per subject: `burst` requests at once, refilled with `rate` a second.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[Hashable, _Bucket] = {}
        self._lock = Lock()

    def allows(self, subject: Hashable, rate: float, burst: float) -> bool:
        with self._lock:
            now = self._clock()
            bucket = self._buckets.get(subject)
            if bucket is None or (bucket.rate, bucket.burst) != (rate, burst):
                bucket = self._buckets[subject] = _Bucket(rate, burst, burst, now)
            bucket.tokens = min(burst, bucket.tokens + (now - bucket.filled_at) * rate)
            bucket.filled_at = now
            if bucket.tokens < 1:
                return False
            bucket.tokens -= 1
            return True


class Quota:
    """Requests per calendar day, week or month (UTC).

    Args:
        clock: Epoch seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used: dict[Hashable, tuple[str, int]] = {}
        self._lock = Lock()

    def allows(self, subject: Hashable, limit: int, period: str) -> bool:
        current = _period(datetime.fromtimestamp(self._clock(), UTC), period)
        with self._lock:
            since, used = self._used.get(subject, ("", 0))
            used = used if since == current else 0
            if used >= limit:
                return False
            self._used[subject] = (current, used + 1)
            return True


def _period(now: datetime, period: str) -> str:
    if period == "WEEK":
        return "{}-W{}".format(*now.isocalendar()[:2])
    return now.strftime("%Y-%m" if period == "MONTH" else "%Y-%m-%d")
