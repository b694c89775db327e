from __future__ import annotations

from pathlib import Path

import pytest

from asyncjobs.config import FARGATE_MEMORY, load
from asyncjobs.errors import ConfigError, ExitCode


def loaded(tmp_path: Path, text: str = "", env: dict[str, str] | None = None, **overrides: dict[str, object]):
    file = tmp_path / "asyncjobs.toml"
    file.write_text(text)
    return load(file, env=env or {}, overrides=overrides)


def mistakes(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, env)
    assert caught.value.exit_code == ExitCode.CONFIG
    return [line.strip() for line in caught.value.what.splitlines()[1:]]


def test_a_missing_file_is_the_defaults(tmp_path: Path):
    config = load(tmp_path / "none.toml", env={}, overrides={})
    assert config.stack.name == "default"
    assert config.api.auth == "api-key"
    assert (config.retention.result_days, config.retention.queue_days) == (30, 14)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path):
    text = '[stack]\nname = "file"\n[worker]\nconcurrency = 2\n'
    env = {"ASYNCJOBS_STACK_NAME": "env", "ASYNCJOBS_WORKER_CONCURRENCY": "3"}
    config = loaded(tmp_path, text, env, stack={"name": "flag", "region": None})
    assert config.stack.name == "flag"
    assert config.worker.concurrency == 3


def test_variables_take_the_type_of_their_key(tmp_path: Path):
    env = {
        "ASYNCJOBS_WORKER_COMMAND": '["./run", "-v"]',
        "ASYNCJOBS_API_RATE": "2.5",
        "ASYNCJOBS_NETWORK_ASSIGN_PUBLIC_IP": "false",
        "ASYNCJOBS_WORKER_DOCKERFILE": "1234",
    }
    config = loaded(tmp_path, env=env)
    assert config.worker.command == ["./run", "-v"]
    assert config.api.rate == 2.5
    assert config.network.assign_public_ip is False
    assert config.worker.dockerfile == "1234"


def test_all_mistakes_are_named_at_once_with_key_value_and_what_is_allowed(tmp_path: Path):
    text = """
    [stack]
    name = "Bad Name"
    colour = "red"
    [worker]
    cpu = 300
    concurrency = "2"
    isolation = "magic"
    env = {AWS_REGION = "x"}
    [scaling]
    min = 5
    max = 3
    [retention]
    result_days = 3
    log_days = 2
    [scalin]
    min = 1
    """
    found = mistakes(tmp_path, text)
    for expected in (
        "[stack] name = 'Bad Name': allowed: 1 to 24 characters",
        "[stack] colour: there is no such key; allowed: name, region, tags",
        "[worker] cpu = 300: allowed: one of 256, 512",
        "[worker] concurrency = '2': should be a valid integer",
        "[worker] isolation = 'magic': should be 'process' or 'thread'",
        "[worker] env: allowed: names other than",
        "[scaling] max = 3: allowed: at least `min`, which is 5",
        "[retention] queue_days = 14: allowed: at most `result_days`, which is 3",
        "[retention] log_days = 2: should be 1, 3, 5",
        "[scalin]: there is no such key; allowed: [stack], [worker]",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)
    assert len(found) == 10


@pytest.mark.parametrize("cpu", FARGATE_MEMORY)
def test_only_fargates_pairs_of_cpu_and_memory_are_taken(tmp_path: Path, cpu: int):
    for memory in (FARGATE_MEMORY[cpu][0], FARGATE_MEMORY[cpu][-1]):
        loaded(tmp_path, f"[worker]\ncpu = {cpu}\nmemory = {memory}\n")
    for memory in (FARGATE_MEMORY[cpu][0] - 1, FARGATE_MEMORY[cpu][-1] + 1024):
        assert mistakes(tmp_path, f"[worker]\ncpu = {cpu}\nmemory = {memory}\n")


def test_handler_and_command_exclude_each_other(tmp_path: Path):
    found = mistakes(tmp_path, '[worker]\nhandler = "handler:handle"\ncommand = ["./run"]\n')
    assert "either `handler` or `command`, not both" in found[0]


def test_a_broken_file_says_where(tmp_path: Path):
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        loaded(tmp_path, "[stack\n")
    assert "line 1" in caught.value.why


def test_text_that_is_not_utf8_is_a_configuration_error(tmp_path: Path):
    (tmp_path / "asyncjobs.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        load(tmp_path / "asyncjobs.toml", env={}, overrides={})
