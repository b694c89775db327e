"""A project of its own on a local engine of its own, driven by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HANDLER = """
import hashlib, os, time
from pathlib import Path
from asyncjobs.worker import Reject

def handle(job):
    text = job.bytes.decode("utf-8", "replace")
    if text.startswith("sleep "):
        job.progress(0.25, "sleeping")
        for _ in range(int(float(text.split()[1]) * 20)):
            time.sleep(0.05)
    if text == "reject":
        raise Reject("not today")
    if text == "fail":
        raise ValueError("no good")
    if text == "file":
        path = job.directory / "out.bin"
        path.write_bytes(b"\\x00\\x01" * 300_000)
        return path
    if len(job.bytes) > 1024 * 1024:
        with job.path.open("rb") as file:
            return [hashlib.file_digest(file, "sha256").hexdigest(), job.content_type]
    print("handled", len(job.bytes), "bytes")
    return {"length": len(job.bytes), "hex": job.bytes[:64].hex(), "type": job.content_type, "attempt": job.attempt}
"""


@dataclass
class Stack:
    """One project directory and the state folder its stack lives in.

    Args:
        came_up: What the first `up --json` of a stack that is brought up for a whole file said.
    """

    directory: Path
    state: Path
    name: str
    came_up: Any = None

    def run(self, *args: str, check: int | None = 0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        done = self.start(*args, stdin=subprocess.PIPE)
        out, err = done.communicate(text, timeout=120)
        if check is not None:
            assert done.returncode == check, f"{args}: {done.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(args, done.returncode, out, err)

    def start(self, *args: str, **settings: Any) -> subprocess.Popen[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
        env |= {
            "ASYNCJOBS_STATE_DIR": str(self.state),
            "HOME": str(self.directory.parent),
            "AWS_EC2_METADATA_DISABLED": "true",
            # Also where a Docker engine runs: tests/docker is for that.
            "ASYNCJOBS_TASKS": "processes",
        }
        command = [sys.executable, "-m", "asyncjobs", *args]
        return subprocess.Popen(
            command, cwd=self.directory, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
        )

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json").stdout)

    def file(self, content: str | bytes, name: str = "input.txt") -> str:
        data = content.encode() if isinstance(content, str) else content
        # Beside the project, not in it: every file in it is part of the image.
        file = self.directory.with_name(f"{self.name}-inputs") / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        return str(file)

    def submit(self, content: str) -> str:
        return self.run("submit", self.file(content)).stdout.strip()


def make_stack(directory: Path, state: Path, name: str) -> Stack:
    directory.mkdir()
    (directory / "handler.py").write_text(HANDLER)
    (directory / "asyncjobs.toml").write_text(
        f'[stack]\nname = "{name}"\n[worker]\nhandler = "handler:handle"\nconcurrency = 4\ntimeout = 120\n'
    )
    return Stack(directory, state, name)


def family(state: Path) -> list[psutil.Process]:
    """The engine of a state folder and everything it has started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "asyncjobs.local.server" in line and str(state / "local") in line:
            # It may have ended since it was listed.
            with suppress(psutil.NoSuchProcess):
                found += [process, *process.children(recursive=True)]
    return found


def eventually(check: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while (began := time.monotonic()) < deadline:
        value = check()
        if value:
            return value
        # Most looks are a process: half of the time is left to what is waited for.
        time.sleep(max(0.1, time.monotonic() - began))
    raise AssertionError(f"not within {seconds} s: {what}")


def until_line(process: subprocess.Popen[str], part: str) -> str:
    """What the process says until a line holds `part`."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if part in line:
            return said
    raise AssertionError(f"{part!r} was never said:\n{said}")
