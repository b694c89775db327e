from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from asyncjobs.worker import health


@contextmanager
def serving(is_well: Callable[[], bool]) -> Iterator[tuple[int, asyncio.AbstractEventLoop]]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(health.serve(0, is_well))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1], loop

    async def close() -> None:
        server.close()
        await server.wait_closed()
        for _ in range(3):  # what was answered just now is being closed
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)

    asyncio.run_coroutine_threadsafe(close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_worker_that_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: True) as (port, _):
        monkeypatch.setenv(health.PORT_VARIABLE, str(port))
        assert health.main() == 0


def test_a_worker_that_looks_after_nothing_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda: False) as (port, _):
        monkeypatch.setenv(health.PORT_VARIABLE, str(port))
        assert health.main() == 1


def test_a_loop_that_is_stuck_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_TIMEOUT", 0.1)
    stuck, go_on = threading.Event(), threading.Event()

    def block() -> None:
        stuck.set()
        go_on.wait(10)

    with serving(lambda: True) as (port, loop):
        monkeypatch.setenv(health.PORT_VARIABLE, str(port))
        loop.call_soon_threadsafe(block)
        assert stuck.wait(10)
        assert health.main() == 1
        go_on.set()
        monkeypatch.setattr(health, "_TIMEOUT", 10)
        assert health.main() == 0


@pytest.mark.parametrize("port", ["", "1"])
def test_no_worker_at_all(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv(health.PORT_VARIABLE, port)
    assert health.main() == 1
