from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from asyncjobs.jobs.leases import Claim, NewJob
from asyncjobs.jobs.queue import Message, PoisonError
from asyncjobs.testing import Clock, FakeSlot, InMemoryObjects, InMemoryQueue, InMemoryStore, Lines
from asyncjobs.worker.executor import Attempt, Control, Slot, StartError
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.loop import Worker
from asyncjobs.worker.metrics import Metrics
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded
from asyncjobs.worker.runner import Runner
from asyncjobs.worker.slots import SlotPool

WITHIN = 10.0  # seconds; reached only by a test that fails


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.002)


def job_id(number: int) -> str:
    return f"1795416232123-{number}"


class Running:
    """A worker in a thread, with a loop of its own."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make
        self._ready = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(WITHIN)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._worker.stop)

    def join(self) -> None:
        self._thread.join(WITHIN)
        assert not self._thread.is_alive(), "the worker did not end"

    def end(self) -> None:
        if self._thread.is_alive() and self._loop.is_running():
            self.stop()
            self.stop()
        self.join()

    def _run(self) -> None:
        async def work() -> None:
            self._loop = asyncio.get_running_loop()
            self._worker = self._make()
            self._ready.set()
            await self._worker.run()

        try:
            asyncio.run(work())
        except BaseException as error:
            self.error = error


class World:
    """What surrounds a worker."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.clock = Clock()
        self.log = Lines()
        self.queue = InMemoryQueue(self.clock)
        self.store = InMemoryStore(self.clock)
        self.protection: Recording | None = None
        self._running: Running | None = None

    def worker(self, slots: Sequence[Slot], stop_timeout: float = 60) -> Worker:
        keeper = Keeper(self.store, self.queue, self.log, lease_seconds=30, clock=self.clock)
        runner = Runner(
            self.queue,
            self.store,
            InMemoryObjects(),
            keeper,
            self.log,
            Metrics(self.log),
            directory=self._directory,
            timeout=60,
            max_attempts=3,
            sleep=self.clock.sleep,
            jitter=lambda: 1.0,
            now=self.clock,
        )
        return Worker(
            self.queue,
            runner,
            keeper,
            slots,
            self.log,
            stop_timeout=stop_timeout,
            protection=self.protection,
            sleep=self.clock.sleep,
        )

    def start(self, slots: Sequence[Slot], stop_timeout: float = 60) -> Running:
        self._running = Running(lambda: self.worker(slots, stop_timeout))
        return self._running

    def join(self) -> None:
        assert self._running is not None
        self._running.join()

    def status(self, number: int = 1) -> str:
        record = self.store.records.get(job_id(number))
        return record.status if record else ""

    @property
    def error(self) -> BaseException | None:
        assert self._running is not None
        return self._running.error

    def end(self) -> None:
        if self._running is not None:
            self._running.end()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.end()


