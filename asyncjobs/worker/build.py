"""Puts a worker together for AWS, as the environment configures boto3."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.utils import get_environ_proxies

from asyncjobs.jobs.api import Api, BotoApi
from asyncjobs.jobs.endpoints import endpoint_of
from asyncjobs.jobs.lean import CredentialSource, LeanApi, open_http
from asyncjobs.jobs.queue import SqsJobQueue
from asyncjobs.jobs.store import DynamoJobStore
from asyncjobs.worker import thread_output
from asyncjobs.worker.command_slot import CommandSlot
from asyncjobs.worker.dead_letters import VISIBILITY_SECONDS, DeadLetters
from asyncjobs.worker.executor import InThread, Slot
from asyncjobs.worker.health import serve
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.logs import Log
from asyncjobs.worker.loop import Worker
from asyncjobs.worker.metrics import PERIOD_SECONDS, Metrics
from asyncjobs.worker.payloads import MOST_CONNECTIONS, S3ObjectStore
from asyncjobs.worker.process_slot import ProcessSlot
from asyncjobs.worker.protection import AgentProtection, NoProtection, Protection, agent_put
from asyncjobs.worker.runner import Runner
from asyncjobs.worker.settings import Settings
from asyncjobs.worker.slots import SlotPool
from asyncjobs.worker.thread_slot import HandlerLoop, ThreadSlot
from asyncjobs.worker.workspace import workspace

# Shorter than SQS's 20 s: a worker that is told to stop waits for its last poll, and an empty poll costs little.
POLL_SECONDS = 5
STUCK_SECONDS = 60.0  # without a look at the leases, and the worker is not well
_TARGETS = {"sqs": "AmazonSQS", "dynamodb": "DynamoDB_20120810"}


@asynccontextmanager
async def build(settings: Settings, env: Mapping[str, str], log: Log) -> AsyncIterator[Worker]:
    """A worker, and what it needs as long as it runs."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=2 * settings.concurrency + 8,
    )
    session = botocore.session.get_session()
    async with AsyncExitStack() as stack:
        sqs, dynamodb = await _apis(settings, session, config, stack)
        # A poll under way when the worker is told to leave is waited for: cut off, it could take messages with it.
        poll_seconds = min(POLL_SECONDS, int(settings.stop_timeout))
        queue = SqsJobQueue(
            sqs,
            settings.queue_url,
            bucket=settings.bucket,
            lease_seconds=settings.lease,
            wait_seconds=poll_seconds,
        )
        store = DynamoJobStore(
            dynamodb,
            settings.table,
            lease_seconds=settings.lease,
            max_attempts=settings.max_attempts,
            result_days=settings.result_days,
            coalesce=0 if isinstance(dynamodb, BotoApi) else 2,
        )
        objects = S3ObjectStore(lambda: _s3(session, config), settings.bucket)
        keeper = Keeper(store, queue, log, lease_seconds=settings.lease)
        metrics = Metrics(log, stack=env.get("ASYNCJOBS_STACK", ""))
        runner = Runner(
            queue,
            store,
            objects,
            keeper,
            log,
            metrics,
            directory=stack.enter_context(workspace()),
            timeout=settings.timeout,
            max_attempts=settings.max_attempts,
        )
        uri = env.get("ECS_AGENT_URI", "")
        protection: Protection = AgentProtection(agent_put(uri), log) if uri else NoProtection()
        if settings.health_port:
            await _serve_health(settings.health_port, keeper, log, stack)
        yield Worker(
            queue,
            runner,
            keeper,
            _slots(settings, log),
            log,
            stop_timeout=settings.stop_timeout,
            protection=protection,
            beside=[
                _every(PERIOD_SECONDS, lambda pool: _write(metrics, pool)),
                _every(5, lambda pool: protection.tend(pool.busy > 0)),
                *_dead_letters(settings, sqs, store, objects, log),
            ],
        )


def _s3(session: Any, config: Config) -> Any:
    # boto3's, because botocore's own knows nothing of uploading in parts.
    enough = config.merge(Config(max_pool_connections=MOST_CONNECTIONS))
    return boto3.session.Session(botocore_session=session).client("s3", config=enough)


def _dead_letters(
    settings: Settings, sqs: Api, store: DynamoJobStore, objects: S3ObjectStore, log: Log
) -> list[Callable[[SlotPool], Awaitable[None]]]:
    if not settings.dead_letter_queue_url:
        return []
    queue = SqsJobQueue(
        sqs,
        settings.dead_letter_queue_url,
        bucket=settings.bucket,
        lease_seconds=VISIBILITY_SECONDS,
        wait_seconds=1,
    )
    dead_letters = DeadLetters(queue, store, objects, log)
    return [lambda _: dead_letters.run()]


async def _write(metrics: Metrics, pool: SlotPool) -> None:
    metrics.write(pool.size, pool.busy)


def _every(seconds: float, act: Callable[[SlotPool], Awaitable[None]]) -> Callable[[SlotPool], Awaitable[None]]:
    async def run(pool: SlotPool) -> None:
        while True:
            await asyncio.sleep(seconds)
            await act(pool)

    return run


async def _serve_health(port: int, keeper: Keeper, log: Log, stack: AsyncExitStack) -> None:
    try:
        server = await serve(port, lambda: time.monotonic() - keeper.ticked < STUCK_SECONDS)
    except OSError as error:
        # Of several workers on one machine only one can have it; none of them is asked there.
        log.warning(f"no health check on port {port}: {error}")
        return
    stack.callback(server.close)


async def _apis(settings: Settings, session: Any, config: Config, stack: AsyncExitStack) -> tuple[Api, Api]:
    """SQS and DynamoDB."""
    endpoints = {service: endpoint_of(session, service, config) for service in _TARGETS}
    # The lean client knows no proxies, and boto3 does.
    if settings.client == "boto3" or any(get_environ_proxies(url) for url, _ in endpoints.values()):
        threads = ThreadPoolExecutor(2 * settings.concurrency + 8, thread_name_prefix="boto3")
        stack.callback(threads.shutdown, wait=False)
        return (
            BotoApi(session.create_client("sqs", config=config), threads),
            BotoApi(session.create_client("dynamodb", config=config), threads),
        )
    http = open_http(session.get_config_variable("ca_bundle"))
    stack.callback(http.close)
    credentials = CredentialSource(session.get_credentials())

    def lean(service: str) -> LeanApi:
        endpoint, region = endpoints[service]
        return LeanApi(http, endpoint, service, region, _TARGETS[service], credentials)

    return lean("sqs"), lean("dynamodb")


def _slots(settings: Settings, log: Log) -> list[Slot]:
    if settings.command:
        return [InThread(CommandSlot(settings.command, log)) for _ in range(settings.concurrency)]
    if settings.isolation == "process":
        return [InThread(ProcessSlot(settings.handler, log)) for _ in range(settings.concurrency)]
    thread_output.install(log)
    handlers = HandlerLoop()
    return [ThreadSlot(settings.handler, handlers) for _ in range(settings.concurrency)]
