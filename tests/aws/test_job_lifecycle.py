"""The store on DynamoDB's own rules keeps the design's transitions, through both clients and in batches."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from apis import Hosts, Waiting
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from asyncjobs.jobs.control import JobControl
from asyncjobs.jobs.leases import Lease, NewJob
from asyncjobs.jobs.store import DynamoJobStore

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from lifecycle import LEASE_SECONDS, MAX_ATTEMPTS, Lifecycle, View

TABLE = "jobs"
numbers = itertools.count()


class OnDynamo:
    """A job of its own in the shared table."""

    def __init__(self, hosts: Hosts, queue_url: str) -> None:
        self.now = 1_795_416_240.0
        self._id = f"1795416232123-{next(numbers)}"
        self._job = NewJob(self._id, "text/plain", "x")
        self._dynamodb = hosts.dynamodb
        store = DynamoJobStore(
            hosts.dynamodb_api,
            TABLE,
            lease_seconds=LEASE_SECONDS,
            max_attempts=MAX_ATTEMPTS,
            result_days=30,
            coalesce=hosts.coalesce,
            now=lambda: self.now,
        )
        self._store: Any = Waiting(store, hosts.loop)
        self._control = JobControl(
            hosts.dynamodb, hosts.sqs, hosts.s3, table=TABLE, queue_url=queue_url, result_days=30, now=lambda: self.now
        )

    def claim(self, generation: int) -> Any:
        return self._store.claim(self._job, generation=generation, likely_new=True)

    def write(self, name: str, lease: Lease, *args: Any) -> None:
        getattr(self._store, name)(lease, *args)

    def cancel(self) -> None:
        self._control.cancel(self._id)

    def retry(self) -> None:
        self._control.retry(self._id)

    def lose(self, generation: int) -> None:
        self._store.lose(self._job, generation=generation)

    def view(self) -> View | None:
        key = {"jobId": {"S": self._id}}
        item = self._dynamodb.get_item(TableName=TABLE, Key=key, ConsistentRead=True).get("Item")
        if item is None:
            return None
        return View(
            item["status"]["S"],
            int(item["generation"]["N"]),
            int(item["attempt"]["N"]),
            item.get("leaseToken", {}).get("S", ""),
            int(item.get("leaseUntil", {}).get("N", "0")) / 1000,
            item.get("result", {}).get("S"),
            item["error"]["M"]["type"]["S"] if "error" in item else None,
        )


def test_only_the_transitions_of_the_design(hosts: Hosts) -> None:
    hosts.dynamodb.create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    queue_url = hosts.sqs.create_queue(QueueName="jobs")["QueueUrl"]
    run_state_machine_as_test(
        lambda: Lifecycle(OnDynamo(hosts, queue_url)),
        settings=settings(
            max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
