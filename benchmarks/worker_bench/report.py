"""Medians, ratios to the rivals, and the goals, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from worker_bench.contenders import BBC, TASKIQ, Contender
from worker_bench.run import Figures


def median(runs: Sequence[Figures]) -> Figures:
    """Each figure's own median."""
    return Figures(*(statistics.median(getattr(run, one.name) for run in runs) for one in fields(Figures)))


QUIET = 0.3  # cores busy elsewhere
Results = Mapping[Contender, Figures]


def table(results: Results) -> str:
    lines = [
        "| worker | settings | jobs/s | ÷ taskiq | ÷ BBC | CPU s / 1,000 | ÷ taskiq | MB | calls/job | p50 ms | p99 ms "
        "| cores busy elsewhere |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    taskiq, bbc = results.get(TASKIQ), results.get(BBC)
    for contender, one in results.items():
        lines.append(
            f"| {contender.name} | {contender.settings} | {one.jobs_per_second:,.0f} "
            f"| {_ratio(one.jobs_per_second, taskiq and taskiq.jobs_per_second)} "
            f"| {_ratio(one.jobs_per_second, bbc and bbc.jobs_per_second)} | {one.cpu_per_1000:.2f} "
            f"| {_ratio(one.cpu_per_1000, taskiq and taskiq.cpu_per_1000)} | {one.memory:.0f} "
            f"| {one.calls_per_job:.2f} | {one.p50 * 1000:.0f} | {one.p99 * 1000:.0f} | {one.elsewhere:.1f} |"
        )
    return "\n".join(lines)


def is_quiet(results: Results) -> bool:
    """Whether the machine was the workers' own: one of two processes loses more to others' work than one of one."""
    return all(one.elsewhere <= QUIET for one in results.values())


def _ratio(value: float, other: float | None) -> str:
    return f"{value / other:.2f}" if other else ""


def slots_table(results: Mapping[tuple[str, int], Figures]) -> str:
    """How each kind of slot goes from few to many."""
    modes = list(dict.fromkeys(mode for mode, _ in results))
    lines = [
        "| slots | " + " | ".join(f"{mode}: jobs/s | CPU s / 1,000 | MB" for mode in modes) + " |",
        "| ---: |" + " ---: | ---: | ---: |" * len(modes),
    ]
    for count in dict.fromkeys(slots for _, slots in results):
        cells = (results[mode, count] for mode in modes)
        row = " | ".join(f"{one.jobs_per_second:,.0f} | {one.cpu_per_1000:.2f} | {one.memory:.0f}" for one in cells)
        lines.append(f"| {count} | {row} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Goal:
    """A goal of the project, and what was measured."""

    words: str
    value: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def goals(contender: Contender, results: Results, times_taskiq: float, processes: int) -> list[Goal]:
    """What one of our workers has to reach; empty where a rival was left out."""
    ours, taskiq, bbc = results[contender], results.get(TASKIQ), results.get(BBC)
    if taskiq is None or bbc is None:
        return []
    name = f"{contender.name}, {contender.settings}"
    times, cpu = ours.jobs_per_second / taskiq.jobs_per_second, ours.cpu_per_1000 / taskiq.cpu_per_1000
    return [
        Goal(f"{name}: jobs/s ≥ {times_taskiq:g} × taskiq's", times, times_taskiq, True),
        Goal(f"{name}: jobs/s ≥ 3 × BBC's", ours.jobs_per_second / bbc.jobs_per_second, 3, True),
        Goal(f"{name}: CPU ≤ 1/6 of taskiq's", cpu, 1 / 6, False),
        Goal(f"{name}: ≤ 60 MB a process", ours.memory / processes, 60, False),
    ]


def goals_table(found: Sequence[Goal]) -> str:
    lines = ["| goal | measured | |", "| --- | ---: | --- |"]
    lines += [f"| {one.words} | {one.value:.2f} | {'met' if one.met else 'MISSED'} |" for one in found]
    return "\n".join(lines)
