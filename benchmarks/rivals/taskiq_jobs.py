"""taskiq with taskiq-aio-sqs and aiobotocore: receives of ten, the event loop full of tasks, a pool as wide as they."""

from __future__ import annotations

import json
import os
from typing import Any

import updates
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_sqs import SQSBroker

broker = SQSBroker(
    "jobs",
    endpoint_url=os.environ["AWS_ENDPOINT_URL"],
    region_name=os.environ["AWS_REGION"],
    aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    max_number_of_messages=10,
    wait_time_seconds=20,
    visibility_timeout=60,
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def connect(state: TaskiqState) -> None:
    config = AioConfig(max_pool_connections=100)
    state.context = get_session().create_client("dynamodb", config=config)
    state.table = await state.context.__aenter__()


@broker.task(task_name="job")
async def job(job_id: str, payload: dict[str, Any]) -> None:
    table = broker.state.table
    token, request = updates.claim(job_id)
    await table.update_item(**request)
    result = updates.handle(payload)
    await table.update_item(**updates.finish(job_id, token, json.dumps(result)))
