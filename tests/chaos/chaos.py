"""Workers killed and paused at random while jobs arrive; then the table and the handlers' own log are checked.

    python tests/chaos/chaos.py [--jobs N] [--kills N] [--stops N] [--fault-rate SHARE] [--seed N] [--asyncjobs PYTHON]

The workers talk to the stand-in of SQS and DynamoDB in benchmarks/standin, on loopback. Exit code 1 if a job was lost,
ended twice, or has a result that is not of its last attempt, or if more than 1 % of the executions were extra ones.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from worker_bench import standin

HERE = Path(__file__).resolve().parent
QUEUE, DEAD, TABLE = "jobs", "jobs-dead", "jobs"
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}
MOST_EXTRA = 0.01  # of the jobs


@dataclass(frozen=True)
class Plan:
    """A run.

    Args:
        seconds: The time in which the jobs arrive and the workers are disturbed.
        most_seconds: When a run that has not ended is given up.
        lease: Seconds; a pause lasts longer.
        max_attempts: So many that jobs fail by none of the kills.
        python: The interpreter whose `asyncjobs` is tried.
    """

    jobs: int = 10_000
    workers: int = 6
    kills: int = 200
    stops: int = 100
    seconds: float = 200
    most_seconds: float = 300
    slots: int = 4
    lease: int = 2
    max_attempts: int = 20
    isolation: str = "thread"
    fault_rate: float = 0
    seed: int = 1
    python: str = sys.executable


@dataclass(frozen=True)
class Verdict:
    """What the table and the side log say.

    Args:
        lost: Jobs with no end in the record, whether or not their message is in the dead-letter queue.
        twice: Jobs that were given an outcome more than once.
        overwritten: Jobs whose result is not that of the attempt the record counts last.
        extra: Executions beyond one for each job.
    """

    seconds: float
    statuses: dict[str, int]
    lost: list[str]
    twice: list[str]
    overwritten: list[str]
    extra: int
    messages_left: int
    calls: int
    faults: int

    def holds(self, jobs: int) -> bool:
        return not (self.lost or self.twice or self.overwritten) and self.extra <= jobs * MOST_EXTRA


@dataclass
class Crowd:
    """The workers; each place is filled again when its worker dies."""

    start: Callable[[], subprocess.Popen[bytes]]
    members: list[subprocess.Popen[bytes]] = field(default_factory=list)
    paused: dict[int, float] = field(default_factory=dict)  # until when, by place

    def fill(self, count: int) -> None:
        self.members = [self.start() for _ in range(count)]

    def kill(self, place: int) -> None:
        self.members[place].kill()
        self.members[place].wait()
        self.members[place] = self.start()

    def pause(self, place: int, until: float) -> None:
        self.members[place].send_signal(signal.SIGSTOP)
        self.paused[place] = until

    def wake(self, now: float) -> None:
        for place in [place for place, until in self.paused.items() if until <= now]:
            self.members[place].send_signal(signal.SIGCONT)
            del self.paused[place]

    def free(self) -> list[int]:
        return [place for place in range(len(self.members)) if place not in self.paused]

    def end(self) -> None:
        for member in self.members:
            member.kill()
            member.wait()


def run(plan: Plan, log: Path, errors: Path) -> Verdict:
    """Raises nothing for what the workers do; see Verdict."""
    log.touch()
    with standin.running("--delay-ms", "1", "--seed", str(plan.seed)) as server:
        clients = {name: _client(server, name) for name in ("sqs", "dynamodb")}
        queue_url = _prepare(plan, clients)
        with _crowd(plan, server, queue_url, log, errors) as crowd:
            began = time.monotonic()
            ids = _send(plan, server)
            server.configure(fault_rate=plan.fault_rate)
            _disturb(plan, crowd, began)
            _settle(plan, crowd, server, began)
            took = time.monotonic() - began
        server.configure(fault_rate=0)
        return _judge(ids, server, clients, log, took)


def _client(server: standin.Standin, name: str) -> Any:
    session = boto3.session.Session("testing", "testing", region_name=standin.REGION)
    return session.client(name, endpoint_url=server.url)  # type: ignore[call-overload]


def _prepare(plan: Plan, clients: dict[str, Any]) -> str:
    clients["dynamodb"].create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    sqs = clients["sqs"]
    dead = sqs.create_queue(QueueName=DEAD)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    # Receives are counted for claims that only find another's lease too, so there are more of them than attempts.
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": 5 * plan.max_attempts}
    attributes = {"VisibilityTimeout": str(plan.lease), "RedrivePolicy": json.dumps(policy)}
    url: str = sqs.create_queue(QueueName=QUEUE, Attributes=attributes)["QueueUrl"]
    return url


@contextmanager
def _crowd(plan: Plan, server: standin.Standin, queue_url: str, log: Path, errors: Path) -> Iterator[Crowd]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
    environment = kept | server.environment
    environment |= {
        "ASYNCJOBS_QUEUE_URL": queue_url,
        "ASYNCJOBS_TABLE": TABLE,
        "ASYNCJOBS_BUCKET": "unused",
        "ASYNCJOBS_HANDLER": "chaos_handler:handle",
        "ASYNCJOBS_ISOLATION": plan.isolation,
        "ASYNCJOBS_CONCURRENCY": str(plan.slots),
        "ASYNCJOBS_LEASE_SECONDS": str(plan.lease),
        "ASYNCJOBS_MAX_ATTEMPTS": str(plan.max_attempts),
        "CHAOS_LOG": str(log),
        "PYTHONPATH": str(HERE),
    }
    with errors.open("ab") as output:

        def start() -> subprocess.Popen[bytes]:
            command = (plan.python, "-m", "asyncjobs.worker")
            return subprocess.Popen(command, cwd=HERE, env=environment, stdout=output, stderr=output)

        crowd = Crowd(start)
        try:
            crowd.fill(plan.workers)
            yield crowd
        finally:
            crowd.end()


def _send(plan: Plan, server: standin.Standin) -> list[str]:
    """All messages, spread over the run's time by the stand-in."""
    now = int(time.time() * 1000)
    ids = [f"{now:013d}-chaos-{number}" for number in range(plan.jobs)]
    attributes = [{"jobId": {"DataType": "String", "StringValue": job_id}} for job_id in ids]
    jobs = [{"id": job_id, "body": "{}", "attributes": one} for job_id, one in zip(ids, attributes, strict=True)]
    server.fill(QUEUE, jobs, plan.jobs / plan.seconds)
    return ids


