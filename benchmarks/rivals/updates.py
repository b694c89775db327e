"""The two record updates of a job, as asyncjobs makes them: a claim with a fencing token, and a finish on it."""

from __future__ import annotations

import time
import uuid
from typing import Any

TABLE = "jobs"
LEASE_MS = 30_000

FREE = "attribute_not_exists(jobId) OR #status = :queued OR (#status = :running AND #leaseUntil < :now)"
OURS = "#status = :running AND #leaseToken = :token AND #leaseUntil >= :now"


def handle(payload: dict[str, Any]) -> dict[str, Any]:
    """The job."""
    return {"seen": payload["number"]}


def claim(job_id: str) -> tuple[str, dict[str, Any]]:
    """The token, and the arguments of UpdateItem."""
    token, now = str(uuid.uuid4()), int(time.time() * 1000)
    return token, {
        "TableName": TABLE,
        "Key": {"jobId": {"S": job_id}},
        "UpdateExpression": "SET #status = :running, #leaseToken = :token, #leaseUntil = :until, #startedAt = :now,"
        " #attempt = if_not_exists(#attempt, :zero) + :one REMOVE #finishedAt",
        "ConditionExpression": FREE,
        "ExpressionAttributeNames": {
            f"#{name}": name for name in ("status", "leaseToken", "leaseUntil", "startedAt", "attempt", "finishedAt")
        },
        "ExpressionAttributeValues": {
            ":queued": {"S": "QUEUED"},
            ":running": {"S": "RUNNING"},
            ":token": {"S": token},
            ":until": {"N": str(now + LEASE_MS)},
            ":now": {"N": str(now)},
            ":zero": {"N": "0"},
            ":one": {"N": "1"},
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def finish(job_id: str, token: str, result: str) -> dict[str, Any]:
    """The arguments of UpdateItem."""
    now = int(time.time() * 1000)
    return {
        "TableName": TABLE,
        "Key": {"jobId": {"S": job_id}},
        "UpdateExpression": "SET #status = :done, #result = :result, #finishedAt = :now REMOVE #leaseUntil",
        "ConditionExpression": OURS,
        "ExpressionAttributeNames": {
            f"#{name}": name for name in ("status", "result", "finishedAt", "leaseUntil", "leaseToken")
        },
        "ExpressionAttributeValues": {
            ":done": {"S": "SUCCEEDED"},
            ":result": {"S": result},
            ":running": {"S": "RUNNING"},
            ":token": {"S": token},
            ":now": {"N": str(now)},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
