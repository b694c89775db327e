from __future__ import annotations

import pytest

from asyncjobs.worker.settings import Settings, SettingsError

ENV = {
    "ASYNCJOBS_QUEUE_URL": "https://sqs/queue",
    "ASYNCJOBS_TABLE": "table",
    "ASYNCJOBS_BUCKET": "bucket",
    "ASYNCJOBS_HANDLER": "handler:handle",
}


def mistakes(**env: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.of({**ENV, **env})
    return str(caught.value).splitlines()


def test_defaults() -> None:
    settings = Settings.of(ENV)
    assert settings == Settings(
        queue_url="https://sqs/queue",
        table="table",
        bucket="bucket",
        handler="handler:handle",
        command=(),
        concurrency=1,
        isolation="process",
        timeout=3600,
        max_attempts=3,
        result_days=30,
        lease=30,
        stop_timeout=110,
        dead_letter_queue_url="",
        client="lean",
        health_port=0,
    )


def test_a_command_is_a_json_list() -> None:
    settings = Settings.of({**ENV, "ASYNCJOBS_HANDLER": "", "ASYNCJOBS_COMMAND": '["./run", "-v", "a b"]'})
    assert settings.command == ("./run", "-v", "a b")
    assert settings.handler == ""


@pytest.mark.parametrize("command", ["./run -v", "[]", '"./run"', "[1]", '{"a": 1}'])
def test_a_command_that_is_none(command: str) -> None:
    assert any("ASYNCJOBS_COMMAND" in line for line in mistakes(ASYNCJOBS_HANDLER="", ASYNCJOBS_COMMAND=command))


def test_either_a_handler_or_a_command() -> None:
    assert mistakes(ASYNCJOBS_HANDLER="") == ["set either ASYNCJOBS_HANDLER or ASYNCJOBS_COMMAND"]
    assert mistakes(ASYNCJOBS_COMMAND='["x"]') == ["set either ASYNCJOBS_HANDLER or ASYNCJOBS_COMMAND"]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
@pytest.mark.parametrize(
    "name",
    [
        "ASYNCJOBS_CONCURRENCY",
        "ASYNCJOBS_TIMEOUT",
        "ASYNCJOBS_MAX_ATTEMPTS",
        "ASYNCJOBS_RESULT_DAYS",
        "ASYNCJOBS_LEASE_SECONDS",
        "ASYNCJOBS_STOP_TIMEOUT",
    ],
)
def test_numbers_are_whole_and_positive(name: str, value: str) -> None:
    assert mistakes(**{name: value}) == [f"{name}={value!r}: allowed: a whole number from 1"]


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.of({"ASYNCJOBS_HANDLER": "handler.handle", "ASYNCJOBS_ISOLATION": "vm", "ASYNCJOBS_TIMEOUT": "x"})
    text = str(caught.value)
    for name in ("HANDLER", "ISOLATION", "TIMEOUT", "QUEUE_URL", "TABLE", "BUCKET"):
        assert f"ASYNCJOBS_{name}" in text