def _disturb(plan: Plan, crowd: Crowd, began: float) -> None:
    """Kills and pauses at random times of the run, each of a worker that is not paused."""
    chance = random.Random(plan.seed)
    events = sorted(
        [(chance.uniform(0, plan.seconds), "kill") for _ in range(plan.kills)]
        + [(chance.uniform(0, plan.seconds), "stop") for _ in range(plan.stops)]
    )
    while events:
        now = time.monotonic()
        crowd.wake(now)
        free = crowd.free()
        if not free or events[0][0] > now - began:
            time.sleep(0.01)
            continue
        _, what = events.pop(0)
        place = chance.choice(free)
        if what == "kill":
            crowd.kill(place)
        else:
            crowd.pause(place, now + plan.lease * chance.uniform(1.2, 2))


def _settle(plan: Plan, crowd: Crowd, server: standin.Standin, began: float) -> None:
    """Until every job has ended, every paused worker has had its say, and the queue is empty; or the time is over."""
    while time.monotonic() - began < plan.most_seconds:
        crowd.wake(time.monotonic())
        stats = server.stats()
        if not crowd.paused and stats["finished"] >= plan.jobs and stats["left"] == 0:
            time.sleep(1)  # what a worker woken last still tries to write
            return
        time.sleep(0.1)


def _judge(ids: list[str], server: standin.Standin, clients: dict[str, Any], log: Path, took: float) -> Verdict:
    items = {item["jobId"]["S"]: item for item in clients["dynamodb"].scan(TableName=TABLE)["Items"]}
    statuses = Counter(items.get(job_id, {}).get("status", {}).get("S", "absent") for job_id in ids)
    executions = Counter(line.split()[0] for line in log.read_text(encoding="utf-8").splitlines())
    stats = server.stats()
    return Verdict(
        seconds=took,
        statuses=dict(statuses),
        lost=[job_id for job_id in ids if items.get(job_id, {}).get("status", {}).get("S") not in TERMINAL],
        twice=server.history()["twice"],
        overwritten=[job_id for job_id, item in items.items() if not _is_own(item)],
        extra=sum(executions.values()) - len(executions),
        messages_left=stats["left"],
        calls=sum(stats["calls"].values()),
        faults=stats["faults"],
    )


def _is_own(item: dict[str, Any]) -> bool:
    """Whether the result says that it is the record's job's and of its last attempt."""
    if item["status"]["S"] != "SUCCEEDED":
        return "result" not in item
    result = json.loads(item["result"]["S"])
    return bool(result == {"job": item["jobId"]["S"], "attempt": int(item["attempt"]["N"])})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("jobs", "workers", "kills", "stops", "slots", "lease", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan, name))
    for name in ("seconds", "most-seconds", "fault-rate"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Plan, name.replace("-", "_")))
    parser.add_argument("--isolation", choices=("thread", "process"), default=Plan.isolation)
    parser.add_argument("--asyncjobs", dest="python", default=sys.executable, metavar="PYTHON")
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as directory:
        verdict = run(plan, Path(directory) / "executions.log", Path(directory) / "workers.log")
    sys.stdout.write(f"{plan}\n{verdict}\n")
    sys.stdout.write("held\n" if verdict.holds(plan.jobs) else "BROKEN\n")
    return 0 if verdict.holds(plan.jobs) else 1


if __name__ == "__main__":
    sys.exit(main())
