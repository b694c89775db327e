"""Celery on SQS, as its documents advise for tasks that wait: long polls, no pause between them, acknowledged late.

https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/sqs.html
"""

from __future__ import annotations

import os
from typing import Any

import boto_job
from celery import Celery

app = Celery("jobs", broker="sqs://")
app.conf.update(
    task_default_queue="jobs",
    broker_transport_options={
        "region": os.environ["AWS_REGION"],
        "wait_time_seconds": 20,
        "polling_interval": 0,
        "visibility_timeout": 60,
        "predefined_queues": {"jobs": {"url": os.environ["QUEUE_URL"]}},
    },
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="job")
def job(job_id: str, payload: dict[str, Any]) -> None:
    boto_job.run(job_id, payload)
