"""A job's record as its callers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_HIDDEN = {"leaseToken", "leaseUntil", "generation", "payload", "payloadLocation", "expiresAt", "statusShard"}


def job_of(item: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that are not the worker's own, as plain values, and the result as the value it is."""
    job = {name: _plain(value) for name, value in item.items() if name not in _HIDDEN}
    if "result" in job:
        job["result"] = json.loads(job["result"])
    return job


def _plain(value: Mapping[str, Any]) -> Any:
    if "M" in value:
        return {name: _plain(inner) for name, inner in value["M"].items()}
    return json.loads(value["N"]) if "N" in value else value["S"]
