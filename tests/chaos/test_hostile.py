"""A few handlers of each hostile kind; `make chaos` has the whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos_driver import standin
from hostile import Plan, run


def test_hostile_handlers_end_as_themselves_and_harm_no_neighbour(tmp_path: Path) -> None:
    if not standin.has_compiler():
        pytest.skip("rustc, which compiles the stand-in, is not here")
    verdict = run(Plan(good=20, each=1, workers=1, timeout=1), tmp_path / "executions.log", tmp_path / "workers.log")
    assert (verdict.wrong, verdict.again, verdict.strayed) == ([], [], 0), verdict
