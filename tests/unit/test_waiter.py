from __future__ import annotations

import pytest

from asyncjobs.aws import LONGEST_WAIT, Waiter
from asyncjobs.progress import RecordingProgress


class Clock:
    """Only sleeping makes time pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.sleeps.append(seconds)


@pytest.mark.parametrize("ready_at", [0.5, 8, 45, 75])
@pytest.mark.parametrize("first_wait", [0.2, 1.0])
def test_a_wait_ends_late_by_a_tenth_at_most(ready_at: float, first_wait: float):
    clock = Clock()
    waiter = Waiter(RecordingProgress(), sleep=clock.sleep)
    waiter.until(lambda: clock.now >= ready_at, step="a", reason="b", timeout=900, first_wait=first_wait)
    spread = first_wait / 2
    assert ready_at <= clock.now <= max(ready_at + first_wait, ready_at * 1.1) + spread


def test_a_wait_of_45_seconds_asks_no_more_than_40_times():
    clock = Clock()
    waiter = Waiter(RecordingProgress(), sleep=clock.sleep)
    waiter.until(lambda: clock.now >= 45, step="a", reason="b", timeout=900, first_wait=0.3)
    assert len(clock.sleeps) <= 40


def test_what_takes_minutes_is_looked_at_every_ten_seconds():
    clock = Clock()
    waiter = Waiter(RecordingProgress(), sleep=clock.sleep)
    waiter.until(lambda: clock.now >= 900, step="a", reason="b", timeout=900)
    assert LONGEST_WAIT <= clock.sleeps[-1] <= LONGEST_WAIT + 0.5
    assert clock.now <= 900 + LONGEST_WAIT + 0.5
