"""Times of a graph of steps: what it takes in other orders, and what AWS alone would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter

from slow_aws import GATES, Call

Needs = Mapping[str, tuple[str, ...]]
Seconds = Mapping[str, float]


def longest_path(needs: Needs, seconds: Seconds) -> float:
    """What it takes when each step starts the moment that all it needs is done."""
    ends: dict[str, float] = {}
    for step in TopologicalSorter(needs).static_order():
        ends[step] = max((ends[need] for need in needs[step]), default=0.0) + seconds.get(step, 0.0)
    return max(ends.values(), default=0.0)


def level_by_level(needs: Needs, seconds: Seconds) -> float:
    """What it takes when all that can start is started together, and the next only when all of that is done."""
    sorter, total = TopologicalSorter(needs), 0.0
    sorter.prepare()
    while sorter.is_active():
        level = sorter.get_ready()
        total += max(seconds.get(step, 0.0) for step in level)
        sorter.done(*level)
    return total


def delays_alone(phases: Sequence[tuple[Needs, Sequence[Call]]]) -> float:
    """The same calls in the same graphs with nothing but AWS's own delays: no CPU, and each wait ends to the instant.

    Calls that were refused, or answered that it is not so yet, are left out: with perfect timing nobody makes them.

    Args:
        phases: Graphs that run one after the other, each with the calls made for its steps.
    """
    now, opens = 0.0, dict.fromkeys(GATES, 0.0)
    for needs, calls in phases:
        ends: dict[str, float] = {}
        for step in TopologicalSorter(needs).static_order():
            at = max((ends[need] for need in needs[step]), default=now)
            for call in (one for one in calls if one.step == step and one.outcome == "done"):
                at = max([at, *(opens[gate] for gate in call.waits)]) + call.latency
                opens |= {name: at + gate.seconds for name, gate in GATES.items() if gate.opener == call.operation}
            ends[step] = at
        now = max(ends.values(), default=now)
    return now


def repeated(calls: Sequence[Call]) -> list[str]:
    """Calls that a step made again though nothing that it wrote meanwhile could have changed the answer."""
    found: set[str] = set()
    reads: set[tuple[str, str, str]] = set()
    writes: set[tuple[str, str, str]] = set()
    for call in calls:
        if call.outcome != "done":
            continue
        key = (call.step, call.operation, call.sent)
        if key in reads | writes:
            found.add(f"{call.step} {call.operation}")
        if call.is_read:
            reads.add(key)
        else:
            writes.add(key)
            reads = {one for one in reads if one[0] != call.step}
    return sorted(found)
