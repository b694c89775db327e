"""What a worker counts, once a minute as a line of its log that CloudWatch reads as metrics.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from asyncjobs.worker.logs import Log

PERIOD_SECONDS = 60
NAMESPACE = "asyncjobs"
MOST_VALUES = 100  # of one metric in one line
_ENDS = {
    "succeeded": "JobsSucceeded",
    "failed": "JobsFailed",
    "to": "JobsToBeTriedAgain",
    "handed": "JobsHandedBack",
    "lost": "LeasesLost",
}


class _Sample:
    """So many values, each as likely to be kept as any other."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._seen = 0

    def add(self, value: float) -> None:
        self._seen += 1
        if len(self.values) < MOST_VALUES:
            self.values.append(value)
        elif (place := int(random.random() * self._seen)) < MOST_VALUES:
            self.values[place] = value


class Metrics:
    """Counts for one minute at a time.

    Args:
        stack: The metrics' dimension.
        now: Epoch seconds.
    """

    def __init__(self, log: Log, *, stack: str = "", now: Callable[[], float] = time.time) -> None:
        self._log = log
        self._stack = stack
        self._now = now
        self._clear()

    def started(self, sent_ms: int) -> None:
        """A handler starts on a message that was sent then; 0: nobody knows when."""
        self._counts["JobsStarted"] += 1
        if sent_ms:
            self._ages.add(max(0.0, self._now() - sent_ms / 1000))

    def ended(self, how: str, seconds: float) -> None:
        """An attempt ended: "succeeded", "failed", "to" be tried again, "handed" back, or its lease was "lost"."""
        self._counts[_ENDS[how]] += 1
        if how in ("succeeded", "failed"):
            self._durations.add(seconds)

    def write(self, slots: int, busy: int) -> None:
        """Log the minute that is over, unless nothing happened in it."""
        if not busy and not self._counts:
            return
        values: dict[str, Any] = {name: self._counts[name] for name in ("JobsStarted", *_ENDS.values())}
        values |= {"Slots": slots, "SlotsBusy": busy}
        units = dict.fromkeys(values, "Count")
        for name, sample in (("Duration", self._durations), ("QueueAge", self._ages)):
            if sample.values:
                values[name] = [round(value, 3) for value in sample.values]
                units[name] = "Seconds"
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["Stack"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit in units.items()],
        }
        about = {"Timestamp": int(self._now() * 1000), "CloudWatchMetrics": [directive]}
        self._log.info("metrics", _aws=about, Stack=self._stack, **values)
        self._clear()

    def _clear(self) -> None:
        self._counts: Counter[str] = Counter()
        self._durations, self._ages = _Sample(), _Sample()
