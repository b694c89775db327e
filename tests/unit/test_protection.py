from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from asyncjobs.testing import Clock, Lines
from asyncjobs.worker.protection import IDLE_SECONDS, MINUTES, PAUSE_SECONDS, AgentProtection, agent_put


class Agent:
    """Takes what it is told, unless it is to fail."""

    def __init__(self) -> None:
        self.told: list[tuple[bool, int]] = []
        self.fails = False

    async def put(self, enabled: bool, minutes: int) -> None:
        if self.fails:
            raise OSError("no agent")
        self.told.append((enabled, minutes))


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.log = Lines()
        self.agent = Agent()
        self.protection = AgentProtection(self.agent.put, self.log, clock=self.clock)

    def on(self) -> None:
        asyncio.run(self.protection.on())

    def tend(self, busy: bool, seconds: float) -> None:
        self.clock.now += seconds
        asyncio.run(self.protection.tend(busy))


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_on_before_work_and_told_once(world: World) -> None:
    world.on()
    world.on()
    assert world.agent.told == [(True, MINUTES)]


def test_many_at_once_tell_the_agent_once(world: World) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(world.protection.on() for _ in range(10)))

    asyncio.run(all_at_once())
    assert world.agent.told == [(True, MINUTES)]


def test_it_is_renewed_for_as_long_as_there_is_work(world: World) -> None:
    world.on()
    for _ in range(100):
        world.tend(True, 60)
    assert len(world.agent.told) == 4  # each half of what it lasts
    assert all(enabled for enabled, _ in world.agent.told)


def test_it_is_let_go_when_there_has_been_no_work_for_a_while(world: World) -> None:
    world.on()
    world.tend(False, IDLE_SECONDS - 1)
    assert len(world.agent.told) == 1
    world.tend(False, 1)
    world.tend(False, 60)
    assert world.agent.told == [(True, MINUTES), (False, MINUTES)]
    world.on()
    assert world.agent.told[-1] == (True, MINUTES)


def test_an_agent_that_fails_is_asked_again_later_and_stops_no_work(world: World) -> None:
    world.agent.fails = True
    world.on()
    world.on()
    assert world.log.messages() == ["scale-in protection could not be turned on: no agent"]
    world.agent.fails = False
    world.clock.now += PAUSE_SECONDS
    world.on()
    assert world.agent.told == [(True, MINUTES)]


def test_it_is_off_in_the_end(world: World) -> None:
    asyncio.run(world.protection.off())
    assert world.agent.told == []
    world.on()
    asyncio.run(world.protection.off())
    assert world.agent.told[-1] == (False, MINUTES)


class EcsAgent(BaseHTTPRequestHandler):
    requests: list[tuple[str, Any]] = []  # noqa: RUF012
    answer: dict[str, Any] = {}  # noqa: RUF012

    def do_PUT(self) -> None:
        self.requests.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        body = json.dumps(self.answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def agent_uri() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), EcsAgent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/1"
        server.shutdown()
        thread.join()


def test_what_the_agent_is_asked(agent_uri: str) -> None:
    EcsAgent.requests.clear()
    EcsAgent.answer = {"protection": {"ProtectionEnabled": True}}
    put = agent_put(agent_uri)

    async def both() -> None:
        await put(True, 60)
        await put(False, 60)

    asyncio.run(both())
    path = "/api/1/task-protection/v1/state"
    assert EcsAgent.requests == [
        (path, {"ProtectionEnabled": True, "ExpiresInMinutes": 60}),
        (path, {"ProtectionEnabled": False}),
    ]
    # A refusal comes with status 200 too.
    EcsAgent.answer = {"failure": {"Reason": "DEPLOYMENT_BLOCKED"}}
    with pytest.raises(ValueError, match="DEPLOYMENT_BLOCKED"):
        asyncio.run(agent_put(agent_uri)(True, 60))
