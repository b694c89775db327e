"""The order of the files: with `--dist loadfile` one that begins last is waited for."""

from __future__ import annotations

import pytest

# The longest first, and beside one that mostly waits (for tasks, leases, containers) some that are all computing, so
# that neither the cores nor the processes of `-n 3` are idle; the order within a file is its own.
LONGEST = (
    "test_docker_local.py",
    "test_journey_engine.py",
    "test_job_store.py",
    "test_behaviours.py",
    "test_journey_stacks.py",
    "test_cli.py",
    "test_stack.py",
    "test_journey_jobs.py",
    "test_commands.py",
    "test_worker_process.py",
    "test_frontend.py",
    "test_docker_image.py",
    "test_run_handler.py",
    "test_python_image.py",
    "test_mapping_templates.py",
    "test_docker_local_python.py",
    "test_neighbours.py",
    "test_python_builder.py",
    "test_conformance.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
