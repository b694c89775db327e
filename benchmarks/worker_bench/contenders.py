"""Who is measured: how each is started, with which settings, and how its messages look."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RIVALS = ROOT / "benchmarks" / "rivals"
HANDLERS = Path(__file__).resolve().parent
RIVALS_BIN = ROOT / ".venv-rivals" / "bin"

Encode = Callable[[str, dict[str, Any]], tuple[str, dict[str, Any]]]


@dataclass(frozen=True, eq=False)
class Contender:
    """A worker to start.

    Args:
        settings: What was tuned, for the table.
        encode: A message's body and attributes from a job's id and payload.
    """

    name: str
    settings: str
    command: Sequence[str]
    encode: Encode
    directory: Path = RIVALS
    environment: Mapping[str, str] = field(default_factory=dict)


def with_attributes(job_id: str, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """asyncjobs's own message: the payload as it is, everything else beside it."""
    values = {"jobId": job_id, "contentType": "application/json"}
    return json.dumps(payload), {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


def for_taskiq(job_id: str, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    message = {
        "task_id": job_id,
        "task_name": "job",
        "labels": {},
        "labels_types": {},
        "args": [job_id, payload],
        "kwargs": {},
    }
    return json.dumps(message), {}


def for_dramatiq(job_id: str, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    message = {
        "queue_name": "jobs",
        "actor_name": "job",
        "args": [job_id, payload],
        "kwargs": {},
        "options": {},
        "message_id": job_id,
        "message_timestamp": int(job_id[:13]),
    }
    return encoded(message), {}


def for_celery(job_id: str, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Version 2 of Celery's message protocol in kombu's virtual transport."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    message = {
        "body": encoded([[job_id, payload], {}, embed]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "job", "id": job_id, "root_id": job_id, "ignore_result": True},
        "properties": {
            "correlation_id": job_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "jobs"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": job_id,
        },
    }
    return encoded(message), {}


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


CELERY = Contender(
    "Celery",
    "threads pool of 16, long polls, polling_interval 0, prefetch 4, late acks",
    (
        str(RIVALS_BIN / "celery"),
        *("--app", "celery_jobs", "worker", "--pool", "threads", "--concurrency", "16"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"),
    ),
    for_celery,
)
DRAMATIQ = Contender(
    "dramatiq-sqs",
    "2 processes of 8 threads, prefetch 10",
    (str(RIVALS_BIN / "dramatiq"), "dramatiq_jobs", "--processes", "2", "--threads", "8"),
    for_dramatiq,
)
TASKIQ = Contender(
    "taskiq-aio-sqs",
    "2 processes, receives of 10, 100 async tasks, prefetch 20, uvloop",
    (
        str(RIVALS_BIN / "taskiq"),
        *("worker", "taskiq_jobs:broker", "--workers", "2", "--max-async-tasks", "100", "--max-prefetch", "20"),
        *("--log-level", "WARNING"),
    ),
    for_taskiq,
)
BBC = Contender(
    "BBC sqs-consumer",
    "1 process, 8 consumers, batches of 10, batch handler, keep-alive",
    ("node", "bbc.mjs"),
    with_attributes,
)
RIVALS_ALL = (CELERY, DRAMATIQ, TASKIQ, BBC)


# Ends them all with SIGTERM, which the worker takes for the end of its task.
_SEVERAL = """trap 'trap - TERM; kill 0' TERM; for _ in $(seq "$1"); do "$0" -m asyncjobs.worker & done; wait"""


def asyncjobs(
    python: str, mode: str, slots: int, extra: Mapping[str, str] | None = None, processes: int = 1
) -> Contender:
    """Our worker.

    Args:
        python: The interpreter whose `asyncjobs` is measured; "" for this one.
        mode: "thread", "async" or "process".
        processes: As many workers side by side, as a service of so many tasks has them.
    """
    handler = "handlers:handle_async" if mode == "async" else "handlers:handle"
    environment = {
        "ASYNCJOBS_QUEUE_URL": "",
        "ASYNCJOBS_TABLE": "jobs",
        "ASYNCJOBS_BUCKET": "unused",
        "ASYNCJOBS_HANDLER": handler,
        "ASYNCJOBS_ISOLATION": "process" if mode == "process" else "thread",
        "ASYNCJOBS_CONCURRENCY": str(slots),
    }
    command: Sequence[str] = (python or sys.executable, "-m", "asyncjobs.worker")
    settings = f"{slots} slots"
    if processes > 1:
        command = ("sh", "-c", _SEVERAL, python or sys.executable, str(processes))
        settings = f"{processes} processes, {slots} slots each"
    name = {"thread": "thread handler", "async": "async handler", "process": "process isolation"}[mode]
    return Contender(
        f"asyncjobs, {name}", settings, command, with_attributes, HANDLERS, environment | dict(extra or {})
    )
