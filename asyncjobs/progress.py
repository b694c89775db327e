"""What long work tells the person who waits for it: events into a sink, never prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["started", "info", "waiting", "done", "kept", "failed"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Args:
        step: The step's name ("queue", "api", …).
        kind: What happened to it.
        text: A short phrase for a person ("created", "queue name is free again in 41 s").
    """

    step: str
    kind: Kind
    text: str = ""


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
