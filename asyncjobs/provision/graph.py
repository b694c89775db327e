"""Runs nodes of a dependency graph as soon as what they need is done, in a pool of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from typing import TypeVar

T = TypeVar("T")


def run_graph(
    needs: Mapping[str, tuple[str, ...]], work: Callable[[str], T], *, workers: int = 12
) -> tuple[dict[str, T], dict[str, Exception], list[str]]:
    """Run `work(node)` for each node, after all that the node needs has succeeded.

    A node's failure stops those that need it, directly or not; all others still run. On KeyboardInterrupt nothing
    new is started, what runs is waited for, and the interrupt is raised again.

    Returns:
        Results by node, errors by node, and the nodes that were skipped because of an error.
    """
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    results: dict[str, T] = {}
    errors: dict[str, Exception] = {}
    skipped: list[str] = []
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="step") as pool:
        running: dict[Future[T], str] = {}
        while sorter.is_active():
            for node in sorter.get_ready():
                if any(need in errors or need in skipped for need in needs[node]):
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
