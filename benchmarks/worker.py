"""How fast a worker is, beside Celery, dramatiq-sqs, taskiq-aio-sqs and BBC's sqs-consumer.

    python benchmarks/worker.py [--quick] [--asyncjobs PYTHON] [--only NAME,...]

Every worker takes the same jobs from the same in-memory stand-in of SQS and DynamoDB (benchmarks/standin), which waits
a set time in each call, and writes the same two conditional updates of the job's record. All messages are there before
the first is received; the time is from that first receive to the last finish, start-up and warm-up are not in it. CPU
is user and system time of the worker and all its children. Then jobs come at 50 a second: p50 and p99 are from send to
finish. Workers take turns, and the figures are medians; how many cores were busy elsewhere stands beside them.
`make bench-worker` makes what the rivals need.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from worker_bench import report, run, standin
from worker_bench.contenders import RIVALS_ALL, Contender, asyncjobs

DELAYS_MS = (5, 10)
SLOTS = (1, 4, 16, 64)
MODES = ("thread", "async", "process")


@dataclass(frozen=True)
class Ours:
    """One way to run our worker.

    Args:
        processes: Workers side by side. taskiq and dramatiq have two, as they advise for two cores.
        times_taskiq: The goal for its jobs a second, as a multiple of taskiq's; 0: it is only reported.
    """

    mode: str
    slots: int = 64
    processes: int = 1
    times_taskiq: float = 0


OURS = (
    Ours("thread", times_taskiq=5),
    Ours("async", times_taskiq=5),
    Ours("async", processes=2, times_taskiq=15),
    # It has a child for each slot: 64 would measure the machine's two cores.
    Ours("process", slots=16),
)


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        seconds: Of each measured throughput.
        paced: Seconds of jobs at a steady pace.
        slots: Whether the workers are measured at 1 to 64 slots too.
    """

    rounds: int
    seconds: float
    paced: float
    delays: Sequence[int]
    slots: bool


FULL = Effort(rounds=3, seconds=4, paced=4, delays=DELAYS_MS, slots=True)
QUICK = Effort(rounds=1, seconds=2, paced=1, delays=DELAYS_MS[:1], slots=False)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def compare(contenders: Sequence[Contender], effort: Effort, delay_ms: int) -> dict[Contender, report.Figures]:
    """Medians; who fails is said and left out."""
    runs: dict[Contender, list[run.Figures]] = {contender: [] for contender in contenders}
    with standin.running("--delay-ms", str(delay_ms)) as server:
        queue_url = run.prepare(server)
        for number in range(effort.rounds):
            for contender in contenders:
                try:
                    figures = run.measure(contender, server, queue_url, seconds=effort.seconds, paced=effort.paced)
                except run.RunError as error:
                    say(f"FAILED {error}")
                    continue
                runs[contender].append(figures)
                say(f"{delay_ms} ms, round {number + 1}, {contender.name}, {contender.settings}: {figures}")
    return {contender: report.median(figures) for contender, figures in runs.items() if figures}


def by_slots(python: str, extra: dict[str, str], effort: Effort) -> dict[tuple[str, int], run.Figures]:
    contenders = {(mode, slots): asyncjobs(python, mode, slots, extra) for slots in SLOTS for mode in MODES}
    one = Effort(1, effort.seconds / 2, 0, effort.delays, False)
    figures = compare(list(contenders.values()), one, DELAYS_MS[0])
    nothing = run.Figures(0, 0, 0, 0, 0, 0, 0)
    return {key: figures.get(contender, nothing) for key, contender in contenders.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round at 5 ms: about a minute")
    parser.add_argument("--asyncjobs", default="", metavar="PYTHON", help="the interpreter whose asyncjobs is measured")
    parser.add_argument("--only", default="", metavar="NAMES", help="parts of the names of workers, with commas")
    parser.add_argument("--no-slots", action="store_true", help="leave out the table of 1 to 64 slots")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting of our worker")
    parser.add_argument("--slots", type=int, metavar="N", help="slots of the thread and async handlers (64)")
    arguments = parser.parse_args()
    extra = dict(setting.split("=", 1) for setting in arguments.env)
    effort = QUICK if arguments.quick else FULL
    ours: dict[Ours, Contender] = {}
    for one in OURS:
        slots = arguments.slots if arguments.slots and one.mode != "process" else one.slots
        ours[one] = asyncjobs(arguments.asyncjobs, one.mode, slots, extra, one.processes)
    wanted = [part for part in arguments.only.split(",") if part]
    contenders = [
        one for one in (*RIVALS_ALL, *ours.values()) if not wanted or any(part in one.name for part in wanted)
    ]
    met = True
    for delay_ms in effort.delays:
        results = compare(contenders, effort, delay_ms)
        sys.stdout.write(f"\n{delay_ms} ms a call:\n\n{report.table(results)}\n")
        found = [
            goal
            for one, contender in ours.items()
            if one.times_taskiq and contender in results
            for goal in report.goals(contender, results, one.times_taskiq, one.processes)
        ]
        if found:
            sys.stdout.write(f"\n{report.goals_table(found)}\n")
        if not report.is_quiet(results):
            sys.stdout.write("\nThe machine had other work: jobs/s and what is divided by them say little.\n")
        met = met and all(goal.met for goal in found) and len(results) == len(contenders)
    if effort.slots and not arguments.no_slots:
        sys.stdout.write(f"\nasyncjobs at {DELAYS_MS[0]} ms a call:\n\n")
        sys.stdout.write(report.slots_table(by_slots(arguments.asyncjobs, extra, effort)) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
