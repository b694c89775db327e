"""The child process of a slot: imports the handler once, then runs the attempts that its parent sends.

Frames on the connection are JSON, each followed by a frame of bytes where `"data"` says so. The child ends itself,
with everything it started, when its parent is gone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from asyncjobs.worker.call import Handler, call_handler, find_handler
from asyncjobs.worker.executor import StartError
from asyncjobs.worker.job import Job
from asyncjobs.worker.logs import RecordFormatter
from asyncjobs.worker.outcome import Failed, Outcome, Succeeded, spilled


class Channel:
    """Sends frames from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any], data: bytes | None = None) -> None:
        with self._lock:
            self._connection.send_bytes(json.dumps({**message, "data": data is not None}).encode())
            if data is not None:
                self._connection.send_bytes(data)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Raises EOFError when the other side is gone."""
        message: dict[str, Any] = json.loads(self._connection.recv_bytes())
        return message, self._connection.recv_bytes() if message.pop("data") else b""


@dataclass
class _Current:
    """The newest attempt: what a cancellation refers to."""

    cancelled: threading.Event


def main() -> None:
    """Run in a child: `python -m asyncjobs.worker.child FD module:function`."""
    channel = Channel(Connection(int(sys.argv[1])))
    records = logging.StreamHandler(sys.stderr)
    records.setFormatter(RecordFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[records])
    _ignore_signals()
    try:
        handler = find_handler(sys.argv[2])
    except StartError as error:
        channel.send({"type": "broken", "message": str(error)})
        return
    channel.send({"type": "ready"})
    _serve(channel, handler)


def _ignored(_number: int, _frame: object) -> None:
    pass


def _ignore_signals() -> None:
    """The parent decides when to end: a Ctrl-C or a SIGTERM to everyone must not cut work off.

    What the handler starts must not inherit that, or nobody could terminate it: SIG_IGN would outlive `exec`, and a
    forked process gets the default back, with signals blocked until then so that none is lost.
    """
    numbers = {signal.SIGINT, signal.SIGTERM}

    def restore() -> None:
        for number in numbers:
            if signal.getsignal(number) is _ignored:
                signal.signal(number, signal.SIG_DFL)
        unblock()

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

    for number in numbers:
        signal.signal(number, _ignored)
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers),
        after_in_parent=unblock,
        after_in_child=restore,
    )


def _serve(channel: Channel, handler: Handler) -> None:
    inbox: list[tuple[dict[str, Any], bytes, threading.Event]] = []
    arrived = threading.Condition()
    current = _Current(threading.Event())

    def listen() -> None:
        # In a thread of its own, so that a cancellation and the parent's death are noticed while a handler runs.
        try:
            while True:
                message, data = channel.receive()
                if message["type"] == "cancel":
                    current.cancelled.set()
                    continue
                with arrived:
                    current.cancelled = threading.Event()
                    inbox.append((message, data, current.cancelled))
                    arrived.notify()
        except (EOFError, OSError):
            os.killpg(0, signal.SIGKILL)  # the child leads its own group: the handler's children go too

    threading.Thread(target=listen, name="parent", daemon=True).start()
    while True:
        with arrived:
            arrived.wait_for(lambda: inbox)
            message, data, cancelled = inbox.pop()
        outcome = spilled(call_handler(handler, _job(channel, cancelled, message, data)), Path(message["directory"]))
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # the handler may have closed it, or put anything in its place
                stream.flush()
        # The listener and the main thread are the child's own.
        _send_outcome(channel, outcome, threads=threading.active_count() - 2)


def _job(channel: Channel, cancelled: threading.Event, message: dict[str, Any], data: bytes) -> Job:
    return Job(
        data if message["file"] is None else Path(message["file"]),
        id=message["id"],
        attempt=message["attempt"],
        max_attempts=message["maxAttempts"],
        content_type=message["contentType"],
        directory=Path(message["directory"]),
        on_progress=lambda fraction, text: channel.send({"type": "progress", "fraction": fraction, "message": text}),
        is_cancelled=cancelled.is_set,
    )


def _send_outcome(channel: Channel, outcome: Outcome, *, threads: int) -> None:
    if isinstance(outcome, Succeeded):
        data = outcome.json_text.encode() if outcome.json_text is not None else outcome.data
        kind = "json" if outcome.json_text is not None else "bytes" if outcome.data is not None else "file"
        described = {
            "kind": kind,
            "file": str(outcome.file or ""),
            "contentType": outcome.content_type,
            "isValue": outcome.is_value,
        }
        channel.send({"type": "done", "threads": threads, **described}, data)
    elif isinstance(outcome, Failed):
        channel.send(
            {
                "type": "failed",
                "threads": threads,
                "errorType": outcome.error_type,
                "message": outcome.message,
                "detail": outcome.detail,
                "final": outcome.final,
            }
        )


if __name__ == "__main__":
    main()
