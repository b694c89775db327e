"""One worker on the stand-in: started, warmed up, measured, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil

from worker_bench.contenders import Contender
from worker_bench.standin import Standin

QUEUE, TABLE = "jobs", "jobs"
WARM_UP_JOBS = 200
LEAST_JOBS, MOST_JOBS = 200, 60_000
LONGEST_SECONDS = 60  # for any one step; a worker that takes longer has failed
PACED_RATE = 50  # jobs a second, which every contender can follow


class RunError(Exception):
    """The worker did not do its jobs; the message ends with what it logged."""


@dataclass(frozen=True)
class Figures:
    """What one run gave; times in seconds, memory in MB.

    Args:
        elsewhere: How many cores were busy with neither the worker nor the stand-in; above a tenth or so, the other
            figures say little.
    """

    jobs_per_second: float
    cpu_per_1000: float
    memory: float
    calls_per_job: float
    p50: float
    p99: float
    elsewhere: float


def prepare(server: Standin) -> str:
    """Make the queue and the table; the queue's URL."""
    session = boto3.session.Session("testing", "testing", region_name=server.environment["AWS_REGION"])
    session.client("dynamodb", endpoint_url=server.url).create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    url: str = session.client("sqs", endpoint_url=server.url).create_queue(
        QueueName=QUEUE, Attributes={"VisibilityTimeout": "60"}
    )["QueueUrl"]
    return url


def messages(contender: Contender, count: int) -> list[dict[str, Any]]:
    now = int(time.time() * 1000)
    out = []
    for number in range(count):
        job_id = f"{now:013d}-bench-{number}"
        body, attributes = contender.encode(job_id, {"number": number, "text": "some words to work on"})
        out.append({"id": job_id, "body": body} | ({"attributes": attributes} if attributes else {}))
    return out


@dataclass
class Worker:
    """A running worker and all its children."""

    process: subprocess.Popen[bytes]
    log: Path

    def tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of user and system time, those of ended children included."""
        total = 0.0
        for process in self.tree():
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def peak_memory(self) -> float:
        """The sum of each process's peak, in MB."""
        total = 0
        for process in self.tree():
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        return total / 1024

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def started(contender: Contender, server: Standin, queue_url: str) -> Iterator[Worker]:
    """The worker in a process group of its own, which is killed in the end."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
    environment = kept | server.environment | {"QUEUE_URL": queue_url, "PYTHONPATH": str(contender.directory)}
    environment |= contender.environment
    if "ASYNCJOBS_QUEUE_URL" in environment:
        environment["ASYNCJOBS_QUEUE_URL"] = queue_url
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(
            contender.command,
            cwd=contender.directory,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Worker(process, Path(log.name))
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(worker: Worker, server: Standin, what: str, **least: int) -> dict[str, Any]:
    """The stand-in's figures as soon as each of those named is there. Raises RunError."""
    until = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < until and worker.process.poll() is None:
        stats = server.stats()
        if all(stats.get(name, stats["calls"].get(name, 0)) >= count for name, count in least.items()):
            return stats
        time.sleep(0.02)
    raise RunError(f"{what}: {json.dumps(server.stats())}\n{worker.said()}")


def emptied(server: Standin) -> None:
    """Messages are deleted after the last finish; what is left after a second stays."""
    until = time.monotonic() + 1
    while time.monotonic() < until and server.stats()["left"] > 0:
        time.sleep(0.02)


def work_through(contender: Contender, worker: Worker, server: Standin, count: int, rate: float = 0) -> dict[str, Any]:
    """The figures after so many jobs, the deletes of their messages included."""
    server.reset()
    server.fill(QUEUE, messages(contender, count), rate)
    wait_for(worker, server, f"{contender.name} did not finish {count} jobs", finished=count)
    emptied(server)
    return server.stats()


def seconds_of(stats: dict[str, Any]) -> float:
    return max(1e-6, (stats["lastFinish"] - stats["firstReceive"]) / 1e6)


def measure(contender: Contender, server: Standin, queue_url: str, *, seconds: float, paced: float) -> Figures:
    """Throughput with a full queue for about `seconds`, then the time from send to finish at a pace for `paced`."""
    server.reset()
    with started(contender, server, queue_url) as worker:
        wait_for(worker, server, f"{contender.name} did not start", ReceiveMessage=1)
        time.sleep(1)  # the other processes and consumers of the same worker
        warm = work_through(contender, worker, server, WARM_UP_JOBS)
        warm = work_through(contender, worker, server, _count(WARM_UP_JOBS / seconds_of(warm)))
        count = _count(warm["finished"] / seconds_of(warm) * seconds)
        stand_in = psutil.Process(server.process.pid)
        before, began, busy = worker.cpu(), time.monotonic(), _busy(stand_in)
        stats = work_through(contender, worker, server, count)
        cpu, took, busy = worker.cpu() - before, time.monotonic() - began, _busy(stand_in) - busy
        waits = work_through(contender, worker, server, max(1, int(PACED_RATE * paced)), PACED_RATE) if paced else {}
        return Figures(
            jobs_per_second=count / seconds_of(stats),
            cpu_per_1000=cpu / count * 1000,
            memory=worker.peak_memory(),
            calls_per_job=sum(stats["calls"].values()) / count,
            p50=waits.get("p50", 0) / 1e6,
            p99=waits.get("p99", 0) / 1e6,
            elsewhere=max(0.0, busy - cpu) / took,
        )


def _busy(stand_in: psutil.Process) -> float:
    """Seconds the machine's cores have worked, but for the stand-in."""
    machine, own = psutil.cpu_times(), stand_in.cpu_times()
    return float(machine.user + machine.nice + machine.system - own.user - own.system)


def _count(jobs: float) -> int:
    return max(LEAST_JOBS, min(MOST_JOBS, int(jobs)))
