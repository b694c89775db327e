"""Runs nodes of a dependency graph as soon as what they need is done, in a pool of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from typing import TypeVar

T = TypeVar("T")


def run_graph(
    needs: Mapping[str, tuple[str, ...]], work: Callable[[str], T], *, halted: Callable[[], bool] = lambda: False
) -> tuple[dict[str, T], dict[str, Exception], list[str]]:
    """Run `work(node)` for each node, after all that the node needs has succeeded.

    A node's failure stops those that need it, directly or not; all others still run. Once `halted()`, or on
    KeyboardInterrupt, nothing new is started and what runs is waited for; an interrupt is then raised again.

    Returns:
        Results by node, errors by node, and the nodes that were skipped because of an error or a halt.
    """
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    results: dict[str, T] = {}
    errors: dict[str, Exception] = {}
    skipped: list[str] = []
    # A thread for each node: one that waits for AWS must not keep another from starting.
    with ThreadPoolExecutor(max_workers=len(needs) or 1, thread_name_prefix="step") as pool:
        running: dict[Future[T], str] = {}
        while sorter.is_active():
            for node in sorter.get_ready():
                if halted() or any(need in errors or need in skipped for need in needs[node]):
                    skipped.append(node)
                    sorter.done(node)
                else:
                    running[pool.submit(work, node)] = node
            if not running:
                continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                node = running.pop(future)
                try:
                    results[node] = future.result()
                except Exception as error:
                    errors[node] = error
                sorter.done(node)
    return results, errors, skipped


def reversed_graph(needs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The graph for deleting: a node waits for all that need it."""
    dependents: dict[str, list[str]] = {node: [] for node in needs}
    for node, wanted in needs.items():
        for need in wanted:
            dependents[need].append(node)
    return {node: tuple(others) for node, others in dependents.items()}
