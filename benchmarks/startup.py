"""How long a command takes to start, as a ratio to importing boto3 in the same run.

    python benchmarks/startup.py [--runs N]

Absolute times say more about the machine than about the program, and they drift while other programs run. So each
command and what it is compared with run in turn, many times, and the medians are divided. Exit code 1 if a goal is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PYTHON = sys.executable
PROGRAM = str(Path(PYTHON).with_name("asyncjobs"))
IMPORT = (PYTHON, "-c", "import boto3")
CLIENT = (PYTHON, "-c", "import boto3; boto3.client('dynamodb', region_name='us-east-1')")
JOB_ID = "1700000000000-benchmark"


@dataclass(frozen=True)
class Case:
    """A command, what it is compared with, and the greatest ratio that is good enough."""

    name: str
    command: Sequence[str]
    yardstick: Sequence[str]
    goal: float


@dataclass(frozen=True)
class Outcome:
    """Median seconds of both sides."""

    case: Case
    seconds: float
    yardstick_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.yardstick_seconds

    @property
    def passed(self) -> bool:
        return self.ratio <= self.case.goal


class Handler(BaseHTTPRequestHandler):
    """Answers at once, so that nothing but the command itself is measured."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"jobId": JOB_ID, "status": "RUNNING", "submittedAt": "2023-11-14T22:13:20.000Z"})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(202, {"jobId": self.path.rsplit("/", 1)[-1], "status": "QUEUED"})

    def _answer(self, status: int, document: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def api() -> Iterator[str]:
    """The URL of a server on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def cases(payload: Path) -> list[Case]:
    return [
        Case("asyncjobs --help", (PROGRAM, "--help"), IMPORT, 0.75),
        Case("asyncjobs submit FILE", (PROGRAM, "submit", str(payload)), CLIENT, 0.6),
        Case("asyncjobs status JOBID", (PROGRAM, "status", JOB_ID), CLIENT, 0.6),
    ]


def measure(case: Case, runs: int, directory: Path, env: dict[str, str]) -> Outcome:
    """Both in turn, after one run of each that only warms the disk cache."""
    times: dict[Sequence[str], list[float]] = {case.command: [], case.yardstick: []}
    for _ in range(runs + 1):
        for command, seconds in times.items():
            began = time.perf_counter()
            subprocess.run(command, cwd=directory, env=env, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
    command, yardstick = (statistics.median(times[side][1:]) for side in (case.command, case.yardstick))
    return Outcome(case, command, yardstick)


def table(outcomes: Sequence[Outcome]) -> str:
    lines = [
        "| command | ms | compared with | ms | ratio | goal | |",
        "| --- | ---: | --- | ---: | ---: | ---: | --- |",
    ]
    for one in outcomes:
        name = "a boto3 client" if one.case.yardstick is CLIENT else "`import boto3`"
        lines.append(
            f"| `{one.case.name}` | {one.seconds * 1000:.0f} | {name} | {one.yardstick_seconds * 1000:.0f} "
            f"| {one.ratio:.2f} | ≤ {one.case.goal} | {'met' if one.passed else 'MISSED'} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="runs of each side (default 15)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name, api() as url:
        directory = Path(name)
        payload = directory / "payload.txt"
        payload.write_text("some text\n", encoding="utf-8")
        env = {key: value for key, value in os.environ.items() if not key.startswith(("ASYNCJOBS_", "AWS_"))}
        env |= {"ASYNCJOBS_API_URL": url, "ASYNCJOBS_API_KEY": "key", "ASYNCJOBS_STATE_DIR": name}
        outcomes = [measure(case, runs, directory, env) for case in cases(payload)]
    sys.stdout.write(table(outcomes) + "\n")
    return 0 if all(one.passed for one in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