class Gate:
    """A handler that runs until it is let go or stopped."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, attempt: Attempt) -> Outcome:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        attempt.control.on_stop(self.open.set)
        self.open.wait(WITHIN)
        attempt.control.on_stop(None)
        with self._lock:
            self.running -= 1
        return Stopped() if attempt.control.stopped else Succeeded(json_text="1")


def test_jobs_are_run_as_they_come(world: World) -> None:
    slot = FakeSlot()
    world.start([slot])
    for number in range(5):
        world.queue.send(job_id(number))
    eventually(lambda: world.queue.left == [])
    assert all(world.status(number) == "SUCCEEDED" for number in range(5))
    assert world.log.messages()[0] == "ready for 1 jobs at once"


def test_no_more_are_received_than_there_are_slots(world: World) -> None:
    gate = Gate()
    for number in range(10):
        world.queue.send(job_id(number))
    world.start([FakeSlot(gate) for _ in range(3)])
    eventually(lambda: gate.running == 3)
    assert sum(hidden > 0 for hidden in world.queue.hidden_for.values()) == 3
    gate.open.set()
    eventually(lambda: world.queue.left == [])
    assert gate.most == 3


def test_stopped_it_lets_work_end_and_takes_no_more(world: World) -> None:
    gate = Gate()
    slot = FakeSlot(gate)
    world.queue.send(job_id(1))
    worker = world.start([slot])
    eventually(lambda: gate.running)
    worker.stop()
    world.queue.send(job_id(2))
    gate.open.set()
    world.join()
    assert (world.status(1), world.status(2)) == ("SUCCEEDED", "")
    assert world.queue.hidden_for == {job_id(2): 0}
    assert slot.closed


def test_work_that_does_not_end_in_time_is_handed_back(world: World) -> None:
    gate = Gate()
    world.queue.send(job_id(1))
    worker = world.start([FakeSlot(gate)], stop_timeout=0.01)
    eventually(lambda: gate.running)
    worker.stop()
    world.join()
    assert (world.status(), world.store.records[job_id(1)].attempt) == ("QUEUED", 0)
    assert world.queue.hidden_for == {job_id(1): 0}


def test_stopped_twice_it_hands_back_at_once(world: World) -> None:
    gate = Gate()
    world.queue.send(job_id(1))
    worker = world.start([FakeSlot(gate)], stop_timeout=3600)
    eventually(lambda: gate.running)
    worker.stop()
    worker.stop()
    world.join()
    assert world.status() == "QUEUED"


def test_a_job_that_is_being_claimed_when_time_is_up_is_handed_back_too(world: World) -> None:
    claiming, go_on = threading.Event(), threading.Event()

    class SlowStore(InMemoryStore):
        async def claim(self, job: NewJob, *, generation: int = 1, likely_new: bool = False) -> Claim:
            claiming.set()
            await asyncio.to_thread(go_on.wait, WITHIN)
            return await super().claim(job)

    world.store = SlowStore(world.clock)
    world.queue.send(job_id(1))
    gate = Gate()
    worker = world.start([FakeSlot(gate)], stop_timeout=0.01)
    assert claiming.wait(WITHIN)
    worker.stop()
    eventually(lambda: any("stopping" in message for message in world.log.messages()))
    threading.Event().wait(0.05)  # past the stop timeout
    go_on.set()
    world.join()
    assert world.status() == "QUEUED"


def test_what_is_no_job_is_left_to_the_dead_letter_queue(world: World) -> None:
    world.queue.send_poison(PoisonError("message 7: no valid jobId attribute"))
    world.queue.send(job_id(1))
    world.start([FakeSlot()])
    eventually(lambda: world.queue.left == [])
    assert world.log.messages("warning") == ["not a job: message 7: no valid jobId attribute"]


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "later"}}, "ReceiveMessage"),
        ResponseParserError("an HTML page of a proxy"),
        ValueError("a message that nobody thought of"),
    ],
    ids=["ClientError", "ResponseParserError", "ValueError"],
)
def test_a_queue_that_fails_is_asked_again_with_growing_pauses(world: World, error: Exception) -> None:
    world.queue.errors += [error] * 8
    world.queue.send(job_id(1))
    world.start([FakeSlot()])
    eventually(lambda: world.status() == "SUCCEEDED")
    assert world.clock.sleeps == [0.5, 1, 2, 4, 8, 16, 30, 30]


class Died(BaseException):
    pass


@pytest.mark.parametrize("stop_timeout", [0.01, 60])
def test_without_its_receiver_the_worker_ends_with_an_error(world: World, stop_timeout: float) -> None:
    gate = Gate()

    class DyingQueue(InMemoryQueue):
        async def receive(self, most: int, *, wait: bool = True) -> list[Message | PoisonError]:
            if gate.running:
                if stop_timeout > 1:
                    gate.open.set()
                raise Died
            return await super().receive(most, wait=wait)

    world.queue = DyingQueue(world.clock)
    world.queue.send(job_id(1))
    slots = [FakeSlot(gate), FakeSlot()]
    world.start(slots, stop_timeout).join()
    assert isinstance(world.error, Died)
    # What was at work had its time to end, like on a stop.
    assert world.status() == ("SUCCEEDED" if stop_timeout > 1 else "QUEUED")
    assert all(slot.closed for slot in slots)


def test_one_job_s_surprise_does_not_cost_the_worker(world: World) -> None:
    def surprise(attempt: Attempt) -> Outcome:
        if attempt.job_id == job_id(1):
            raise RuntimeError("a bug of ours")
        return Succeeded(json_text="1")

    world.queue.send(job_id(1))
    world.queue.send(job_id(2))
    world.start([FakeSlot(surprise)])
    eventually(lambda: world.status(2) == "SUCCEEDED")
    assert world.log.messages("error") == ["unexpected: RuntimeError('a bug of ours')"]
    world.clock.now += 31
    eventually(lambda: world.store.records[job_id(1)].attempt == 2)


def test_a_retry_comes_when_its_pause_is_over(world: World) -> None:
    def fail_once(attempt: Attempt) -> Outcome:
        return Failed("ValueError", "no") if attempt.attempt == 1 else Succeeded(json_text="1")

    world.queue.send(job_id(1))
    world.start([FakeSlot(fail_once)])
    eventually(lambda: world.queue.hidden_for == {job_id(1): 2})
    world.clock.now += 2
    eventually(lambda: world.status() == "SUCCEEDED")
    assert world.store.records[job_id(1)].attempt == 2


def test_a_handler_that_cannot_be_run_ends_the_worker_before_it_takes_a_job(world: World) -> None:
    class Broken(FakeSlot):
        async def start(self) -> None:
            raise StartError("handler has no function handle")

    world.queue.send(job_id(1))
    slot = Broken()
    world.start([slot]).join()
    assert isinstance(world.error, StartError)
    assert slot.closed
    assert world.queue.hidden_for == {job_id(1): 0}
    assert world.log.messages("error") == ["the handler cannot be run: handler has no function handle"]


class Recording:
    """Protection that notes when it was asked for."""

    def __init__(self, store: InMemoryStore) -> None:
        self._store = store
        self.claimed_before: list[bool] = []
        self.ended = False

    async def on(self) -> None:
        self.claimed_before.append(bool(self._store.records))

    async def tend(self, busy: bool) -> None:
        """Not called here."""

    async def off(self) -> None:
        self.ended = True


def test_the_task_is_protected_before_a_job_is_claimed_and_let_go_in_the_end(world: World) -> None:
    world.protection = Recording(world.store)
    world.queue.send(job_id(1))
    running = world.start([FakeSlot()])
    eventually(lambda: world.status() == "SUCCEEDED")
    running.end()
    assert world.protection.claimed_before == [False]
    assert world.protection.ended


def test_while_jobs_are_short_messages_are_fetched_ahead(world: World) -> None:
    held: list[int] = []

    async def look(_: Attempt) -> Outcome:
        held.append(sum(hidden > 0 for hidden in world.queue.hidden_for.values()))
        return Succeeded(json_text="1")

    for number in range(60):
        world.queue.send(job_id(number))
    world.start([FakeSlot(look)])
    eventually(lambda: world.queue.left == [])
    assert held[0] == 1  # nothing is known of the first one
    assert max(held) > 1
    assert all(record.attempt == 1 for record in world.store.records.values())


def test_what_was_claimed_ahead_goes_back_at_once_when_the_worker_stops(world: World) -> None:
    gate = Gate()

    def short_then_long(attempt: Attempt) -> Outcome:
        return Succeeded(json_text="1") if attempt.job_id < job_id(20) else gate(attempt)

    for number in range(10, 60):
        world.queue.send(job_id(number))
    running = world.start([FakeSlot(short_then_long)], stop_timeout=3600)
    eventually(lambda: gate.running and sum(r.status == "RUNNING" for r in world.store.records.values()) > 1)
    running.stop()
    # All but the one at work, which has an hour to end.
    eventually(lambda: sum(r.status == "RUNNING" for r in world.store.records.values()) == 1)
    eventually(lambda: sum(hidden > 0 for hidden in world.queue.hidden_for.values()) == 1)
    assert all(r.attempt == 0 for r in world.store.records.values() if r.status == "QUEUED")
    gate.open.set()
    world.join()
    assert world.store.records[job_id(20)].status == "SUCCEEDED"


def test_the_more_there_is_the_more_is_received_at_once(world: World) -> None:
    asked: list[int] = []

    class Counting(InMemoryQueue):
        receiving = 0

        async def receive(self, most: int, *, wait: bool = True) -> list[Message | PoisonError]:
            self.receiving += 1
            asked.append(self.receiving)
            try:
                await asyncio.sleep(0.001)
                return await super().receive(most, wait=wait)
            finally:
                self.receiving -= 1

    world.queue = Counting(world.clock)
    for number in range(200):
        world.queue.send(job_id(number))
    world.start([FakeSlot() for _ in range(40)])
    eventually(lambda: world.queue.left == [])
    assert asked[0] == 1
    assert max(asked) > 2
    asked.clear()
    eventually(lambda: len(asked) > 5)
    assert max(asked[3:]) == 1  # of an empty queue, one asks


def test_with_no_slot_free_no_receive_lies_in_wait(world: World) -> None:
    """What arrives later, another worker may have a slot for."""
    gate = Gate()
    waits: list[tuple[bool, int]] = []

    class Watched(InMemoryQueue):
        async def receive(self, most: int, *, wait: bool = True) -> list[Message | PoisonError]:
            waits.append((wait, gate.running))
            return await super().receive(most, wait=wait)

    def short_then_long(attempt: Attempt) -> Outcome:
        return Succeeded(json_text="1") if attempt.job_id < job_id(39) else gate(attempt)

    world.queue = Watched(world.clock)
    for number in range(10, 40):
        world.queue.send(job_id(number))
    world.start([FakeSlot(short_then_long)])
    eventually(lambda: gate.running)
    gate.open.set()
    eventually(lambda: world.queue.left == [])
    assert (True, 1) not in waits
    assert {wait for wait, _ in waits} == {True, False}


def test_a_job_that_is_long_at_work_is_expected_to_stay_there() -> None:
    async def scenario() -> list[int]:
        clock = Clock()
        slots = [FakeSlot(), FakeSlot()]
        pool = SlotPool(slots, clock=clock)
        for _ in range(2):
            pool.give(await taken(pool), 0.01)
        found = [pool.ahead]
        for _ in slots:
            await taken(pool)
            found.append(pool.ahead)
            clock.now += 5
            found.append(pool.ahead)
        return found

    async def taken(pool: SlotPool) -> Slot:
        slot = await pool.take(Control())
        assert slot is not None
        return slot

    assert asyncio.run(scenario()) == [20, 20, 10, 10, 0]
