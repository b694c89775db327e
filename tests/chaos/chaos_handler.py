"""The job of a chaos run: one line in the side log for each execution, and a result that says which one it was."""

from __future__ import annotations

import os
from typing import Any


def handle(job: Any) -> dict[str, Any]:
    # One write to a file opened for appending: lines of processes that die stay whole.
    log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND)
    os.write(log, f"{job.id} {job.attempt} {os.getpid()}\n".encode())
    os.close(log)
    return {"job": job.id, "attempt": job.attempt}
