from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from velocity_engine import Velocity


@pytest.fixture(scope="session")
def velocity() -> Velocity:
    pytest.importorskip("jpype", reason="jpype1 is not installed")
    import velocity_engine

    missing = [str(jar) for jar in velocity_engine.JARS if not jar.exists()]
    if missing:
        pytest.skip(f"Apache Velocity is not installed (apt-get install velocity): no {', '.join(missing)}")
    if shutil.which("java") is None:
        pytest.skip("there is no java on this machine")
    return velocity_engine.Velocity()
