"""`python -m asyncjobs.worker`: what a task runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from queue import SimpleQueue

import boto3
from botocore.config import Config

from asyncjobs.errors import ExitCode
from asyncjobs.jobs.queue import SqsJobQueue
from asyncjobs.jobs.store import DynamoJobStore
from asyncjobs.worker import thread_output
from asyncjobs.worker.command_slot import CommandSlot
from asyncjobs.worker.executor import Slot, StartError
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.logs import Log
from asyncjobs.worker.loop import Worker
from asyncjobs.worker.payloads import S3ObjectStore
from asyncjobs.worker.process_slot import ProcessSlot
from asyncjobs.worker.runner import Runner
from asyncjobs.worker.settings import Settings, SettingsError
from asyncjobs.worker.thread_slot import ThreadSlot

# Shorter than SQS's 20 s: a worker that is told to stop waits for its last poll, and an empty poll costs little.
POLL_SECONDS = 5


def main() -> int:
    log = Log()
    try:
        settings = Settings.of(os.environ)
    except SettingsError as error:
        for line in str(error).splitlines():
            log.error(line)
        return ExitCode.CONFIG
    worker = build(settings, log)
    _stop_on_signals(worker)
    try:
        worker.run()
    except StartError:
        return ExitCode.CONFIG
    except Exception as error:
        log.error(f"the worker cannot go on: {error!r}", traceback=traceback.format_exc())
        return ExitCode.UNEXPECTED
    return ExitCode.OK


def _stop_on_signals(worker: Worker) -> None:
    """SIGTERM and SIGINT stop the worker; explicitly, because as PID 1 a process has no default handlers."""
    # A handler runs in the middle of whatever the main thread does, so it may take no lock: SimpleQueue.put is one of
    # the few things that are safe there.
    received: SimpleQueue[int] = SimpleQueue()

    def listen() -> None:
        while True:
            received.get()
            worker.stop()

    threading.Thread(target=listen, name="signals", daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, _frame: received.put(signum))


def build(settings: Settings, log: Log) -> Worker:
    """A worker on AWS, as the environment configures boto3."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 4},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=2 * settings.concurrency + 8,
    )
    session = boto3.session.Session()
    queue = SqsJobQueue(
        session.client("sqs", config=config),
        settings.queue_url,
        lease_seconds=settings.lease,
        wait_seconds=POLL_SECONDS,
    )
    store = DynamoJobStore(
        session.client("dynamodb", config=config),
        settings.table,
        lease_seconds=settings.lease,
        max_attempts=settings.max_attempts,
        result_days=settings.result_days,
    )
    objects = S3ObjectStore(session.client("s3", config=config), settings.bucket)
    keeper = Keeper(store, queue, log, lease_seconds=settings.lease)
    runner = Runner(queue, store, objects, keeper, log, timeout=settings.timeout, max_attempts=settings.max_attempts)
    slots = [_slot(settings, log) for _ in range(settings.concurrency)]
    if settings.isolation == "thread" and not settings.command:
        thread_output.install(log)
    return Worker(queue, runner, keeper, slots, log, stop_timeout=settings.stop_timeout)


def _slot(settings: Settings, log: Log) -> Slot:
    if settings.command:
        return CommandSlot(settings.command, log)
    return ThreadSlot(settings.handler) if settings.isolation == "thread" else ProcessSlot(settings.handler, log)


if __name__ == "__main__":
    sys.exit(main())
