"""The job record in the table.

No boto3 here: items are plain dictionaries in DynamoDB's wire form (`{"jobId": {"S": "..."}}`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

Item = Mapping[str, Mapping[str, Any]]

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"
TERMINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})

# Listing by status reads one partition per shard: a single one would take every state change of the stack,
# and DynamoDB gives a partition 1,000 writes a second.
INDEX_NAME = "by-status"
SHARDS = 8
_SHARD_KEYS = {status: [f"{status}#{shard}" for shard in range(SHARDS)] for status in (QUEUED, RUNNING, *TERMINAL)}
INDEX_ATTRIBUTES = (
    "status",
    "submittedAt",
    "startedAt",
    "finishedAt",
    "attempt",
    "maxAttempts",
    "contentType",
    "progress",
    "error",
    "expiresAt",
)

# What costs least: a write of a record costs a unit per KiB each time, a PUT into S3 as much as about eight units.
# A job is written three times or more, so beyond some 4 KiB the payload is cheaper in S3.
PAYLOAD_IN_RECORD = 4 * 1024
# GET answers from the record alone, so results stay in it as long as DynamoDB's 400 KB for an item allow.
RESULT_IN_RECORD = 256 * 1024


def shard_key(status: str, job_id: str) -> str:
    """The partition of the listing index a job belongs to."""
    return _SHARD_KEYS[status][zlib.crc32(job_id.encode()) % SHARDS]


# What happens in a turn of a worker's loop has one time.
@lru_cache(maxsize=16)
def iso_time(epoch_ms: int) -> str:
    """ISO 8601 UTC with milliseconds: 2026-11-23T06:43:52.123Z."""
    return f"{_second(epoch_ms // 1000)}.{epoch_ms % 1000:03d}Z"


@lru_cache(maxsize=16)
def _second(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
