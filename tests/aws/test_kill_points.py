"""A worker killed before or after each call it makes: its job still ends once.

A proxy in front of the services sends SIGKILL at the call that is meant. `make chaos` tries every point many times,
`make test` the most telling ones once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from test_worker_process import Cloud, WorkerProcess, endpoint, eventually

__all__ = ["endpoint"]  # the fixture

HANDLER = """
def handle(job):
    job.progress(0.5, "half")
    import time
    time.sleep(0.8)  # a progress write comes in between
    return b"result of attempt %d" % job.attempt
"""


def operation(request: web.Request, body: bytes) -> str:
    """What a call is for the job: "claim" and the like."""
    target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
    if target == "UpdateItem":
        return next(name for mark, name in MARKS if mark in body)
    if not target:
        return "store" if request.method == "PUT" and b"/results/" in request.path.encode() else ""
    return {"ReceiveMessage": "receive", "DeleteMessageBatch": "delete"}.get(target, target)


MARKS = (
    (b"attribute_not_exists(#jobId)", "claim"),
    (b'{"S":"SUCCEEDED"}', "finish"),
    (b"#progress = ", "progress"),
    (b"", "other"),
)
POINTS = [
    (name, when)
    for name in ("receive", "claim", "progress", "store", "finish", "delete")
    for when in ("before", "after")
]
TELLING = [("claim", "after"), ("store", "after"), ("finish", "after")]
TIMES = int(os.environ.get("KILL_TIMES", "0"))
CASES = [(*point, number) for point in POINTS for number in range(TIMES)] or [(*point, 0) for point in TELLING]


class Proxy:
    """Forwards every call, and kills a process before or after the one that is meant."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.point = ("", "")
        self.kill: Callable[[], None] = lambda: None
        self.killed = threading.Event()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _start(self) -> None:
        application = web.Application(client_max_size=10_000_000)
        application.router.add_route("*", "/{path:.*}", self._forward)
        self._http = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._http.close()
        await self._runner.cleanup()

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        meant = operation(request, body) == self.point[0] and not self.killed.is_set()
        if meant and self.point[1] == "before":
            self._strike()
            return web.Response(status=500)
        url = self._upstream + request.path_qs
        async with self._http.request(request.method, url, headers=request.headers, data=body) as answer:
            content = await answer.read()
            headers = {name: answer.headers[name] for name in ("Content-Type", "ETag") if name in answer.headers}
        if meant and not (self.point[0] == "receive" and b"Messages" not in content):
            self._strike()
        return web.Response(status=answer.status, headers=headers, body=content)

    def _strike(self) -> None:
        self.killed.set()
        self.kill()


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    yield proxy
    proxy.close()


@pytest.mark.parametrize(("what", "when", "number"), CASES)
def test_a_job_whose_worker_is_killed_there_ends_once(
    endpoint: str, proxy: Proxy, tmp_path: Path, what: str, when: str, number: int
) -> None:
    (tmp_path / "handler.py").write_text(HANDLER)
    cloud = Cloud(endpoint, f"kill-{what}-{when}-{number}")
    first = WorkerProcess(cloud, tmp_path, tmp_path / "first.log", AWS_ENDPOINT_URL=proxy.url)
    second: WorkerProcess | None = None
    try:
        proxy.kill = lambda: os.kill(first.process.pid, signal.SIGKILL)
        proxy.point = (what, when)
        job_id = cloud.submit("a")
        assert proxy.killed.wait(30)
        assert first.process.wait(30) == -signal.SIGKILL
        before = cloud.job(job_id)
        second = WorkerProcess(cloud, tmp_path, tmp_path / "second.log")
        job = cloud.wait_for(job_id, "SUCCEEDED")
        eventually(lambda: cloud.messages() == 0)
        check(cloud, what, when, before, job)
    finally:
        for worker in filter(None, (first, second)):
            worker.end()
        cloud.close()


def check(cloud: Cloud, what: str, when: str, before: dict[str, Any], job: dict[str, Any]) -> None:
    """The end is that of one attempt; what had ended has not changed."""
    assert cloud.object(**job["resultLocation"]) == f"result of attempt {job['attempt']}".encode()
    if before.get("status") == "SUCCEEDED":
        assert job == before
    ran = (what, when) in {("claim", "after"), ("progress", "before"), ("progress", "after"), ("finish", "before")}
    if ran or what == "store":
        assert job["attempt"] == 2
    else:
        assert job["attempt"] == 1
