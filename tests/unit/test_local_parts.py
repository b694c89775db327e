"""Small parts of the local engine, without an engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.errors import LocalEngineError
from asyncjobs.local.backoff import RestartBackoff
from asyncjobs.local.control import LocalEngine
from asyncjobs.local.guard import LoopbackOnly, is_foreign_site, is_loopback_host, respond
from asyncjobs.local.image import RunnableImage
from asyncjobs.local.ministack_app import stack_of_name
from asyncjobs.local.paths import import_paths
from asyncjobs.local.saver import StateSaver, may_change
from asyncjobs.local.tasks import LineSplitter, process_environment
from asyncjobs.local.watchdog import watch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_restarts_wait_longer_while_tasks_die_young() -> None:
    clock = Clock()
    backoff = RestartBackoff(clock)
    assert backoff.delay("s") == 0
    waits = []
    for failures in range(1, 9):
        assert backoff.died("s", lifetime=1.0) == failures
        waits.append(backoff.delay("s"))
        clock.now += waits[-1]
        assert backoff.delay("s") == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff.delay("other") == 0


def test_a_task_that_lived_long_or_a_new_deployment_starts_anew() -> None:
    backoff = RestartBackoff(Clock())
    backoff.died("s", lifetime=1.0)
    assert backoff.died("s", lifetime=60.0) == 0
    assert backoff.delay("s") == 0
    backoff.died("s", lifetime=1.0)
    backoff.forget("s")
    assert backoff.delay("s") == 0


def test_lines_arrive_whole_whatever_the_chunks() -> None:
    lines = LineSplitter()
    assert lines.feed(b"one\ntw") == ["one"]
    assert lines.feed(b"o\r\n\n   \nth\xff") == ["two"]
    assert lines.rest() == ["th\ufffd"]
    assert lines.rest() == []


def test_a_line_without_end_is_cut() -> None:
    lines = LineSplitter()
    assert [len(line) for line in lines.feed(b"x" * 300_000)] == [300_000]
    assert lines.feed(b"y\n") == ["y"]


def test_a_task_gets_nothing_of_the_hosts_environment_but_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the host")
    monkeypatch.setenv("PATH", "/host/bin")
    image = RunnableImage(Path("/app"), "/venv/bin", Path("/venv/bin/python"))
    environment = process_environment(image, {"A": "1", "LANG": "de_DE.UTF-8"}, Path("/tmp/home"))
    assert set(environment) <= {"A", "LANG", "HOME", "TMPDIR", "PATH", "PYTHONUNBUFFERED", "PYTHONPATH"}
    assert environment["PATH"] == "/venv/bin:/host/bin"
    assert environment["LANG"] == "de_DE.UTF-8"
    assert environment["HOME"] == environment["TMPDIR"] == "/tmp/home"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "LOCALHOST:1", "[::1]:5", "b.s3.localhost"])
def test_loopback_hosts(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "127.0.0.1@evil", "0.0.0.0", "127.1:1 x"]
)
def test_other_hosts(host: str) -> None:
    assert not is_loopback_host(host)


@pytest.mark.parametrize(
    ("own", "host", "status"),
    [
        ("172.18.0.1:4566", "172.18.0.1:4566", 200),
        ("172.18.0.1:4566", "127.0.0.1:4566", 200),
        ("172.18.0.1:4566", "172.18.0.1", 403),
        ("172.18.0.1:4566", "172.18.0.2:4566", 403),
        (None, "172.18.0.1:4566", 403),
        (None, "", 403),
    ],
)
def test_a_listener_answers_to_its_own_host_besides_loopback(own: str | None, host: str, status: int) -> None:
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await respond(send, 200, {})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads")

    guard = LoopbackOnly(app, allow_foreign_sites=False, host=own)
    asyncio.run(guard({"type": "http", "headers": [(b"host", host.encode())]}, receive, send))
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ([], False),
        ([(b"origin", b"http://127.0.0.1:8080")], False),
        ([(b"Origin", b"https://evil.example")], True),
        ([(b"origin", b"null")], True),
        ([(b"sec-fetch-site", b"cross-site")], True),
        ([(b"sec-fetch-site", b"same-site")], False),
    ],
)
def test_foreign_sites(headers: list[tuple[bytes, bytes]], foreign: bool) -> None:
    assert is_foreign_site({"headers": headers}) is foreign


@pytest.mark.parametrize(
    ("name", "stack"),
    [
        ("asyncjobs-demo", "demo"),
        ("asyncjobs-demo-dlq", "demo"),
        ("asyncjobs-my-stack-000000000000-eu-west-1", "my-stack"),
        ("asyncjobs-gov-000000000000-us-gov-west-1", "gov"),
        ("other-demo", None),
        ("asyncjobs-", None),
    ],
)
def test_the_stack_of_a_name(name: str, stack: str | None) -> None:
    assert stack_of_name(name) == stack


def test_what_the_watchdog_still_has_when_the_engine_is_gone() -> None:
    lines = ["add 1 10.5\n", "add 2 11\n", "containers e1\n", "del 1\n", "rubbish\n"]
    assert watch(lines) == ({2: 11.0}, "e1")
    assert watch([*lines, "containers \n"]) == ({2: 11.0}, "")


@pytest.mark.parametrize(
    ("method", "action", "changes"),
    [
        ("POST", "SendMessage", True),
        ("POST", "ReceiveMessage", False),
        ("POST", "DescribeTable", False),
        ("POST", "UpdateItem", True),
        ("GET", "", False),
        ("PUT", "", True),
    ],
)
def test_requests_that_may_change_state(method: str, action: str, changes: bool) -> None:
    assert may_change(method, action) is changes


class Emulator:
    """States that can fail to be copied."""

    def __init__(self) -> None:
        self.busy = False
        self.written: list[dict[str, Any]] = []

    def state_keys(self, service: str) -> set[str]:
        return {service}

    def snapshot(self, keys: Iterable[str]) -> dict[str, Any]:
        if self.busy:
            raise RuntimeError("dictionary changed size during iteration")
        return dict.fromkeys(sorted(keys), "state")

    def write(self, states: dict[str, Any]) -> None:
        self.written.append(states)


def test_dirty_states_are_saved_together_and_again_after_a_failed_copy() -> None:
    async def scenario() -> list[dict[str, Any]]:
        emulator = Emulator()
        saver = StateSaver(emulator)
        saver.touch("sqs")
        saver.touch("dynamodb")
        emulator.busy = True
        await saver.save()
        emulator.busy = False
        await saver.close()
        return emulator.written

    assert asyncio.run(scenario()) == [{"dynamodb": "state", "sqs": "state"}]


def test_control_imports_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path[:0] = {import_paths()!r}; import asyncjobs.local.control;"
        "print([name for name in ('boto3', 'botocore', 'ministack', 'pydantic', 'psutil', 'hypercorn', 'asyncio')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_an_engine_nothing_runs_and_stop_is_quiet(tmp_path: Path) -> None:
    from asyncjobs.progress import RecordingProgress

    progress = RecordingProgress()
    engine = LocalEngine(tmp_path / "never")
    assert engine.running() is None
    engine.stop(progress)
    assert progress.events == []
    with pytest.raises(LocalEngineError) as caught:
        engine.api_url("abc")
    assert "up --local" in caught.value.hint
    assert not (tmp_path / "never").exists()
