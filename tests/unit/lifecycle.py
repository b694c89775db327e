"""Everything that can happen to a job, in any order, against any store: only the transitions of the design may come.

QUEUED → RUNNING → SUCCEEDED | FAILED; QUEUED | RUNNING → CANCELLED; RUNNING → QUEUED when an attempt failed and another
is left, or its worker hands it back; RUNNING → RUNNING when a lease ran out; terminal states only by a retry into the
next generation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncjobs.jobs.leases import Claimed, Lease, LeaseLostError, Result
from asyncjobs.jobs.record import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, TERMINAL

LEASE_SECONDS = 30
MAX_ATTEMPTS = 3
ALLOWED = {
    None: {RUNNING, CANCELLED, FAILED},
    QUEUED: {QUEUED, RUNNING, CANCELLED, FAILED},
    RUNNING: {RUNNING, QUEUED, SUCCEEDED, FAILED, CANCELLED},
    **{status: {status} for status in TERMINAL},
}


@dataclass(frozen=True)
class View:
    """A record as the machine compares it."""

    status: str
    generation: int
    attempt: int
    token: str
    lease_until: float
    result: str | None
    error: str | None


class Subject(Protocol):
    """A store with one job, each call done when it returns."""

    now: float

    def claim(self, generation: int) -> Any: ...

    def write(self, name: str, lease: Lease, *args: Any) -> None: ...

    def cancel(self) -> None: ...

    def retry(self) -> None: ...

    def lose(self, generation: int) -> None: ...

    def view(self) -> View | None: ...


class Lifecycle(RuleBasedStateMachine):
    """Workers that come, go, pause and wake, and a person that cancels and retries.

    Args:
        subject: Fresh.
    """

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.subject = subject
        self.leases: list[Lease] = []
        self.before: View | None = None
        self.numbers = 0

    def pick(self, data: st.DataObject) -> Lease:
        return data.draw(st.sampled_from(self.leases), label="lease")

    def owns(self, lease: Lease) -> bool:
        seen = self.before
        return (
            seen is not None
            and (seen.status, seen.token) == (RUNNING, lease.token)
            and seen.lease_until >= self.subject.now
        )

    def step(self, *, next_generation: bool = False) -> View | None:
        """Look at what has become of the record; complain where it may not be so."""
        was, now = self.before, self.subject.view()
        self.before = now
        if was is None:
            assert now is None or now.status in ALLOWED[None]
            return now
        assert now is not None, "a record went away"
        if now.generation != was.generation:
            assert next_generation
            assert (was.status in TERMINAL, now.generation) == (True, was.generation + 1)
            assert (now.status, now.attempt) in ((QUEUED, 0), (RUNNING, 1))
            assert (now.result, now.error) == (None, None)
            return now
        assert now.status in ALLOWED[was.status], f"{was.status} became {now.status}"
        if was.status in TERMINAL:
            assert now == was, "what has ended changed"
        return now

    @rule(seconds=st.sampled_from([1, LEASE_SECONDS // 2, LEASE_SECONDS + 1]))
    def pass_time(self, seconds: int) -> None:
        self.subject.now += seconds

    @rule(behind=st.integers(-1, 1))
    def claim(self, behind: int) -> None:
        was = self.before
        generation = max(1, (was.generation if was else 1) - behind)
        claim = self.subject.claim(generation)
        now = self.step(next_generation=True)
        if not isinstance(claim, Claimed):
            # Nothing changed, or the last attempt's worker was found to be lost.
            assert now == was or (now is not None and now.status == FAILED)
            return
        assert now is not None
        assert (now.status, now.token, now.generation) == (RUNNING, claim.lease.token, generation)
        if was is not None and was.status == RUNNING:
            assert was.lease_until < self.subject.now, "a live lease was taken over"
        if was is not None and was.generation == now.generation:
            assert now.attempt == was.attempt + 1
        assert now.attempt <= MAX_ATTEMPTS
        self.leases.append(claim.lease)

    def write(self, name: str, lease: Lease, *args: Any) -> View | None:
        """A worker's write: it counts if, and only if, the lease is its own and not over."""
        was, owned = self.before, self.owns(lease)
        try:
            self.subject.write(name, lease, *args)
        except LeaseLostError:
            assert not owned, f"{name} was refused though the lease is good"
            assert self.step() == was
            return None
        now = self.step()
        if not owned:
            # Taken for the same write sent again.
            assert now == was
            return None
        return now

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        now = self.write("heartbeat", self.pick(data))
        assert now is None or (now.status, now.lease_until) == (RUNNING, self.subject.now + LEASE_SECONDS)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def progress(self, data: st.DataObject) -> None:
        self.write("progress", self.pick(data), 0.5, "half")

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        self.numbers += 1
        now = self.write("succeed", self.pick(data), Result(json_text=str(self.numbers)))
        assert now is None or (now.status, now.result) == (SUCCEEDED, str(self.numbers))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), name=st.sampled_from([("fail", FAILED), ("retry_later", QUEUED)]))
    def fail(self, data: st.DataObject, name: tuple[str, str]) -> None:
        now = self.write(name[0], self.pick(data), "ValueError", "no")
        assert now is None or (now.status, now.error) == (name[1], "ValueError")

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        was = self.before
        now = self.write("hand_back", self.pick(data))
        assert now is None or was is None or (now.status, now.attempt) == (QUEUED, was.attempt - 1)

    @precondition(lambda self: self.before is not None)
    @rule()
    def cancel(self) -> None:
        was = self.before
        self.subject.cancel()
        now = self.step()
        assert now is not None
        assert was is not None
        assert now.status == (was.status if was.status in TERMINAL else CANCELLED)

    @precondition(lambda self: self.before is not None)
    @rule()
    def retry(self) -> None:
        was = self.before
        self.subject.retry()
        now = self.step(next_generation=True)
        assert now is not None
        assert was is not None
        assert (now == was) == (was.status not in TERMINAL)

    @precondition(lambda self: self.before is not None)
    @rule(behind=st.integers(0, 1))
    def lose(self, behind: int) -> None:
        was = self.before
        assert was is not None
        live = was.status == RUNNING and was.lease_until >= self.subject.now
        self.subject.lose(max(1, was.generation - behind))
        now = self.step()
        assert now is not None
        same = max(1, was.generation - behind) == was.generation
        assert now.status == (FAILED if same and was.status not in TERMINAL and not live else was.status)

    @invariant()
    def nothing_changes_by_itself(self) -> None:
        assert self.subject.view() == self.before
