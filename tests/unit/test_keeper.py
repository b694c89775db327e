from __future__ import annotations

import asyncio

import pytest

from asyncjobs.jobs.leases import Claimed, Lease, NewJob
from asyncjobs.jobs.queue import Message
from asyncjobs.testing import Clock, InMemoryQueue, InMemoryStore, Lines
from asyncjobs.worker.executor import Control
from asyncjobs.worker.keeper import CANCEL_SECONDS, Held, Keeper

ID = "1795416232123-abc"


class World:
    """A keeper that holds one job."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.log = Lines()
        self.queue = InMemoryQueue(self.clock)
        self.store = InMemoryStore(self.clock)
        self.keeper = Keeper(self.store, self.queue, self.log, lease_seconds=30, clock=self.clock)
        self.queue.send(ID)
        (message,) = asyncio.run(self.queue.receive(1))
        assert isinstance(message, Message)
        self.message = message
        self.lease = self.claim()
        self.held: Held = self.keeper.hold(self.lease, message, Control())

    def claim(self) -> Lease:
        claim = asyncio.run(self.store.claim(NewJob(ID, "application/json", "{}")))
        assert isinstance(claim, Claimed)
        return claim.lease

    def tick(self) -> None:
        asyncio.run(self.keeper.tick())

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(round(seconds / step)):
            self.clock.now += step
            self.tick()

    @property
    def lease_left(self) -> float:
        return self.store.records[ID].lease_until / 1000 - self.clock.now


@pytest.fixture
def world() -> World:
    return World()


def test_lease_and_message_are_kept_for_as_long_as_the_job_runs(world: World) -> None:
    for _ in range(120):
        world.pass_time(1)
        # A third of the lease goes by at most, and a tick: two heartbeats may fail before it is in danger.
        assert world.lease_left >= 19
        assert world.queue.hidden_for[ID] >= 19
    assert not world.held.lost


def test_nothing_is_written_before_it_is_due(world: World) -> None:
    world.pass_time(6.5)
    assert world.lease_left == pytest.approx(23.5, abs=0.01)


def test_only_the_newest_progress_is_written(world: World) -> None:
    for step in range(100):
        world.held.on_progress(step / 100, f"step {step}")
    assert world.store.records[ID].progress is None
    world.tick()
    assert world.store.records[ID].progress == (0.99, "step 99")
    world.store.records[ID].progress = None
    world.tick()
    assert world.store.records[ID].progress is None


def test_a_cancelled_job_is_told_so_within_a_heartbeat_and_ended_after_a_while(world: World) -> None:
    world.store.cancel(ID)
    world.pass_time(10.5)
    assert world.held.control.cancelled.is_set()
    assert not world.held.control.stopped  # it may still come to an end of its own
    world.pass_time(CANCEL_SECONDS)
    assert world.held.control.stopped
    world.pass_time(30)
    assert world.held.lost == "CANCELLED"
    assert world.log.messages() == ["stopped: the lease is lost; the job is CANCELLED"]
    assert world.log.lines[0]["jobId"] == ID


def test_a_worker_paused_past_its_lease_stops_its_job(world: World) -> None:
    world.clock.now += 31
    other = world.claim()
    world.tick()
    assert world.held.lost
    assert world.held.control.stopped
    assert world.store.records[ID].token == other.token
    assert world.store.records[ID].attempt == 2


def test_two_heartbeats_may_fail(world: World) -> None:
    world.store.errors += [OSError("no route"), OSError("no route")]
    world.pass_time(60)
    assert not world.held.lost
    assert world.lease_left >= 19
    assert world.log.messages("warning") == ["heartbeat failed: no route"] * 2


def test_progress_that_could_not_be_written_is_written_later(world: World) -> None:
    world.store.errors.append(OSError("no route"))
    world.held.on_progress(0.4, "tokenised")
    world.tick()
    world.tick()
    assert world.store.records[ID].progress == (0.4, "tokenised")


def test_newer_progress_is_not_overwritten_by_what_failed(world: World) -> None:
    world.store.errors.append(OSError("no route"))
    world.held.on_progress(0.4, "old")
    world.tick()
    world.held.on_progress(0.5, "new")
    world.tick()
    assert world.store.records[ID].progress == (0.5, "new")


def test_a_visibility_that_fails_does_not_cost_the_lease(world: World) -> None:
    world.queue.errors.append(OSError("no route"))
    world.pass_time(60)
    assert not world.held.lost
    assert world.queue.hidden_for[ID] >= 19


def test_a_released_job_is_left_alone(world: World) -> None:
    world.held.on_progress(0.5, "late")
    asyncio.run(world.keeper.release(world.held))
    world.pass_time(20)
    assert world.store.records[ID].progress is None
    assert world.lease_left == pytest.approx(10, abs=0.01)


def test_one_job_s_trouble_is_not_another_s(world: World) -> None:
    other = "1795416232123-other"
    world.queue.send(other)
    (message,) = asyncio.run(world.queue.receive(1))
    assert isinstance(message, Message)
    claim = asyncio.run(world.store.claim(NewJob(other, "text/plain", "x")))
    assert isinstance(claim, Claimed)
    held = world.keeper.hold(claim.lease, message, Control())
    world.store.cancel(ID)
    world.pass_time(60)
    assert world.held.lost
    assert not held.lost
    assert world.queue.hidden_for[other] >= 19


def test_a_heartbeat_that_meets_the_job_s_own_end_says_nothing(world: World) -> None:
    world.held.ending = True
    asyncio.run(world.store.fail(world.lease, "ValueError", "boom"))
    world.pass_time(12)  # its answer has not come yet
    assert (world.held.lost, world.held.control.stopped, world.log.lines) == ("", False, [])
