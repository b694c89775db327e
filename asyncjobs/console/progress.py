"""Shows progress events: a live list of steps on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asyncjobs.console.output import Output
from asyncjobs.progress import Event, NullProgress, Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

_INFO_SECONDS = 5.0  # a push tells of itself many times a second, and a log keeps every line
_MARKS = {"done": "✓", "kept": "·", "failed": "✗"}


class Display:
    """A sink that shows what it gets while `shown` lasts, and else nothing: a question may be asked in between."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._sink: Progress = NullProgress()

    def emit(self, event: Event) -> None:
        self._sink.emit(event)

    @contextmanager
    def shown(self) -> Iterator[None]:
        with _showing(self._output) as self._sink:
            try:
                yield
            finally:
                self._sink = NullProgress()


@contextmanager
def _showing(output: Output) -> Iterator[Progress]:
    if output.quiet:
        yield NullProgress()
    elif output.live:
        with _live(output) as sink:
            yield sink
    else:
        yield PlainProgress(output)


class PlainProgress:
    """A line for each event; a repeated wait is said once, and of what is under way something now and then.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, Event] = {}
        self._told: dict[str, float] = {}

    def emit(self, event: Event) -> None:
        with self._lock:
            now = self._clock()
            if self._last.get(event.step) == event or event.kind == "kept":
                return
            if event.kind == "info" and now - self._told.get(event.step, -math.inf) < _INFO_SECONDS:
                return
            self._last[event.step], self._told[event.step] = event, now
            self._output.say(f"{event.step}: {event.said(now)}")


@contextmanager
def _live(output: Output) -> Iterator[Progress]:
    # Imported here: rich costs more time than a whole `status` command.
    from rich.console import Console
    from rich.live import Live

    sink = _LiveProgress()
    console = Console(file=output.stderr, no_color=not output.colour)
    with Live(sink, console=console, refresh_per_second=10, transient=False):
        yield sink


class _LiveProgress:
    def __init__(self) -> None:
        from rich.spinner import Spinner

        self._lock = threading.Lock()
        self._events: dict[str, Event] = {}
        self._spinner = Spinner("dots")

    def emit(self, event: Event) -> None:
        with self._lock:
            if event.kind != "kept":
                self._events[event.step] = event

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        with self._lock:
            events = list(self._events.values())
        for event in events:
            style = {"failed": "red", "done": "green", "waiting": "yellow"}.get(event.kind, "")
            mark = _MARKS.get(event.kind) or self._spinner
            table.add_row(mark, event.step, event.said(time.monotonic()), style=style)
        return table
