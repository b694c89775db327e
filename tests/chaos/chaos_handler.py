"""The job of a chaos run: one line in the side log for each execution, and a result that says which one it was."""

from __future__ import annotations

import os
from typing import Any

from side_log import note


def handle(job: Any) -> dict[str, Any]:
    note(f"{job.id} {job.attempt} {os.getpid()}")
    return {"job": job.id, "attempt": job.attempt}
