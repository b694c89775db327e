"""Stacks that come and go on the embedded engine, from outside."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from projects import HANDLER, Stack, eventually, make_stack, until_line

pytest.importorskip("ministack", reason="the `local` extra is not installed")


def test_a_second_up_changes_nothing_and_says_so(stack: Stack):
    done = stack.run("up", "--local")
    assert "nothing changed" in done.stderr
    assert stack.json("up")["changed"] == []
    assert all(line.startswith("keep") for line in stack.run("up", "--dry-run").stdout.splitlines())


def test_a_new_handler_is_rolled_out(stack: Stack):
    handler = stack.directory / "handler.py"
    handler.write_text(HANDLER.replace('"attempt": job.attempt', '"attempt": job.attempt, "version": 2'))
    changed = set(stack.json("up")["changed"])
    assert changed == {"image", "task-definition", "service"}

    def newest() -> bool:
        return json.loads(stack.run("submit", stack.file("x"), "--wait").stdout).get("version") == 2

    eventually(newest, "the new handler")


# A second stack on the same engine: the next tests use it in their order.


@pytest.fixture(scope="module")
def raced(stack: Stack) -> Iterator[tuple[Stack, list[Any]]]:
    """The second stack, and the answers of the two `up`s at once that made it."""
    other = make_stack(stack.directory.parent / "other", stack.state, "other")
    runs = [other.start("up", "--local", "--json") for _ in range(2)]
    said = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    yield other, [json.loads(out) for out, _ in said]
    other.run("down", "--yes")


def test_two_ups_at_once_make_one_stack(raced: tuple[Stack, list[Any]]):
    _, ups = raced
    assert len({up["apiUrl"] for up in ups}) == 1
    assert sorted(bool(up["changed"]) for up in ups) == [False, True]


def test_two_stacks_on_one_machine_do_not_see_each_other(stack: Stack, raced: tuple[Stack, list[Any]]):
    other, _ = raced
    job_id = other.submit("x")
    other.run("status", job_id, "--follow")
    mine, theirs = stack.json("info", "--show-key"), other.json("info", "--show-key")
    for key in ("apiUrl", "apiKey", "queueUrl", "table", "bucket", "cluster", "logGroup"):
        assert mine[key] != theirs[key]
    assert stack.json("status", job_id)["status"] == "QUEUED"  # a fresh id that this stack has never seen
    foreign = urllib3.request(
        "GET", f"{theirs['apiUrl']}/jobs/{job_id}", headers={"x-api-key": mine["apiKey"]}, retries=False
    )
    assert foreign.status == 403


def test_down_keeps_the_data_if_asked_and_up_takes_it_back(raced: tuple[Stack, list[Any]]):
    other, _ = raced
    job = other.submit("hello")
    other.run("status", job, "--follow")
    down = other.json("down", "--yes", "--keep-data")
    assert down["kept"] == ["table", "bucket"]
    assert "table" not in down["deleted"]
    assert "queue" in down["deleted"]
    assert {"table", "bucket"}.isdisjoint(other.json("up", "--local")["changed"])
    assert other.json("status", job)["status"] == "SUCCEEDED"


def test_a_stack_that_goes_leaves_nothing_and_takes_nothing_of_another(stack: Stack, raced: tuple[Stack, list[Any]]):
    other, _ = raced
    down = other.json("down", "--yes")
    assert set(down["deleted"]) >= {"table", "bucket", "queue"}
    assert down["left"] == []
    assert "nothing to take down" in other.run("down").stderr
    stack.run("status", stack.submit("still here"), "--follow")


def test_an_up_that_failed_can_be_taken_down(stack: Stack):
    broken = make_stack(stack.directory.parent / "broken", stack.state, "broken")
    # A Python that ends before it imports anything: on no machine does it live until a rollout counts as done. What a
    # worker says of a handler that cannot be imported is tested with the worker.
    with (broken.directory / "asyncjobs.toml").open("a") as file:
        file.write('[worker.env]\nPYTHONHOME = "/there-is-no-such-python"\n')
    failed = broken.run("up", "--local", check=1)
    assert "tasks do not start" in failed.stderr
    assert "exit code 1" in failed.stderr, failed.stderr
    assert "| Fatal Python error" in failed.stderr, failed.stderr

    def said() -> bool:
        return "Fatal Python error" in broken.run("logs").stdout

    eventually(said, "the reason in the logs")
    again = broken.run("up", "--local", check=1)
    assert "tasks do not start" in again.stderr
    assert "nothing is left" in broken.run("down").stderr


def test_ctrl_c_finishes_what_runs_says_where_it_stopped_and_up_goes_on(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "interrupted")
    up = other.start("up", "--local")
    until_line(up, "tasks are starting")
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=30)
    assert up.returncode == 130
    assert "`up` was interrupted." in said
    assert "There now: " in said
    assert "asyncjobs up" in said
    assert "Traceback" not in said
    plan = other.json("up", "--local", "--dry-run")["plan"]
    assert {step["step"]: step["action"] for step in plan}["table"] == "keep"
    again = other.run("up", "--local", "--json")
    assert "api" not in json.loads(again.stdout)["changed"]
    assert "another `up`" not in again.stderr
    other.run("down", "--yes")


def test_ctrl_c_twice_ends_at_once(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "twice")
    up = other.start("up", "--local")
    until_line(up, "tasks are starting")
    os.kill(up.pid, signal.SIGINT)
    os.kill(up.pid, signal.SIGINT)
    up.communicate(timeout=30)
    assert up.returncode == 130
    other.run("down", "--yes")


def test_up_gives_up_at_its_timeout_with_7(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "slow")
    done = other.run("up", "--local", "--timeout", "3", "--json", check=7)
    error = json.loads(done.stderr.splitlines()[-1])
    # How far it came in 3 s depends on the machine; a rollout alone takes as long.
    assert "service" not in error.get("done", [])
    other.run("down", "--yes")


def test_up_says_what_took_so_long(stack: Stack):
    up = stack.came_up
    assert up["criticalPath"][-1] in ("scaling", "service", "api-key")
    starts = {step["step"]: step["start"] for step in up["steps"]}
    ends = {step["step"]: step["end"] for step in up["steps"]}
    for before, after in zip(up["criticalPath"], up["criticalPath"][1:], strict=False):
        assert ends[before] <= starts[after]
    assert up["seconds"] == max(ends.values())
