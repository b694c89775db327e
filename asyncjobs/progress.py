"""What long work tells the person who waits for it: events into a sink, never prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["started", "info", "waiting", "done", "kept", "failed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Args:
        step: The step's name ("queue", "api", …).
        kind: What happened to it.
        text: A short phrase for a person ("created", "tasks are starting").
        until: Of a wait that AWS limits, when it is over at the latest: monotonic seconds, for a countdown.
    """

    step: str
    kind: Kind
    text: str = ""
    until: float | None = None

    def said(self, now: float) -> str:
        """The text with what is left of the wait: "queue name is not free yet, 41 s at most"."""
        if self.until is None or self.until <= now:
            return self.text
        return f"{self.text}, {math.ceil(self.until - now)} s at most"


class Progress(Protocol):
    """A sink for events. `emit` is called from several threads and must not block for long."""

    def emit(self, event: Event) -> None: ...


class NullProgress:
    """Says nothing."""

    def emit(self, event: Event) -> None:
        pass


class RecordingProgress:
    """Keeps the events, for tests and for summaries."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
