from __future__ import annotations

import threading

import pytest

from asyncjobs.provision.graph import reversed_graph, run_graph

DIAMOND = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}


def test_a_node_runs_after_all_it_needs():
    order: list[str] = []
    results, errors, skipped = run_graph(DIAMOND, lambda node: order.append(node) or node.upper())
    assert order[0] == "a"
    assert order[-1] == "d"
    assert results == {node: node.upper() for node in DIAMOND}
    assert (errors, skipped) == ({}, [])


def test_a_node_does_not_wait_for_the_level_before_it():
    """`late` needs only `quick`, so it runs while `slow`, of quick's own level, is still at work."""
    late_ran = threading.Event()

    def work(node: str) -> None:
        if node == "slow":
            assert late_ran.wait(10), "late waited for slow"
        if node == "late":
            late_ran.set()

    _, errors, _ = run_graph({"quick": (), "slow": (), "late": ("quick",)}, work)
    assert errors == {}


def test_independent_nodes_run_at_the_same_time():
    meeting = threading.Barrier(3)
    _, errors, _ = run_graph({"a": (), "b": (), "c": ()}, lambda node: meeting.wait(10))
    assert errors == {}


def test_a_failure_stops_only_what_depends_on_it():
    def work(node: str) -> str:
        if node == "b":
            raise ValueError("no")
        return node

    results, errors, skipped = run_graph({**DIAMOND, "e": ("d",), "f": ("c",)}, work)
    assert set(results) == {"a", "c", "f"}
    assert list(errors) == ["b"]
    assert sorted(skipped) == ["d", "e"]


def test_deleting_goes_the_other_way():
    assert reversed_graph(DIAMOND) == {"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ()}


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        run_graph({"a": ("b",), "b": ("a",)}, lambda node: node)
