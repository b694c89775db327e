"""Workers told to leave, one after the other, while jobs arrive; at last all at once, with the queue full.

    python tests/chaos/sigterm.py [--terms N] [--workers N] [--slots N] [--every SECONDS]

Some jobs take longer than the stop timeout. The workers talk to the stand-in of SQS and DynamoDB in
benchmarks/standin, on loopback. Exit code 1 if a worker left late, if what it had to give up did not start elsewhere
within two seconds, if a message was left in flight, if an attempt was charged, or if a job has not ended.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from chaos_driver import Crowd, Record, Stage, Worker, arguments_of, stage, try_out

SHORT, LONG = (0.05, 0.5), (3.0, 5.0)  # seconds
LONG_SHARE = 0.2
MEAN = (1 - LONG_SHARE) * sum(SHORT) / 2 + LONG_SHARE * sum(LONG) / 2
MOST_IDLE = 2.0  # seconds from there to the next start of what it gave up
MOST_WAIT = 10.0  # seconds for a first start; a message that left with a worker comes again only after the lease


@dataclass(frozen=True)
class Plan:
    """A run.

    Args:
        every: Seconds between two SIGTERMs.
        load: The share of the slots that jobs keep busy, so that there is room elsewhere for what is handed back.
    """

    terms: int = 50
    workers: int = 4
    slots: int = 3
    every: float = 3.5
    stop_timeout: int = 2
    load: float = 0.4
    lease: int = 30
    most_seconds: float = 230
    seed: int = 1


@dataclass(frozen=True)
class Leave:
    """A worker's end, in seconds since the epoch."""

    told: float
    gone: float
    exit_code: int


@dataclass
class Leaves:
    """Every SIGTERM, by the worker's process id."""

    by_worker: dict[int, Leave] = field(default_factory=dict)
    waits: list[threading.Thread] = field(default_factory=list)

    def tell(self, worker: Worker) -> None:
        """SIGTERM, and somebody who waits for what comes of it."""

        def wait(told: float) -> None:
            code = worker.wait()
            self.by_worker[worker.pid] = Leave(told, time.time(), code)

        self.waits.append(threading.Thread(target=wait, args=(time.time(),)))
        worker.terminate()
        self.waits[-1].start()

    def await_all(self) -> None:
        for wait in self.waits:
            wait.join()


@dataclass(frozen=True)
class Start:
    """An execution, as its handler noted it."""

    at: float  # seconds since the epoch
    worker: int


@dataclass(frozen=True)
class Verdict:
    """What the table, the side log and the workers' ends say.

    Args:
        left: Seconds that each worker took to go, in order.
        codes: Exit codes of the workers that are not 0.
        idle: Seconds from the end of the stop timeout to the next start, for each job that was given up, in order.
        stray: Executions that were repeated though their worker was not told to go, or repeated by the same worker.
        first_start: The most seconds from a job's arrival to its first start.
        in_flight: Messages not visible when every worker had left, with the queue full.
        waiting: Messages that were visible then.
        unlike: Jobs that have not succeeded with one attempt counted.
    """

    seconds: float
    jobs: int
    left: list[float]
    codes: list[int]
    idle: list[float]
    stray: int
    first_start: float
    in_flight: int
    waiting: int
    unlike: list[str]

    def holds(self, plan: Plan) -> bool:
        prompt = max(self.left) <= plan.stop_timeout
        soon = max(self.idle, default=0) <= MOST_IDLE and self.first_start <= MOST_WAIT
        return prompt and soon and not (self.codes or self.stray or self.in_flight or self.unlike)


def run(plan: Plan, log: Path, errors: Path) -> Verdict:
    """Raises nothing for what the workers do; see Verdict."""
    log.touch()
    began = time.monotonic()
    deadline = began + plan.most_seconds
    leaves = Leaves()
    with stage(lease=plan.lease, most_receives=1000) as scene:
        with _crowd(plan, scene, log, errors) as crowd:
            _await(lambda: _lines(errors, '"ready for ') >= plan.workers, deadline)
            sent = _under_load(plan, scene, crowd, leaves, deadline)
            rest = _all_at_once(plan, scene, crowd, leaves, log, deadline)
        in_flight, left = scene.in_flight(), scene.server.stats()["left"]
        with _crowd(plan, scene, log, errors):
            scene.await_end(len(sent) + len(rest), deadline)
        records = scene.records()
    starts = _starts(log)
    gaps = [gap for job_id in sent for gap in zip(starts[job_id], starts[job_id][1:], strict=False)]
    gone = leaves.by_worker
    return Verdict(
        seconds=time.monotonic() - began,
        jobs=len(sent) + len(rest),
        left=sorted(round(leave.gone - leave.told, 2) for leave in gone.values()),
        codes=[leave.exit_code for leave in gone.values() if leave.exit_code],
        idle=sorted(round(b.at - gone[a.worker].told - plan.stop_timeout, 2) for a, b in gaps if a.worker in gone),
        stray=sum(a.worker not in gone or a.worker == b.worker for a, b in gaps),
        first_start=max(
            starts[job_id][0].at - at if starts[job_id] else plan.most_seconds for job_id, at in sent.items()
        ),
        in_flight=in_flight,
        waiting=left - in_flight,
        unlike=[job_id for job_id in [*sent, *rest] if not _is_right(job_id, records.get(job_id, {}))],
    )


def _crowd(plan: Plan, scene: Stage, log: Path, errors: Path) -> AbstractContextManager[Crowd]:
    return scene.crowd(
        plan.workers,
        "sigterm_handler:handle",
        errors,
        isolation="process",
        concurrency=plan.slots,
        lease_seconds=plan.lease,
        stop_timeout=plan.stop_timeout,
        max_attempts=1,
        CHAOS_LOG=log,
    )


def _under_load(plan: Plan, scene: Stage, crowd: Crowd, leaves: Leaves, deadline: float) -> dict[str, float]:
    """All SIGTERMs but the last ones, each of the worker there longest; when each job was sent, since the epoch."""
    terms = plan.terms - plan.workers
    rate = plan.load * plan.workers * plan.slots / MEAN
    chance = random.Random(plan.seed)
    times = [SHORT if chance.random() > LONG_SHARE else LONG for _ in range(int(rate * plan.every * (terms + 1)))]
    began = time.time()
    ids = scene.send("load", [f"{chance.uniform(*time):.3f}" for time in times], rate)
    for number in range(terms):
        time.sleep(plan.every)
        leaves.tell(crowd.replace(number % plan.workers))
    leaves.await_all()
    scene.await_end(len(ids), deadline)
    return {job_id: began + number / rate for number, job_id in enumerate(ids)}


def _all_at_once(plan: Plan, scene: Stage, crowd: Crowd, leaves: Leaves, log: Path, deadline: float) -> list[str]:
    """Nobody is left, and there is more to do than they could have had; gives the jobs' ids."""
    slots = plan.workers * plan.slots
    ids = scene.send("rest", [str(plan.stop_timeout + 1)] * 2 * slots)
    _await(lambda: _lines(log, "start ", "-rest-") >= slots, deadline)
    for worker in crowd.members:
        leaves.tell(worker)
    leaves.await_all()
    return ids


def _await(condition: Callable[[], bool], deadline: float) -> None:
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def _lines(file: Path, *parts: str) -> int:
    return sum(all(part in line for part in parts) for line in file.read_text(encoding="utf-8").splitlines())


def _starts(log: Path) -> dict[str, list[Start]]:
    """Of each job, in order of time."""
    starts: dict[str, list[Start]] = defaultdict(list)
    for line in log.read_text(encoding="utf-8").splitlines():
        _, job_id, worker, at = line.split()
        starts[job_id].append(Start(float(at), int(worker)))
    for one in starts.values():
        one.sort(key=lambda start: start.at)
    return starts


def _is_right(job_id: str, record: Record) -> bool:
    ended = (record.get("status"), record.get("attempt")) == ("SUCCEEDED", 1)
    return ended and json.loads(record["result"]) == {"job": job_id, "attempt": 1}


def main() -> int:
    parser = arguments_of(__doc__ or "", Plan, "terms", "workers", "slots", "every")
    return try_out(Plan(**vars(parser.parse_args())), run)


if __name__ == "__main__":
    sys.exit(main())
