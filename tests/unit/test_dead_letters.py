from __future__ import annotations

import asyncio

import pytest

from asyncjobs.jobs.leases import Claimed, Lease, NewJob, Result
from asyncjobs.jobs.queue import PoisonError
from asyncjobs.testing import Clock, InMemoryObjects, InMemoryQueue, InMemoryStore, Lines
from asyncjobs.worker.dead_letters import LOOK_SECONDS, DeadLetters

ID = "1795416232123-abc"
JOB = NewJob(ID, "text/plain", "x")


class World:
    """A dead-letter queue with one job's message."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.log = Lines()
        self.queue = InMemoryQueue(self.clock, lease_seconds=10)
        self.store = InMemoryStore(self.clock)
        self.dead_letters = DeadLetters(
            self.queue, self.store, InMemoryObjects(), self.log, sleep=self.clock.sleep, jitter=lambda: 1.0
        )
        self.queue.send(ID, "x", "text/plain")

    def claim(self) -> Lease:
        claim = asyncio.run(self.store.claim(JOB))
        assert isinstance(claim, Claimed)
        return claim.lease

    def look(self) -> int:
        return asyncio.run(self.dead_letters.look())

    @property
    def end(self) -> tuple[str, str]:
        record = self.store.records[ID]
        return record.status, record.error[0] if record.error else ""


@pytest.fixture
def world() -> World:
    return World()


def test_a_job_whose_worker_was_lost_for_the_last_time_ends(world: World) -> None:
    world.claim()
    world.clock.now += 31
    assert world.look() == 1
    assert (world.end, world.queue.left) == (("FAILED", "WorkerLost"), [])
    assert world.log.lines[0]["jobId"] == ID


def test_a_job_that_was_never_claimed_ends_too(world: World) -> None:
    assert world.look() == 1
    assert world.end == ("FAILED", "WorkerLost")


def test_a_job_at_work_is_left_to_its_worker(world: World) -> None:
    lease = world.claim()
    assert world.look() == 0
    assert (world.end, world.queue.left) == (("RUNNING", ""), [ID])
    asyncio.run(world.store.succeed(lease, Result(json_text="1")))
    world.clock.now += 10
    assert world.look() == 1
    assert (world.end, world.queue.left) == (("SUCCEEDED", ""), [])


def test_what_is_no_job_stays_to_be_looked_at(world: World) -> None:
    poison = PoisonError("message 7: no valid jobId attribute")
    world.queue.send_poison(poison)
    world.look()
    assert world.queue.poison == [poison]
    assert world.store.records.keys() == {ID}


def test_it_looks_again_and_again_whatever_comes(world: World) -> None:
    world.queue.errors.append(OSError("no route"))

    async def run() -> None:
        task = asyncio.create_task(world.dead_letters.run())
        while world.queue.left:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(run())
    assert world.clock.sleeps[:2] == [LOOK_SECONDS, LOOK_SECONDS]
    assert world.log.messages("warning")[0] == "the dead-letter queue was not looked at: no route"
