"""The store that the worker's tests run on keeps the design's transitions."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from lifecycle import LEASE_SECONDS, MAX_ATTEMPTS, Lifecycle, View

from asyncjobs.jobs.leases import Lease, NewJob
from asyncjobs.testing import InMemoryStore

ID = "1795416232123-abc"
JOB = NewJob(ID, "text/plain", "x")


class InMemory:
    def __init__(self) -> None:
        self.now = 1_795_416_240.0
        self._store = InMemoryStore(lambda: self.now, lease_seconds=LEASE_SECONDS, max_attempts=MAX_ATTEMPTS)

    def claim(self, generation: int) -> Any:
        return asyncio.run(self._store.claim(JOB, generation=generation))

    def write(self, name: str, lease: Lease, *args: Any) -> None:
        asyncio.run(getattr(self._store, name)(lease, *args))

    def cancel(self) -> None:
        self._store.cancel(ID)

    def retry(self) -> None:
        self._store.retry(ID)

    def lose(self, generation: int) -> None:
        asyncio.run(self._store.lose(JOB, generation=generation))

    def view(self) -> View | None:
        record = self._store.records.get(ID)
        if record is None:
            return None
        return View(
            record.status,
            record.generation,
            record.attempt,
            record.token,
            record.lease_until / 1000,
            record.result.json_text if record.result else None,
            record.error[0] if record.error else None,
        )


def test_only_the_transitions_of_the_design() -> None:
    run_state_machine_as_test(
        lambda: Lifecycle(InMemory()), settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )
