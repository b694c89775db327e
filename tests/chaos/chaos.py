"""Workers killed and paused at random while jobs arrive; then the table and the handlers' own log are checked.

    python tests/chaos/chaos.py [--jobs N] [--kills N] [--stops N] [--fault-rate SHARE] [--seed N] [--asyncjobs PYTHON]

The workers talk to the stand-in of SQS and DynamoDB in benchmarks/standin, on loopback. Exit code 1 if a job was lost,
ended twice, or has a result that is not of its last attempt, or if more than 1 % of the executions were extra ones.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos_driver import TERMINAL, Crowd, Record, Stage, arguments_of, stage, try_out

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

    def holds(self, plan: Plan) -> bool:
        return not (self.lost or self.twice or self.overwritten) and self.extra <= plan.jobs * MOST_EXTRA


def run(plan: Plan, log: Path, errors: Path) -> Verdict:
    """Raises nothing for what the workers do; see Verdict."""
    log.touch()
    # Receives are counted for claims that only find another's lease too, so there are more of them than attempts.
    with stage(lease=plan.lease, most_receives=5 * plan.max_attempts, seed=plan.seed) as scene:
        with scene.crowd(
            plan.workers,
            "chaos_handler:handle",
            errors,
            python=plan.python,
            isolation=plan.isolation,
            concurrency=plan.slots,
            lease_seconds=plan.lease,
            max_attempts=plan.max_attempts,
            CHAOS_LOG=log,
        ) as crowd:
            began = time.monotonic()
            ids = scene.send("chaos", ["{}"] * plan.jobs, plan.jobs / plan.seconds)
            scene.server.configure(fault_rate=plan.fault_rate)
            _disturb(plan, crowd, began)
            _settle(plan, crowd, scene, began)
            took = time.monotonic() - began
        scene.server.configure(fault_rate=0)
        return _judge(ids, scene, log, took)


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


def _settle(plan: Plan, crowd: Crowd, scene: Stage, began: float) -> None:
    """Until every job has ended, every paused worker has had its say, and the queue is empty; or the time is over."""
    deadline = began + plan.most_seconds
    while crowd.paused and time.monotonic() < deadline:
        crowd.wake(time.monotonic())
        time.sleep(0.1)
    if scene.await_end(plan.jobs, deadline):
        time.sleep(1)  # what a worker woken last still tries to write


def _judge(ids: list[str], scene: Stage, log: Path, took: float) -> Verdict:
    records = scene.records()
    executions = Counter(line.split()[0] for line in log.read_text(encoding="utf-8").splitlines())
    stats = scene.server.stats()
    statuses = {job_id: records[job_id]["status"] if job_id in records else "absent" for job_id in ids}
    return Verdict(
        seconds=took,
        statuses=dict(Counter(statuses.values())),
        lost=[job_id for job_id, status in statuses.items() if status not in TERMINAL],
        twice=scene.server.history()["twice"],
        overwritten=[job_id for job_id, record in records.items() if not _is_own(record)],
        extra=sum(executions.values()) - len(executions),
        messages_left=stats["left"],
        calls=sum(stats["calls"].values()),
        faults=stats["faults"],
    )


def _is_own(record: Record) -> bool:
    """Whether the result says that it is the record's job's and of its last attempt."""
    if record["status"] != "SUCCEEDED":
        return "result" not in record
    return bool(json.loads(record["result"]) == {"job": record["jobId"], "attempt": record["attempt"]})


def main() -> int:
    names = ("jobs", "workers", "kills", "stops", "slots", "lease", "seed", "seconds", "most_seconds", "fault_rate")
    parser = arguments_of(__doc__ or "", Plan, *names)
    parser.add_argument("--isolation", choices=("thread", "process"), default=Plan.isolation)
    parser.add_argument("--asyncjobs", dest="python", default=sys.executable, metavar="PYTHON")
    return try_out(Plan(**vars(parser.parse_args())), run)


if __name__ == "__main__":
    sys.exit(main())
