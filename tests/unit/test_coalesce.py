from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from asyncjobs.jobs import coalesce
from asyncjobs.jobs.coalesce import Coalescer


class Sender:
    """Answers each number with its double, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        return [ValueError(item) if item < 0 else 2 * item for item in items]


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_what_is_wanted_at_once_shares_a_call() -> None:
    async def work() -> None:
        sender = Sender()
        double: Coalescer[int, int] = Coalescer(sender, most=4)
        assert await asyncio.gather(*(double(number) for number in range(10))) == [2 * number for number in range(10)]
        assert sender.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    run(work())


def test_alone_it_does_not_wait() -> None:
    async def work() -> None:
        sender = Sender()
        double: Coalescer[int, int] = Coalescer(sender, most=4)
        assert await double(1) == 2
        assert await double(2) == 4
        assert sender.batches == [[1], [2]]

    run(work())


def test_while_calls_are_under_way_the_rest_collects_and_a_full_batch_goes_out() -> None:
    async def work() -> None:
        sender = Sender()
        sender.gate.clear()
        double: Coalescer[int, int] = Coalescer(sender, most=3)
        tasks = []
        for number in range(7):
            tasks.append(asyncio.ensure_future(double(number)))
            for _ in range(5):
                await asyncio.sleep(0)
        # Two that are not full are under way, so the others waited until they were three.
        assert sender.batches == [[0], [1], [2, 3, 4]]
        sender.gate.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
        assert sender.batches[3:] == [[5, 6]]

    run(work())


def test_each_gets_its_own_error() -> None:
    async def work() -> None:
        double: Coalescer[int, int] = Coalescer(Sender(), most=4)
        good, bad = await asyncio.gather(double(1), double(-1), return_exceptions=True)
        assert good == 2
        assert isinstance(bad, ValueError)

    run(work())


def test_a_call_that_fails_fails_for_all_in_it_and_for_no_other() -> None:
    async def work() -> None:
        calls = 0

        async def send(items: Sequence[int]) -> list[int | Exception]:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise OSError("no route")
            return list(items)

        same: Coalescer[int, int] = Coalescer(send, most=4)
        first = await asyncio.gather(same(1), same(2), return_exceptions=True)
        assert [type(error) for error in first] == [OSError, OSError]
        assert await same(3) == 3

    run(work())


def test_one_who_leaves_costs_the_others_nothing() -> None:
    async def work() -> None:
        sender = Sender()
        sender.gate.clear()
        double: Coalescer[int, int] = Coalescer(sender, most=4)
        leaves, stays = asyncio.ensure_future(double(1)), asyncio.ensure_future(double(2))
        await asyncio.sleep(0.001)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        sender.gate.set()
        assert await stays == 4

    run(work())


def test_lingering_it_waits_for_company() -> None:
    async def work() -> None:
        sender = Sender()
        double: Coalescer[int, int] = Coalescer(sender, most=3, linger=0.02)
        first = asyncio.ensure_future(double(1))
        await asyncio.sleep(0.001)
        second = asyncio.ensure_future(double(2))
        assert await asyncio.gather(first, second) == [2, 4]
        assert sender.batches == [[1, 2]]

    run(work())


def test_calls_that_hang_keep_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalesce, "_SLOW_SECONDS", 0.01)

    async def work() -> None:
        hang = asyncio.Event()

        async def send(items: Sequence[int]) -> list[int | Exception]:
            if items[0] < 2:
                await hang.wait()
            return list(items)

        same: Coalescer[int, int] = Coalescer(send, most=3)
        stuck = []
        for number in range(2):
            stuck.append(asyncio.ensure_future(same(number)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert await asyncio.wait_for(same(2), 10) == 2
        hang.set()
        assert await asyncio.gather(*stuck) == [0, 1]

    run(work())
