"""What `benchmarks/up.py` divides by: a goal is worth no more than its yardstick."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from paths import delays_alone, level_by_level, longest_path, repeated
from slow_aws import Call

# a ── b ── d, and c beside them
NEEDS = {"a": (), "b": ("a",), "c": (), "d": ("b",)}
SECONDS = {"a": 1.0, "b": 5.0, "c": 4.0, "d": 2.0}


def call(step: str, operation: str, sent: str = "", **settings: Any) -> Call:
    return Call(step, operation, sent, **{"latency": 0.1, "waits": (), "outcome": "done", **settings})


def test_the_longest_path():
    assert longest_path(NEEDS, SECONDS) == 8


def test_levels_wait_for_their_slowest():
    assert level_by_level(NEEDS, SECONDS) == 4 + 5 + 2


def test_aws_alone_waits_until_a_new_role_is_known():
    calls = [
        call("a", "CreateRole"),
        call("b", "CreateService", waits=("roles known",), outcome="refused"),
        call("b", "CreateService", waits=("roles known",)),
    ]
    graph = {"a": (), "b": ("a",)}
    assert delays_alone([(graph, calls)]) == pytest.approx(0.1 + 10 + 0.1)
    assert delays_alone([(graph, calls), ({"c": ()}, [call("c", "GetRole")])]) == pytest.approx(10.3)


def test_aws_alone_runs_steps_side_by_side():
    calls = [call(step, "DescribeTable", str(number)) for step in "abc" for number in range(3)]
    assert delays_alone([({"a": (), "b": (), "c": ()}, calls)]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([call("a", "GetRole"), call("a", "GetRole")], ["a GetRole"]),
        ([call("a", "GetRole"), call("b", "GetRole")], []),
        ([call("a", "GetRole", "x"), call("a", "GetRole", "y")], []),
        ([call("a", "GetRole"), call("a", "CreateRole"), call("a", "GetRole")], []),
        ([call("a", "CreateRole"), call("a", "GetRole"), call("a", "CreateRole")], ["a CreateRole"]),
        ([call("a", "GetRole", outcome="not yet"), call("a", "GetRole")], []),
    ],
)
def test_what_is_called_again_for_nothing(calls: list[Call], found: list[str]):
    assert repeated(calls) == found
