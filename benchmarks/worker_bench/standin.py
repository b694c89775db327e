"""The stand-in of SQS and DynamoDB (benchmarks/standin): build, start, fill, ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "standin"
PROGRAM = SOURCE / "build" / "standin"
REGION = "us-east-1"
# It makes and drops many small things in each of its threads; glibc keeps seven of a size at hand for one otherwise.
TUNABLES = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=2000"}


def has_compiler() -> bool:
    """Whether there is one that works: rustup's `rustc` is there without any toolchain behind it, too."""
    try:
        return subprocess.run(("rustc", "--version"), capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def build() -> Path:
    """The program; compiled anew if a source is younger. Raises CalledProcessError."""
    sources = sorted((SOURCE / "src").glob("*.rs"))
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= max(source.stat().st_mtime for source in sources):
        return PROGRAM
    PROGRAM.parent.mkdir(exist_ok=True)
    # Under a name of its own until it is whole: tests build it in two processes at once.
    fresh = PROGRAM.with_name(f"standin.{os.getpid()}")
    command = ("rustc", "-O", "--edition", "2021", "-D", "warnings", "-o", str(fresh), str(SOURCE / "src" / "main.rs"))
    subprocess.run(command, check=True, stdout=sys.stderr)
    fresh.rename(PROGRAM)
    return PROGRAM


class Standin:
    """A running stand-in.

    Args:
        url: The endpoint, for AWS_ENDPOINT_URL.
    """

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.process = process

    @property
    def environment(self) -> dict[str, str]:
        """What points an SDK at it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data=data), timeout=60) as answer:
            return json.load(answer)

    def stats(self) -> dict[str, Any]:
        """Calls by operation; finished jobs; messages left; times in microseconds, since the epoch or long."""
        answer: dict[str, Any] = self.ask("/_stats")
        return answer

    def history(self) -> dict[str, Any]:
        """`ended`, and `twice`: the jobs that were given an outcome more than once in a generation."""
        answer: dict[str, Any] = self.ask("/_history")
        return answer

    def reset(self) -> None:
        """No messages, no items, no counts."""
        self.ask("/_reset")

    def configure(self, **settings: float) -> None:
        """delay_ms, fault_rate, seed."""
        self.ask("/_set?" + "&".join(f"{name}={value}" for name, value in settings.items()))

    def fill(self, queue: str, jobs: Sequence[dict[str, Any]], rate: float = 0) -> None:
        """Messages with `id`, `body`, `attributes`: all at once, or `rate` a second."""
        self.ask(f"/_fill?queue={queue}&rate={rate}", list(jobs))


@contextmanager
def running(*arguments: str) -> Iterator[Standin]:
    command = (str(build()), *arguments)
    process = subprocess.Popen(command, env=os.environ | TUNABLES, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield Standin(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
