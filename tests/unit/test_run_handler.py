"""`asyncjobs run-handler` from outside: a project, a file, two streams and an exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from asyncjobs.commands.run_handler import ProgressLines
from asyncjobs.console.output import Output

HANDLER = r"""
import os, time
from asyncjobs.worker import Reject

def handle(job):
    text = job.bytes.decode("utf-8", "replace")
    job.progress(0.5, "half")
    print("printed", os.environ.get("MODE"), flush=True)
    if text == "reject":
        raise Reject("not this one")
    if text == "fail":
        raise ValueError("no good")
    if text == "crash":
        os._exit(3)
    if text == "sleep":
        print("asleep", os.getpid(), flush=True)
        time.sleep(60)
    if text == "bytes":
        return b"\x00\xff"
    if text == "long":
        return "x" * 2_000_000
    if text == "long bytes":
        return bytes(2_000_000)
    if text == "file":
        path = job.directory / "out.bin"
        path.write_bytes(b"\x00\xff")
        return path
    return {"type": job.content_type, "text": text, "attempt": job.attempt, "of": job.max_attempts}
"""
COMMAND = 'command = ["sh", "-c", "read word; echo noted >&2; case $word in bad) exit 65;; esac; echo \\"$word!\\""]'


class Project:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "handler.py").write_text(HANDLER, encoding="utf-8")
        self.configure()

    def configure(self, what: str = 'handler = "handler:handle"', **more: str) -> None:
        lines = ["[worker]", what, *(f"{key} = {value}" for key, value in more.items())]
        (self.directory / "asyncjobs.toml").write_text("\n".join(lines), encoding="utf-8")

    def start(self, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
        env |= {"ASYNCJOBS_STATE_DIR": str(self.directory / "state")}
        return subprocess.Popen(
            [sys.executable, "-m", "asyncjobs", "run-handler", *arguments],
            cwd=self.directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **settings,
        )

    def run(self, text: str | bytes, *arguments: str, code: int = 0) -> tuple[bytes, str]:
        data = text.encode() if isinstance(text, str) else text
        (self.directory / "in.txt").write_bytes(data)
        process = self.start("in.txt", *arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err.decode()
        return out, err.decode()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_the_result_is_data_and_all_else_is_talk(project: Project, isolation: str) -> None:
    project.configure(isolation=f'"{isolation}"', env='{MODE = "dry"}', max_attempts="5")
    out, err = project.run("some text")
    assert json.loads(out) == {"type": "text/plain", "text": "some text", "attempt": 1, "of": 5}
    assert "50 %  half\n" in err
    assert "printed dry\n" in err


def test_standard_input_and_a_content_type(project: Project) -> None:
    process = project.start("-", "--content-type", "text/csv", "--json")
    out, _ = process.communicate(b"a,b", timeout=60)
    document = json.loads(out)
    assert document["result"] == {"type": "text/csv", "text": "a,b", "attempt": 1, "of": 3}
    assert (document["status"], document["attempt"], document["maxAttempts"]) == ("SUCCEEDED", 1, 3)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_bytes_are_printed_as_they_are_or_written(project: Project, kind: str) -> None:
    assert project.run(kind)[0] == b"\x00\xff"
    out, err = project.run(kind, "-o", "result.bin")
    assert (out, (project.directory / "result.bin").read_bytes()) == (b"", b"\x00\xff")
    assert "Written to result.bin" in err
    document = json.loads(project.run(kind, "-o", "result.bin", "--json")[0])
    assert (document["file"], document["size"], document["contentType"]) == (
        "result.bin",
        2,
        "application/octet-stream",
    )
    assert "result" not in document


@pytest.mark.parametrize(
    ("text", "said", "again"),
    [
        ("reject", "Rejected: not this one", False),
        ("fail", "ValueError: no good", True),
        ("crash", "Crashed (exit 3)", True),
        ("sleep", "Timeout: the handler ran longer than 2 s", True),
    ],
)
def test_a_failure_is_exit_code_6_and_says_what_a_worker_would_do(
    project: Project, text: str, said: str, again: bool
) -> None:
    project.configure(timeout="2")
    out, err = project.run(text, code=6)
    assert (out, said in err) == (b"", True), err
    assert ("would try it again, 3 times in all" in err) is again
    assert ("Traceback" in err) is (text == "fail")


def test_a_failure_as_json(project: Project) -> None:
    out, err = project.run("fail", "--json", "--quiet", code=6)
    assert json.loads(out)["error"] == {"type": "ValueError", "message": "no good"}
    assert json.loads(err)["error"] == "JobFailedError"


def test_a_command(project: Project) -> None:
    project.configure(COMMAND)
    out, err = project.run("word\n")
    assert (json.loads(out), "noted" in err) == ("word!\n", True)
    assert "Rejected: noted" in project.run("bad\n", code=6)[1]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ('handler = "nowhere:handle"', "there is no"),
        ('handler = "handler:nothing"', "has no function nothing"),
        ('command = ["no-such-program"]', "there is no program no-such-program"),
        ("", "names nothing to run"),
    ],
)
def test_what_cannot_be_run_is_exit_code_3(project: Project, what: str, said: str) -> None:
    project.configure(what)
    assert said in project.run("x", code=3)[1]


def test_a_result_that_has_no_place_is_said_before_anything_runs(project: Project) -> None:
    err = project.run("x", "-o", "nowhere/result", code=2)[1]
    assert "nowhere" in err
    assert "printed" not in err


def test_ctrl_c_ends_the_handler_too(project: Project) -> None:
    (project.directory / "in.txt").write_text("sleep", encoding="utf-8")
    process = project.start("in.txt")
    assert process.stderr is not None
    line = next(line for line in iter(process.stderr.readline, b"") if line.startswith(b"asleep"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not psutil.pid_exists(int(line.split()[1]))


def test_progress_is_shown_twice_a_second_and_the_last_of_it_always() -> None:
    now, err = [100.0], io.StringIO()
    lines = ProgressLines(Output(stderr=err), clock=lambda: now[0])
    for step in range(10):
        lines(step / 10, "step\x1b[0m")
        now[0] += 0.125
    lines.end()
    lines.end()
    assert err.getvalue().splitlines() == [f"{percent} %  step\\x1b[0m" for percent in (0, 40, 80, 90)]


def test_a_big_payload_and_a_big_result_are_like_any_other(project: Project):
    out, _ = project.run("x" * 2_000_000, "--json")
    assert json.loads(out)["result"]["text"] == "x" * 2_000_000
    out, _ = project.run("long", "--json")
    document = json.loads(out)
    assert (document["result"], document["contentType"]) == ("x" * 2_000_000, "application/json")
    assert project.run("long bytes")[0] == bytes(2_000_000)
