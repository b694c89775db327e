"""What handlers in the worker's own process say, from outside: a program with the output installed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asyncjobs.worker.logs import Log

PROGRAM = """
import logging, sys
from asyncjobs.worker import thread_output
from asyncjobs.worker.logs import Log

thread_output.install(Log(sys.stdout))
thread_output.job_id.set("1795416232123-abc")
print("printed")
print("complained", file=sys.stderr)
logging.getLogger("theirs").warning("warned %d times", 2)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("theirs").exception("failed")
"""


def test_each_line_has_its_level_and_job_and_says_its_logger_once():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    assert {line["jobId"] for line in lines} == {"1795416232123-abc"}
    said = [(line["level"], line["message"]) for line in lines]
    assert said[:3] == [("info", "printed"), ("warning", "complained"), ("warning", "theirs: warned 2 times")]
    level, message = said[3]
    assert level == "error"
    assert message.startswith("theirs: failed\nTraceback")


def test_what_the_loop_said_first_stands_first():
    """A handler's thread may print before the turn is over in which the loop said that its job has started."""
    stream = io.StringIO()
    log = Log(stream)

    async def turn() -> None:
        log.write_in_turns_of(asyncio.get_running_loop())
        log.info("started")
        handler = threading.Thread(target=log.info, args=("handling",))
        handler.start()
        handler.join()
        log.info("succeeded")

    asyncio.run(turn())
    assert [json.loads(line)["message"] for line in stream.getvalue().split("\n")[:-1]] == [
        "started",
        "handling",
        "succeeded",
    ]


def test_what_orjson_refuses_is_said_all_the_same():
    """The name of a file that is no UTF-8 has lone surrogates; a number of Python's may be of any size."""
    stream = io.StringIO()
    Log(stream).warning("caf\udce9 é", number=2**70, other=Path("a"))
    line = json.loads(stream.getvalue())
    assert (line["message"], line["number"], line["other"]) == ("caf\udce9 é", 2**70, "a")


def test_the_log_is_utf_8_whatever_the_locale():
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "ASYNCJOBS_CONCURRENCY": "viele ☃"}
    command = [sys.executable, "-m", "asyncjobs.worker"]
    done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
    said = [json.loads(line)["message"] for line in done.stdout.decode("utf-8").split("\n")[:-1]]
    assert any("viele ☃" in message for message in said), said


def test_a_finalizer_may_print_while_its_thread_prints():
    program = """
import gc, sys, threading
from asyncjobs.worker import thread_output
from asyncjobs.worker.logs import Log

class Chatty:
    def __init__(self):
        self.me = self
    def __del__(self):
        print("gone")

def handle():
    for number in range(2000):
        Chatty()
        print("line", number)

thread_output.install(Log(sys.stdout))
gc.set_threshold(7)
handler = threading.Thread(target=handle, daemon=True)
handler.start()
handler.join(30)
sys.exit(handler.is_alive())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    said = [json.loads(line)["message"] for line in done.stdout.split("\n")[:-1]]
    assert done.returncode == 0, done.stderr
    assert [message for message in said if message != "gone"] == [f"line {number}" for number in range(2000)]
    assert said.count("gone") > 0


@pytest.mark.parametrize("text", ["a", "é", "😀", "\x00", '"', "\udce9"])
def test_no_line_is_longer_than_an_event_of_cloudwatch(text: str):
    stream = io.StringIO()
    Log(stream).error(text * 400_000, traceback=text * 400_000, jobId="1795416232123-abc")
    [line] = stream.getvalue().split("\n")[:-1]
    assert len(line.encode()) < 256 * 1024
    assert json.loads(line)["jobId"] == "1795416232123-abc"
    assert set(json.loads(line)["traceback"]) == {text}
