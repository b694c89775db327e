"""Time that passes only when told to."""

from __future__ import annotations


class Clock:
    """Seconds that pass only when told to; also a `sleep` that takes no time."""

    def __init__(self, now: float = 1_795_416_232.0) -> None:
        self.now = now
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
