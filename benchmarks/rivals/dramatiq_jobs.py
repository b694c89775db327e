"""dramatiq with dramatiq-sqs: one process a core and eight threads in each, which are its defaults."""

from __future__ import annotations

from typing import Any

import boto_job
import dramatiq
from dramatiq.middleware import AgeLimit, Callbacks, Pipelines, Retries, ShutdownNotifications, TimeLimit
from dramatiq_sqs import SQSBroker

# The middleware that dramatiq-sqs's README shows: without Prometheus.
MIDDLEWARE = [AgeLimit(), TimeLimit(), Callbacks(), Pipelines(), Retries(), ShutdownNotifications()]

broker = SQSBroker(middleware=MIDDLEWARE, visibility_timeout=60)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="job", queue_name="jobs")
def job(job_id: str, payload: dict[str, Any]) -> None:
    boto_job.run(job_id, payload)
