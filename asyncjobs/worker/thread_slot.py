"""A slot whose handler runs in a thread of the worker: light, for handlers that mostly wait; it cannot be killed."""

from __future__ import annotations

import threading

from asyncjobs.worker.call import Handler, call_handler, find_handler
from asyncjobs.worker.executor import Attempt
from asyncjobs.worker.job import Job
from asyncjobs.worker.outcome import Failed, Outcome, Stopped


class ThreadSlot:
    """Runs each attempt in a new daemon thread, and leaves it behind when it will not end."""

    def __init__(self, handler: str) -> None:
        self._name = handler
        self._handler: Handler | None = None

    def start(self) -> None:
        self._handler = find_handler(self._name)

    def run(self, attempt: Attempt) -> Outcome:
        handler = self._handler
        if handler is None:
            raise RuntimeError("the slot was not started")
        ended = threading.Event()
        outcomes: list[Outcome] = []

        def work() -> None:
            outcomes.append(call_handler(handler, _job(attempt)))
            ended.set()

        attempt.control.on_stop(ended.set)
        # The thread's name is what its log lines are matched to their job by.
        threading.Thread(target=work, name=attempt.job_id, daemon=True).start()
        in_time = ended.wait(attempt.timeout)
        attempt.control.on_stop(None)
        if outcomes:
            return outcomes[0]
        if in_time:
            return Stopped()
        attempt.control.cancelled.set()
        return Failed(
            "Timeout",
            f"the handler ran longer than {attempt.timeout:g} s; its thread cannot be ended and was left behind",
        )

    def close(self) -> None:
        """Nothing to end: threads cannot be."""


def _job(attempt: Attempt) -> Job:
    return Job(
        attempt.payload,
        id=attempt.job_id,
        attempt=attempt.attempt,
        max_attempts=attempt.max_attempts,
        content_type=attempt.content_type,
        directory=attempt.directory,
        on_progress=attempt.on_progress,
        is_cancelled=attempt.control.cancelled.is_set,
    )
