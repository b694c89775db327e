"""A job with its two updates by boto3, for the workers whose tasks are plain functions."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import boto3
import updates
from botocore.config import Config


@cache
def table() -> Any:
    return boto3.client("dynamodb", config=Config(max_pool_connections=64))


def run(job_id: str, payload: dict[str, Any]) -> None:
    token, request = updates.claim(job_id)
    table().update_item(**request)
    result = updates.handle(payload)
    table().update_item(**updates.finish(job_id, token, json.dumps(result)))
