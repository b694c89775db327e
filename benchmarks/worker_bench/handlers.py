"""The job that asyncjobs's worker runs: the same as the rivals' `updates.handle`."""

from __future__ import annotations

from typing import Any


def handle(job: Any) -> dict[str, Any]:
    return {"seen": job.json()["number"]}


async def handle_async(job: Any) -> dict[str, Any]:
    return {"seen": job.json()["number"]}
