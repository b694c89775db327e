"""A small chaos run; `make chaos` has the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Plan, run
from chaos_driver import standin

SMALL = Plan(jobs=300, workers=3, kills=10, stops=3, seconds=8, most_seconds=60)


@pytest.mark.parametrize("fault_rate", [0, 0.1])
def test_workers_that_are_killed_and_paused_lose_and_overwrite_nothing(tmp_path: Path, fault_rate: float) -> None:
    if not standin.has_compiler():
        pytest.skip("rustc, which compiles the stand-in, is not here")
    plan = Plan(**{**vars(SMALL), "fault_rate": fault_rate})
    verdict = run(plan, tmp_path / "executions.log", tmp_path / "workers.log")
    assert (verdict.lost, verdict.twice, verdict.overwritten) == ([], [], []), verdict
    assert verdict.statuses == {"SUCCEEDED": plan.jobs}
    # A disturbed worker can make only what it was running be run again.
    assert verdict.extra <= (plan.kills + plan.stops) * plan.slots
