"""How long `up` and `down` take on an AWS that is as slow as the real one, and what of it could not be shorter.

    python benchmarks/up.py [--speed N]

`up` on an empty account, `up` again, and `down`, against moto in this process with the delays of `slow_aws.py`. All
figures are simulated seconds, `--speed` of which pass in a real one: what Python itself takes weighs that much more
than it would on AWS, so its share is printed. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "aws"))

import boto3
import crash
import sessions
from moto import mock_aws
from moto_mends import mend
from paths import Needs, delays_alone, level_by_level, longest_path, repeated
from slow_aws import Call, Clock, SlowAws

from asyncjobs.aws import Clients, Waiter
from asyncjobs.config import Config
from asyncjobs.progress import NullProgress
from asyncjobs.provision.context import Context
from asyncjobs.provision.engine import Engine, Report
from asyncjobs.provision.graph import reversed_graph
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.plan import Plan, plan_down, plan_up, read_all
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.stack import stack_resources

MOST_RATIO = 1.10
MOST_WRITES = 35
SERVICES = (
    *("apigateway", "application-autoscaling", "cloudwatch", "dynamodb", "ec2", "ecr"),
    *("ecs", "iam", "logs", "s3", "sqs", "sts"),
)


class Watched:
    """A resource whose calls are known to be its own, and whose reading is timed."""

    def __init__(self, resource: Resource, aws: SlowAws, clock: Clock, reads: dict[str, float]) -> None:
        self._resource = resource
        self._aws = aws
        self._clock = clock
        self._reads = reads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        return self._own(found) if name in ("create", "update", "delete") else found

    def read(self) -> Any:
        began = self._clock.now()
        found = self._own(self._resource.read)()
        self._reads[self._resource.step] = self._clock.now() - began
        return found

    def _own(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self._aws.step(self._resource.step):
                return verb(*args)

        return call


@dataclass(frozen=True)
class Run:
    """One command as it went.

    Args:
        wall: From the first read to the end of the last step, or of the rescan.
        reading: Of that, reading everything and planning (`down`: and reading again at the end).
        slowest_read: What `reading` would take if only the slowest resource were read.
        cpu: The share of real time that was this process's CPU, of one core.
    """

    name: str
    wall: float
    reading: float
    slowest_read: float
    report: Report
    needs: Needs
    phases: tuple[tuple[Needs, list[Call]], ...]
    cpu: float

    @property
    def calls(self) -> list[Call]:
        return [call for _, calls in self.phases for call in calls]

    @property
    def seconds(self) -> dict[str, float]:
        """What each step took."""
        return {step.step: step.end - step.start for step in self.report.steps}

    @property
    def critical(self) -> float:
        return self.slowest_read + sum(step.end - step.start for step in self.report.critical_path)

    @property
    def longest(self) -> float:
        return self.slowest_read + longest_path(self.needs, self.seconds)

    @property
    def levels(self) -> float:
        return self.slowest_read + level_by_level(self.needs, self.seconds)

    @property
    def serial(self) -> float:
        return self.slowest_read + sum(self.seconds.values())

    @property
    def floor(self) -> float:
        return delays_alone(self.phases)

    @property
    def writes(self) -> int:
        return sum(not call.is_read and call.outcome == "done" for call in self.calls)

    @property
    def path(self) -> str:
        return " → ".join(f"{step.step} {step.end - step.start:.1f}" for step in self.report.critical_path)


class Bench:
    def __init__(self, speed: float) -> None:
        self._clock = Clock(speed)
        session = sessions.session()
        self._aws = SlowAws(session, self._clock)
        self._clients = Clients(session)

    def up(self, name: str) -> Run:
        return self._run(name, plan_up, lambda engine, plan: engine.up(plan), _needs)

    def down(self, name: str) -> Run:
        run = self._run(
            name, plan_down, lambda engine, plan: engine.down(plan), lambda plan: reversed_graph(_needs(plan))
        )
        return self._rescan(run)

    def _run(
        self,
        name: str,
        make_plan: Callable[..., Plan],
        carry_out: Callable[[Engine, Plan], Report],
        graph: Callable[[Plan], Needs],
    ) -> Run:
        self._aws.calls.clear()
        reads: dict[str, float] = {}
        stack = self._resources(reads)
        began, cpu, real = self._clock.now(), time.process_time(), time.monotonic()
        states = read_all(stack)
        read = self._clock.now()
        plan = make_plan(stack, states)
        planned, done = self._clock.now(), len(self._aws.calls)
        report = carry_out(Engine(NullProgress(), clock=self._clock.now), plan)
        wall = self._clock.now() - began
        share = (time.process_time() - cpu) / (time.monotonic() - real)
        needs, calls = graph(plan), list(self._aws.calls)
        reading: Needs = {**dict.fromkeys(reads, ()), "plan": tuple(reads)}
        phases = ((reading, calls[:done]), (needs, calls[done:]))
        slowest = max(reads.values()) + planned - read
        return Run(name, wall, planned - began, slowest, report, needs, phases, share)

    def _rescan(self, run: Run) -> Run:
        """`down` looks again before it says that nothing is left."""
        self._aws.calls.clear()
        reads: dict[str, float] = {}
        stack = self._resources(reads)
        began = self._clock.now()
        left = [step for step, state in read_all(stack).items() if state is not None and step != "image"]
        took = self._clock.now() - began
        if left or (found := crash.inventory()):
            raise SystemExit(f"`down` has left something: {left or found}")
        return replace(
            run,
            wall=run.wall + took,
            reading=run.reading + took,
            slowest_read=run.slowest_read + max(reads.values()),
            phases=(*run.phases, (dict.fromkeys(reads, ()), list(self._aws.calls))),
        )

    def _resources(self, reads: dict[str, float]) -> list[Any]:
        context = Context(
            self._clients,
            crash.NAMES,
            Waiter(NullProgress(), sleep=self._clock.sleep),
            Config.model_validate({"worker": {"handler": "handler:handle"}}),
            lambda api, stage: f"https://{api}.execute-api.{sessions.REGION}.amazonaws.com/{stage}",
        )
        stack = stack_resources(context, GivenImage(crash.IMAGE, "x86_64"))
        return [Watched(resource, self._aws, self._clock, reads) for resource in stack]


def _needs(plan: Plan) -> Needs:
    present = {step.resource.step for step in plan.steps}
    return {step.resource.step: tuple(need for need in step.resource.needs if need in present) for step in plan.steps}


def times(runs: Sequence[Run]) -> str:
    rows: list[tuple[str, str, Callable[[Run], float]]] = [
        ("wall", ".1f", lambda run: run.wall),
        ("of it reading and planning", ".1f", lambda run: run.reading),
        ("critical path: slowest read, then the chain that ended last", ".1f", lambda run: run.critical),
        ("longest path through the graph, with what each step took", ".1f", lambda run: run.longest),
        ("AWS's delays alone, for the same calls", ".1f", lambda run: run.floor),
        ("level by level, computed", ".1f", lambda run: run.levels),
        ("one step after another, computed", ".1f", lambda run: run.serial),
        (f"wall / critical path (goal ≤ {MOST_RATIO:.2f})", ".2f", lambda run: run.wall / run.critical),
        ("wall / longest path", ".2f", lambda run: run.wall / run.longest),
        ("wall / AWS's delays alone", ".2f", lambda run: run.wall / run.floor),
        ("level by level / wall", ".2f", lambda run: run.levels / run.wall),
        ("one step after another / wall", ".2f", lambda run: run.serial / run.wall),
        ("CPU of this process, of the real time", ".0%", lambda run: run.cpu),
    ]
    lines = heading("simulated seconds", runs)
    lines += [f"| {name} | {' | '.join(format(value(run), form) for run in runs)} |" for name, form, value in rows]
    return "\n".join(lines)


def heading(title: str, runs: Sequence[Run]) -> list[str]:
    return [f"| {title} | {' | '.join(f'`{run.name}`' for run in runs)} |", f"| --- |{' ---: |' * len(runs)}"]


def counts(runs: Sequence[Run]) -> str:
    rows: list[tuple[str, Callable[[Call], bool]]] = [
        ("writes", lambda call: not call.is_read and call.outcome == "done"),
        ("reads", lambda call: call.is_read and call.outcome == "done"),
        ("writes refused for a while", lambda call: call.outcome == "refused"),
        ("reads that said not yet", lambda call: call.outcome == "not yet"),
    ]
    lines = heading("calls", runs)
    for name, counted in rows:
        lines.append(f"| {name} | {' | '.join(str(sum(map(counted, run.calls))) for run in runs)} |")
    return "\n".join(lines)


def clients() -> str:
    """Milliseconds for a client of each service, all in one session or each in a session and a thread of its own."""

    def one_session() -> None:
        made = Clients(sessions.session())
        for name in SERVICES:
            made._client(name)

    def session_each() -> None:
        def make(name: str) -> None:
            boto3.session.Session("testing", "testing", region_name=sessions.REGION).client(name)

        with ThreadPoolExecutor(len(SERVICES)) as pool:
            list(pool.map(make, SERVICES))

    best = {}
    for make in (one_session, session_each):
        took = []
        for _ in range(2):
            began = time.perf_counter()
            make()
            took.append(time.perf_counter() - began)
        best[make] = min(took) * 1000
    return (
        f"{len(SERVICES)} clients: {best[one_session]:.0f} ms from one session, "
        f"{best[session_each]:.0f} ms from a session and a thread for each."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=10, help="simulated seconds in a real one (default 10)")
    speed = parser.parse_args().speed
    os.environ["MOTO_ECS_SERVICE_RUNNING"] = "1"
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    mend(setattr)
    with mock_aws():
        made = clients()
        crash.up(sessions.session())  # imports, and what moto makes at a service's first call
        crash.down(sessions.session())
        bench = Bench(speed)
        first, second, down = bench.up("up"), bench.up("up again"), bench.down("down")
    again = {run.name: repeated(run.phases[1][1]) for run in (first, down)}
    goals = {
        f"wall ≤ {MOST_RATIO:.2f} × the critical path": all(
            run.wall <= MOST_RATIO * run.critical for run in (first, down)
        ),
        f"at most {MOST_WRITES} writes for a first `up`": first.writes <= MOST_WRITES,
        "a second `up` only reads": second.writes == 0 and not second.report.changed,
        "no call is made again for nothing": not any(again.values()),
    }
    lines = [
        times([first, down]),
        "",
        counts([first, second, down]),
        "",
        f"Critical path of `up`: {first.path}",
        f"Critical path of `down`: {down.path}",
        *(f"Made again by `{name}`: {', '.join(which)}" for name, which in again.items() if which),
        made,
        *(f"{'met   ' if met else 'MISSED'} {goal}" for goal, met in goals.items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
