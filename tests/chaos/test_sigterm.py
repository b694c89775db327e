"""A few workers told to leave; `make chaos` has the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos_driver import standin
from sigterm import Plan, run


def test_workers_that_leave_take_nothing_with_them(tmp_path: Path) -> None:
    if not standin.has_compiler():
        pytest.skip("rustc, which compiles the stand-in, is not here")
    plan = Plan(terms=4, workers=2, slots=2, every=1, stop_timeout=1, most_seconds=60)
    verdict = run(plan, tmp_path / "executions.log", tmp_path / "workers.log")
    assert (verdict.codes, verdict.stray, verdict.in_flight, verdict.unlike) == ([], 0, 0, []), verdict
