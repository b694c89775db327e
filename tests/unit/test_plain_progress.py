"""What is said where nobody watches a live display: in a log, sparsely."""

from __future__ import annotations

import io

from asyncjobs.console.output import Output
from asyncjobs.console.progress import PlainProgress
from asyncjobs.progress import Event


def said(*events: tuple[float, Event]) -> list[str]:
    stderr, now = io.StringIO(), [0.0]
    progress = PlainProgress(Output(stdout=io.StringIO(), stderr=stderr, env={}), clock=lambda: now[0])
    for at, event in events:
        now[0] = at
        progress.emit(event)
    return stderr.getvalue().splitlines()


def test_of_what_is_under_way_something_is_said_now_and_then():
    pushing = [(number / 10, Event("image", "info", f"pushing {number}")) for number in range(200)]
    lines = said(*pushing, (20.0, Event("image", "done", "created")))
    assert lines == [*(f"image: pushing {number}" for number in (0, 50, 100, 150)), "image: created"]


def test_a_step_does_not_keep_another_from_being_heard():
    assert len(said((0.0, Event("image", "info", "a")), (0.1, Event("requirements", "info", "b")))) == 2


def test_beginnings_waits_and_ends_are_always_said_and_repetitions_never():
    waiting = Event("queue", "waiting", "not free yet")
    lines = said(*((0.0, event) for event in (Event("queue", "started", "creating"), waiting, waiting)))
    assert lines == ["queue: creating", "queue: not free yet"]
    assert said((0.0, Event("queue", "kept", "kept"))) == []
