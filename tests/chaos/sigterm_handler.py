"""The job of a run of SIGTERMs: works for as many seconds as its payload says, and notes who started it and when."""

from __future__ import annotations

import os
import time
from typing import Any

from side_log import note


def handle(job: Any) -> dict[str, Any]:
    note(f"start {job.id} {os.getppid()} {time.time()}")
    time.sleep(float(job.text))
    return {"job": job.id, "attempt": job.attempt}
