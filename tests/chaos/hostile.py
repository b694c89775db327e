"""Handlers that crash, hang, use up memory and flood the output, among good ones; then every job's end is checked.

    python tests/chaos/hostile.py [--good N] [--each N] [--workers N] [--slots N]

The workers talk to the stand-in of SQS and DynamoDB in benchmarks/standin, on loopback. Exit code 1 if a job has not
the end that is its own, if a good one was run twice, if a line of output is another job's, or if an endless loop went
on for more than two seconds after its timeout.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chaos_driver import Record, arguments_of, stage, try_out
from hostile_handler import FLOOD_LINE, FLOOD_LINES, HOSTILE

GOOD = "good"
# As docs/handlers.md names them; None: it succeeds.
ENDS = {
    "abort": "Crashed (SIGABRT)",
    "segfault": "Crashed (SIGSEGV)",
    "bomb": "OutOfMemory",
    "kill": "Crashed (SIGKILL)",
    "loop": "Timeout",
    "exit": "SystemExit",
    "flood": None,
    GOOD: None,
}
MOST_LATE = 2.0  # seconds after its timeout that a loop may go on


@dataclass(frozen=True)
class Plan:
    """A run.

    Args:
        each: Jobs of each hostile kind.
        timeout: Seconds.
        max_attempts: Two, so that it is seen that hostile jobs are tried again and good ones are not.
    """

    good: int = 1000
    each: int = 25
    workers: int = 3
    slots: int = 3
    timeout: int = 2
    max_attempts: int = 2
    lease: int = 10
    most_seconds: float = 220
    seed: int = 1


@dataclass(frozen=True)
class Verdict:
    """What the table, the side log and the workers' output say.

    Args:
        ends: How often which kind ended how.
        wrong: Jobs whose end, result or number of attempts is not what their kind demands.
        again: Good jobs that were run more than once.
        strayed: Of the floods' lines, how many were not logged, or under another job's id.
        loops: Seconds from start to end in the loops' records, in order.
    """

    seconds: float
    ends: dict[str, int]
    wrong: list[str]
    again: list[str]
    strayed: int
    loops: list[float]

    def holds(self, plan: Plan) -> bool:
        timely = all(seconds <= plan.timeout + MOST_LATE for seconds in self.loops)
        return timely and not (self.wrong or self.again or self.strayed)


def run(plan: Plan, log: Path, errors: Path) -> Verdict:
    """Raises nothing for what the workers do; see Verdict."""
    kinds = [GOOD] * plan.good + [kind for kind in HOSTILE for _ in range(plan.each)]
    random.Random(plan.seed).shuffle(kinds)
    with (
        stage(lease=plan.lease, most_receives=50) as scene,
        scene.crowd(
            plan.workers,
            "hostile_handler:handle",
            errors,
            isolation="process",
            concurrency=plan.slots,
            lease_seconds=plan.lease,
            timeout=plan.timeout,
            max_attempts=plan.max_attempts,
            CHAOS_LOG=log,
        ),
    ):
        began = time.monotonic()
        jobs = dict(zip(scene.send("hostile", kinds), kinds, strict=True))
        scene.await_end(len(jobs), began + plan.most_seconds)
        took = time.monotonic() - began
        records = scene.records()
    return _judge(plan, jobs, records, log, errors, took)


def _judge(
    plan: Plan, jobs: dict[str, str], records: dict[str, Record], log: Path, errors: Path, took: float
) -> Verdict:
    runs = Counter(line.split()[0] for line in log.read_text(encoding="utf-8").splitlines())
    found = {job_id: records.get(job_id, {"status": "absent"}) for job_id in jobs}
    loops = [
        _seconds(found[job_id]) for job_id, kind in jobs.items() if kind == "loop" and "finishedAt" in found[job_id]
    ]
    return Verdict(
        seconds=took,
        ends=dict(Counter(f"{jobs[job_id]}: {_end(record)}" for job_id, record in found.items())),
        wrong=[job_id for job_id, kind in jobs.items() if not _is_right(plan, job_id, kind, found[job_id])],
        again=[job_id for job_id, kind in jobs.items() if kind == GOOD and runs[job_id] != 1],
        strayed=_strayed({job_id for job_id, kind in jobs.items() if kind == "flood"}, errors),
        loops=sorted(loops),
    )


def _end(record: Record) -> str:
    if "error" not in record:
        return str(record["status"])
    return f"{record['status']} {record['error']['type']} after {record['attempt']} attempts"


def _is_right(plan: Plan, job_id: str, kind: str, record: Record) -> bool:
    error = ENDS[kind]
    if error is None:
        result = json.loads(record.get("result", "null"))
        return record["status"] == "SUCCEEDED" and result == {"job": job_id, "attempt": 1} and "error" not in record
    ended = record["status"] == "FAILED" and record["attempt"] == plan.max_attempts
    return bool(ended and record["error"]["type"] == error and "result" not in record)


def _seconds(record: Record) -> float:
    """Of the last attempt, from its claim to its end."""
    return (datetime.fromisoformat(record["finishedAt"]) - datetime.fromisoformat(record["startedAt"])).total_seconds()


def _strayed(floods: set[str], errors: Path) -> int:
    """Compares what each flood printed with what was logged under its id."""
    lines: Counter[str] = Counter()
    with errors.open(encoding="utf-8") as logged:
        for text in logged:
            if FLOOD_LINE in text or "the last line of" in text:
                line = json.loads(text)
                last = line["message"].removeprefix("the last line of ")
                lines[line["jobId"] if last in (FLOOD_LINE, line["jobId"]) else "another"] += 1
    lacking = sum(abs(FLOOD_LINES + 1 - lines[job_id]) for job_id in floods)
    return lacking + sum(count for job_id, count in lines.items() if job_id not in floods)


def main() -> int:
    parser = arguments_of(__doc__ or "", Plan, "good", "each", "workers", "slots")
    return try_out(Plan(**vars(parser.parse_args())), run)


if __name__ == "__main__":
    sys.exit(main())
