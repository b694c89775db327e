"""What runs of workers in trouble share: the stand-in with its queues and table, the workers, and the jobs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import boto3
from boto3.dynamodb.types import TypeDeserializer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from worker_bench import standin

HERE = Path(__file__).resolve().parent
QUEUE, DEAD, TABLE = "jobs", "jobs-dead", "jobs"
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELLED"}

Worker = subprocess.Popen[bytes]
Record = dict[str, Any]
Plan = TypeVar("Plan", contravariant=True)


class Verdict(Protocol[Plan]):
    """What came of a run."""

    def holds(self, plan: Plan) -> bool: ...


@dataclass
class Crowd:
    """The workers; each place is filled again when its worker dies."""

    start: Callable[[], Worker]
    members: list[Worker] = field(default_factory=list)
    paused: dict[int, float] = field(default_factory=dict)  # until when, by place

    def fill(self, count: int) -> None:
        self.members = [self.start() for _ in range(count)]

    def kill(self, place: int) -> None:
        self.members[place].kill()
        self.members[place].wait()
        self.members[place] = self.start()

    def replace(self, place: int) -> Worker:
        """Another takes the place; the one that had it is the caller's to end."""
        old, self.members[place] = self.members[place], self.start()
        return old

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


@dataclass(frozen=True)
class Stage:
    """A stand-in with the queues and the table of a stack."""

    server: standin.Standin
    sqs: Any
    dynamodb: Any
    queue_url: str

    @contextmanager
    def crowd(
        self, count: int, handler: str, errors: Path, *, python: str = sys.executable, **settings: object
    ) -> Iterator[Crowd]:
        """So many workers, which all write to `errors`; ended when the block is left.

        Args:
            handler: In this folder.
            settings: Of the environment: `lease_seconds=2` is ASYNCJOBS_LEASE_SECONDS, `CHAOS_LOG` is itself.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
        environment = kept | self.server.environment
        environment |= {
            "ASYNCJOBS_QUEUE_URL": self.queue_url,
            "ASYNCJOBS_TABLE": TABLE,
            "ASYNCJOBS_BUCKET": "unused",
            "ASYNCJOBS_HANDLER": handler,
            "PYTHONPATH": str(HERE),
        }
        environment |= {
            name if name.isupper() else f"ASYNCJOBS_{name.upper()}": str(value) for name, value in settings.items()
        }
        with errors.open("ab") as output:

            def start() -> Worker:
                command = (python, "-m", "asyncjobs.worker")
                return subprocess.Popen(command, cwd=HERE, env=environment, stdout=output, stderr=output)

            crowd = Crowd(start)
            try:
                crowd.fill(count)
                yield crowd
            finally:
                crowd.end()

    def send(self, name: str, bodies: Sequence[str], rate: float = 0) -> list[str]:
        """A job for each body: all at once, or so many a second; gives their ids."""
        now = int(time.time() * 1000)
        ids = [f"{now:013d}-{name}-{number}" for number in range(len(bodies))]
        attributes = [{"jobId": {"DataType": "String", "StringValue": job_id}} for job_id in ids]
        sent = zip(ids, bodies, attributes, strict=True)
        jobs = [{"id": job_id, "body": body, "attributes": one} for job_id, body, one in sent]
        self.server.fill(QUEUE, jobs, rate)
        return ids

    def await_end(self, jobs: int, deadline: float) -> bool:
        """Until so many jobs have ended and no message is left; False when the monotonic time is over before."""
        while time.monotonic() < deadline:
            stats = self.server.stats()
            if stats["finished"] >= jobs and stats["left"] == 0:
                return True
            time.sleep(0.1)
        return False

    def records(self) -> dict[str, Record]:
        """The table, by job id, in Python's own types."""
        read = TypeDeserializer().deserialize
        items = self.dynamodb.scan(TableName=TABLE)["Items"]
        return {item["jobId"]["S"]: {key: read(value) for key, value in item.items()} for item in items}

    def in_flight(self) -> int:
        name = "ApproximateNumberOfMessagesNotVisible"
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=[name])
        return int(answer["Attributes"][name])


@contextmanager
def stage(*, lease: int, most_receives: int, seed: int = 1) -> Iterator[Stage]:
    """
    Args:
        lease: Seconds; also the queue's visibility timeout.
        most_receives: After so many a message is moved to the dead-letter queue.
    """
    with standin.running("--delay-ms", "1", "--seed", str(seed)) as server:
        session = boto3.session.Session("testing", "testing", region_name=standin.REGION)
        sqs = session.client("sqs", endpoint_url=server.url)
        dynamodb = session.client("dynamodb", endpoint_url=server.url)
        dynamodb.create_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        dead = sqs.create_queue(QueueName=DEAD)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": most_receives}
        attributes = {"VisibilityTimeout": str(lease), "RedrivePolicy": json.dumps(policy)}
        queue_url = sqs.create_queue(QueueName=QUEUE, Attributes=attributes)["QueueUrl"]
        yield Stage(server, sqs, dynamodb, queue_url)


def arguments_of(description: str, plan: type[Any], *names: str) -> argparse.ArgumentParser:
    """A parser that takes these numbers of a plan."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {one.name: {"int": int, "float": float}[one.type] for one in fields(plan) if one.name in names}
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kinds[name], default=getattr(plan, name))
    return parser


def try_out(plan: Plan, run: Callable[[Plan, Path, Path], Verdict[Plan]]) -> int:
    """Run the plan and say what came of it; the exit code."""
    with tempfile.TemporaryDirectory() as directory:
        verdict = run(plan, Path(directory) / "executions.log", Path(directory) / "workers.log")
    holds = verdict.holds(plan)
    sys.stdout.write(f"{plan}\n{verdict}\n{'held' if holds else 'BROKEN'}\n")
    return 0 if holds else 1
