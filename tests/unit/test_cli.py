"""The command line from outside: a program with arguments, an environment, two streams and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncjobs.cli import hoist
from asyncjobs.commands.logs import parse_since, readable
from asyncjobs.commands.submit import guess_type
from asyncjobs.console.jobs import change, summary
from asyncjobs.errors import UsageError


def run(tmp_path: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    base = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
    return subprocess.run(
        [sys.executable, "-m", "asyncjobs", *args],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
        env={
            **base,
            "HOME": str(tmp_path),
            "ASYNCJOBS_STATE_DIR": str(tmp_path / "state"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            **env,
        },
    )


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["up", "--stack", "x", "--local"], ["--stack", "x", "up", "--local"]),
        (["status", "ID", "--json"], ["--json", "status", "ID"]),
        (["--region=eu-west-1", "info", "-q"], ["--region=eu-west-1", "-q", "info"]),
        (["submit", "--", "--json"], ["submit", "--", "--json"]),
        (["up", "--stack"], ["--stack", "up"]),
        ([], []),
    ],
)
def test_the_options_of_every_command_are_taken_after_it_too(given: list[str], parsed: list[str]):
    assert hoist(given) == parsed


@pytest.mark.parametrize(
    "command",
    [
        ["up"],
        ["status", "1795434536980-a"],
        ["cancel", "1795434536980-a"],
        ["retry", "1795434536980-a"],
        ["info"],
        ["down"],
        ["submit", "none.txt"],
    ],
)
def test_without_credentials_a_command_ends_with_4_and_names_both_ways_on(tmp_path: Path, command: list[str]):
    (tmp_path / "none.txt").write_text("text")
    done = run(tmp_path, *command)
    assert done.returncode == 4, done.stderr
    assert "asyncjobs up --local" in done.stderr
    assert "aws configure" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nonsense"], 2, "nonsense"),
        (["up", "--nonsense"], 2, "--nonsense"),
        (["submit"], 2, "FILE"),
        (["submit", "missing.txt"], 2, "missing.txt cannot be read"),
        (["submit", ".", "--id", "1795434536980-a"], 2, "cannot be read"),
        (["submit", "asyncjobs.toml", "--id", "x"], 2, "no job id"),
        (["logs", "--since", "soon"], 2, "no length of time"),
        (["logs", "nonsense"], 2, "no job id"),
        (["up", "--target", "moon"], 2, "moon"),
        (["up", "--local", "--target", "aws"], 2, "contradict"),
        (["submit", "-", "-"], 2, "can be submitted once"),
        (["submit", "full.txt", "empty.txt"], 2, "empty.txt: nothing in it"),
        (["submit", "full.txt", "--content-type", "text/plain\r\nx: y"], 2, "no content type"),
        (["submit", "full.txt", "--content-type", "text/plain ☃"], 2, "no content type"),
        (["up", "--stack", "proj-dlq"], 3, "-dlq"),
        (["up", "--stack", "Bad Name"], 3, "lower-case letters"),
        (["up", "--local"], 3, "asyncjobs init"),
        (["down", "--local"], 0, "nothing to take down"),
    ],
)
def test_a_users_mistakes_have_their_exit_code_and_no_traceback(tmp_path: Path, args: list[str], code: int, said: str):
    (tmp_path / "full.txt").write_text("text")
    (tmp_path / "empty.txt").touch()
    done = run(tmp_path, *args)
    assert said in done.stderr, done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_configuration_with_mistakes_starts_nothing(tmp_path: Path):
    (tmp_path / "asyncjobs.toml").write_text('[worker]\nhandler = "handler:handle"\ncpu = 1\nmemroy = 5\n')
    done = run(tmp_path, "up", "--local")
    assert done.returncode == 3
    assert "memroy" in done.stderr
    assert "cpu = 1" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_wrong_name_does_not_hide_the_other_mistakes(tmp_path: Path):
    (tmp_path / "asyncjobs.toml").write_text('[stack]\nname = "Bad Name"\n[worker]\nmemroy = 5\n')
    done = run(tmp_path, "up", "--local")
    assert done.returncode == 3
    assert "Bad Name" in done.stderr
    assert "memroy" in done.stderr


def test_a_broken_file_is_not_in_the_way_of_a_stack_that_is_named(tmp_path: Path):
    (tmp_path / "asyncjobs.toml").write_text("[stack")
    assert "not valid TOML" in run(tmp_path, "down", "--local").stderr
    assert run(tmp_path, "down", "--local", "--stack", "named").returncode == 0


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"ASYNCJOBS_API_URL": "http://[bad"}, "no URL of an API"),
        ({"ASYNCJOBS_API_URL": "http://"}, "no URL of an API"),
        ({"ASYNCJOBS_API_URL": "http://127.0.0.1:9/v1", "ASYNCJOBS_API_KEY": "kä☃"}, "API key"),
        ({"ASYNCJOBS_API_URL": "http://127.0.0.1:9/v1", "ASYNCJOBS_API_KEY": "a\nb"}, "API key"),
    ],
)
def test_variables_that_make_no_sense(tmp_path: Path, env: dict[str, str], said: str):
    done = run(tmp_path, "status", "1795434536980-a", **env)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_damaged_memory_is_no_memory(tmp_path: Path):
    file = tmp_path / "state" / "stacks" / "default.json"
    file.parent.mkdir(parents=True)
    for damaged in ("{", "[]", '{"target": "local", "region": "x", "api_url": 5, "api_key": null}'):
        file.write_text(damaged)
        assert run(tmp_path, "status", "1795434536980-a").returncode == 4


def test_a_state_folder_that_cannot_be_used_is_named(tmp_path: Path):
    done = run(tmp_path, "down", "--local", ASYNCJOBS_STATE_DIR="/dev/null/x")
    assert done.returncode in (0, 3)
    (tmp_path / "asyncjobs.toml").write_text('[worker]\ncommand = ["cat"]\n')
    done = run(tmp_path, "up", "--local", ASYNCJOBS_STATE_DIR="/dev/null/x")
    assert done.returncode == 3, done.stderr
    assert "ASYNCJOBS_STATE_DIR" in done.stderr


def test_what_a_handler_says_cannot_drive_the_terminal():
    job = {"jobId": "1-a", "status": "FAILED", "error": {"type": "E", "message": "\x1b[31mred\x07 é\u200d"}}
    for text in (summary(job), change(job), readable('{"message": "\\u001b[2J"}')):
        assert "\x1b" not in text
        assert "\\x1b[" in text
    assert "é\u200d" in summary(job)


def test_a_handler_that_is_not_there_is_named(tmp_path: Path):
    (tmp_path / "asyncjobs.toml").write_text('[worker]\nhandler = "wrong:handle"\n')
    done = run(tmp_path, "up", "--local")
    assert done.returncode == 3
    assert "wrong.py" in done.stderr


def test_errors_under_json_are_json_on_stderr(tmp_path: Path):
    done = run(tmp_path, "info", "--json")
    assert json.loads(done.stderr)["error"] == "CredentialsError"
    assert done.stdout == ""


def test_init_writes_a_project_once(tmp_path: Path):
    done = run(tmp_path, "init", "text-analysis")
    assert done.returncode == 0, done.stderr
    assert "text-analysis/handler.py" in done.stdout
    again = run(tmp_path, "init", "text-analysis")
    assert again.returncode == 2
    assert "handler.py" in again.stderr


def test_version_and_help(tmp_path: Path):
    assert run(tmp_path, "--version").stdout.startswith("asyncjobs 0.")
    for command in ("init", "up", "submit", "status", "result", "logs", "info", "down", "demo"):
        text = run(tmp_path, command, "--help").stdout
        assert f"asyncjobs {command}" in text
        assert "Example:" in text


@pytest.mark.parametrize(
    ("name", "payload", "kind"),
    [
        ("a.txt", b"text", "text/plain"),
        ("a.csv", b"a,b", "text/csv"),
        ("a.json", b"{}", "application/json"),
        ("a.pdf", b"%PDF", "application/pdf"),
        ("-", b"text", "text/plain"),
        ("noext", b"text", "text/plain"),
        ("a.py", b"print()", "text/plain"),
        ("a.txt", b"\xff\xfe", "application/octet-stream"),
        ("a.txt", b"nul\x00", "application/octet-stream"),
        ("a.txt", "\ufffd".encode(), "application/octet-stream"),
        ("a.mp4", b"\x00", "application/octet-stream"),
        ("long.txt", b"x" * 1024 * 1024 + b"\xff", "application/octet-stream"),
        ("long.txt", b"x" * (1024 * 1024 - 1) + "é".encode(), "text/plain"),
    ],
)
def test_the_type_follows_the_name_but_text_must_be_text(tmp_path: Path, name: str, payload: bytes, kind: str):
    file = tmp_path / "payload"
    file.write_bytes(payload)
    assert guess_type(name, file) == kind


def test_lengths_of_time():
    assert [parse_since(text) for text in ("90s", "10m", "2h", "1d")] == [90, 600, 7200, 86400]
    with pytest.raises(UsageError):
        parse_since("1w")


def test_log_lines_are_readable_and_foreign_ones_are_left_alone():
    line = '{"time": "T", "level": "info", "message": "hello", "jobId": "1-a"}'
    assert readable(line) == "T  info  1-a  hello"
    assert readable("plain [text]\n") == "plain [text]"
    assert readable('"json, but no object"') == '"json, but no object"'


def test_metrics_are_no_line_for_a_person():
    assert readable('{"time": "T", "level": "info", "message": "metrics", "_aws": {"Timestamp": 1}}') is None
