"""Cancelling and retrying, beside workers that claim and finish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from apis import Hosts, Waiting
from records import job_of

from asyncjobs.jobs.control import Changed, JobControl, Unchanged
from asyncjobs.jobs.leases import AlreadyEnded, Busy, Claimed, Lease, LeaseLostError, Location, NewJob, Result
from asyncjobs.jobs.queue import Message, SqsJobQueue
from asyncjobs.jobs.store import DynamoJobStore

TABLE = "jobs"
ID = "1795416232123-abc"
JOB = NewJob(ID, "text/plain", "a text ☕")
START = 1_795_416_240.5
KEPT = Location("jobs-bucket", f"payloads/{ID}/{'0a' * 32}")


class World:
    """A stack's table and queue, a worker's view of them, and a person's."""

    def __init__(self, hosts: Hosts) -> None:
        self.now = START
        self._dynamodb = hosts.dynamodb
        self._s3 = hosts.s3
        hosts.s3.create_bucket(Bucket=KEPT.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        hosts.dynamodb.create_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        url = hosts.sqs.create_queue(QueueName="jobs")["QueueUrl"]
        store = DynamoJobStore(
            hosts.dynamodb_api,
            TABLE,
            lease_seconds=30,
            max_attempts=3,
            result_days=30,
            coalesce=hosts.coalesce,
            now=lambda: self.now,
        )
        self.store: Any = Waiting(store, hosts.loop)
        self.queue: Any = Waiting(
            SqsJobQueue(hosts.sqs_api, url, bucket=KEPT.bucket, lease_seconds=30, wait_seconds=0), hosts.loop
        )
        self.control = JobControl(
            hosts.dynamodb, hosts.sqs, hosts.s3, table=TABLE, queue_url=url, result_days=30, now=lambda: self.now
        )

    def claim(self, job: NewJob = JOB, generation: int = 1) -> Lease:
        claimed = self.store.claim(job, generation=generation, likely_new=True)
        assert isinstance(claimed, Claimed), claimed
        return claimed.lease

    def record(self) -> dict[str, Any]:
        return self._dynamodb.get_item(TableName=TABLE, Key={"jobId": {"S": ID}}, ConsistentRead=True)["Item"]  # type: ignore[no-any-return]

    def keep(self, data: bytes) -> None:
        self._s3.put_object(Bucket=KEPT.bucket, Key=KEPT.key, Body=data)

    def payload_object(self) -> dict[str, Any]:
        answer = self._s3.get_object(Bucket=KEPT.bucket, Key=KEPT.key)
        return {**answer, "Body": answer["Body"].read()}

    def message(self) -> Message:
        (message,) = self.queue.receive(10)
        return message  # type: ignore[no-any-return]


@pytest.fixture
def world(hosts: Hosts) -> World:
    return World(hosts)


def test_a_job_no_worker_has_seen_is_cancelled_and_its_message_dropped(world: World) -> None:
    assert isinstance(world.control.cancel(ID), Changed)
    assert job_of(world.record()) == {
        "jobId": ID,
        "status": "CANCELLED",
        "submittedAt": "2026-11-23T06:43:52.123Z",
        "finishedAt": "2026-11-23T06:44:00.500Z",
        "attempt": 0,
    }
    assert world.store.claim(JOB, likely_new=True) == AlreadyEnded("CANCELLED")


def test_a_waiting_job_is_cancelled(world: World) -> None:
    world.store.retry_later(world.claim(), "ValueError", "no")
    assert isinstance(world.control.cancel(ID), Changed)
    assert world.store.claim(JOB) == AlreadyEnded("CANCELLED")


WRITES: list[Callable[[Any, Lease], None]] = [
    lambda store, lease: store.heartbeat(lease),
    lambda store, lease: store.progress(lease, 0.5, "half"),
    lambda store, lease: store.succeed(lease, Result(json_text="1")),
    lambda store, lease: store.fail(lease, "ValueError", "no"),
    lambda store, lease: store.hand_back(lease),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_running_job_is_cancelled_and_its_worker_told(world: World, write: Callable[[Any, Lease], None]) -> None:
    lease = world.claim()
    assert isinstance(world.control.cancel(ID), Changed)
    before = world.record()
    with pytest.raises(LeaseLostError, match="CANCELLED"):
        write(world.store, lease)
    assert world.record() == before


@pytest.mark.parametrize("ended", [True, False])
def test_an_expired_record_counts_as_none(world: World, ended: bool) -> None:
    """DynamoDB deletes it hours later; the API answers 404 from then on."""
    lease = world.claim()
    if ended:
        world.store.succeed(lease, Result(json_text="1"))
    before = world.record()
    world.now += 31 * 86_400
    for refused in (world.control.cancel(ID), world.control.retry(ID)):
        assert isinstance(refused, Unchanged)
        assert refused.record == {}
    assert world.record() == before


def test_what_has_ended_is_not_cancelled(world: World) -> None:
    world.store.succeed(world.claim(), Result(json_text="1"))
    before = world.record()
    refused = world.control.cancel(ID)
    assert isinstance(refused, Unchanged)
    assert refused.why == "it is SUCCEEDED already"
    assert world.record() == before


# In one piece, and in parts.
@pytest.mark.parametrize("data", [b"kept", b"x" * 9_000_000])
def test_a_retry_lets_the_payload_last_as_long_as_the_record(world: World, data: bytes) -> None:
    world.store.fail(world.claim(NewJob(ID, "text/csv", KEPT)), "ValueError", "no")
    world.keep(data)
    assert isinstance(world.control.retry(ID), Changed)
    after = world.payload_object()
    assert (after["Body"], after["ContentType"]) == (data, "text/csv")  # it had none: it was written anew


def test_without_its_payload_a_job_is_not_run_again(world: World) -> None:
    world.store.fail(world.claim(NewJob(ID, "text/plain", KEPT)), "ValueError", "no")
    before = world.record()
    refused = world.control.retry(ID)
    assert isinstance(refused, Unchanged)
    assert "payload" in refused.why
    assert world.record() == before


@pytest.mark.parametrize("payload", ["a text ☕", b"\x00\xff", KEPT])
def test_a_retry_runs_the_job_again_from_its_first_attempt(world: World, payload: str | bytes | Location) -> None:
    world.keep(b"kept")
    job = NewJob(ID, "text/plain", payload)
    world.store.fail(world.claim(job), "ValueError", "no")
    assert isinstance(world.control.retry(ID), Changed)
    queued = job_of(world.record())
    assert (queued["status"], queued["attempt"]) == ("QUEUED", 0)
    assert not {"error", "result", "finishedAt"} & set(queued)
    message = world.message()
    assert (message.generation, message.content_type) == (2, "text/plain")
    claimed = world.store.claim(NewJob(ID, "text/plain", message.payload), generation=2)
    assert isinstance(claimed, Claimed)
    assert (claimed.job, claimed.lease.attempt, claimed.lease.generation) == (job, 1, 2)
    world.store.succeed(claimed.lease, Result(json_text="2"))
    assert job_of(world.record())["result"] == 2


def test_a_retry_s_message_that_is_faster_than_its_mark_is_claimed(world: World) -> None:
    """As when `retry` breaks off between the two."""
    world.store.succeed(world.claim(), Result(json_text='"old"'), "done")
    lease = world.claim(generation=2)
    assert (lease.attempt, lease.generation) == (1, 2)
    running = job_of(world.record())
    assert running["status"] == "RUNNING"
    assert not {"error", "result", "finishedAt", "progress"} & set(running)
    assert isinstance(world.store.claim(JOB, generation=2), Busy)
    world.store.succeed(lease, Result(json_text='"new"'))
    assert job_of(world.record())["result"] == "new"


def test_an_older_generation_s_message_is_dropped(world: World) -> None:
    world.store.fail(world.claim(), "ValueError", "no")
    world.control.retry(ID)
    before = world.record()
    assert isinstance(world.store.claim(JOB, likely_new=True), AlreadyEnded)
    assert world.record() == before


def test_a_retry_twice_is_one(world: World) -> None:
    world.store.fail(world.claim(), "ValueError", "no")
    assert isinstance(world.control.retry(ID), Changed)
    refused = world.control.retry(ID)
    assert isinstance(refused, Unchanged)
    assert refused.why == "it is QUEUED"


def test_what_cannot_be_retried(world: World) -> None:
    assert world.control.retry(ID) == Unchanged({}, "it has no record")
    world.claim()
    refused = world.control.retry(ID)
    assert isinstance(refused, Unchanged)
    assert refused.why == "it is RUNNING"
    world.control.cancel(ID)
    assert isinstance(world.control.retry(ID), Changed)
    world.now += 31 * 86_400
    assert world.control.retry(ID) == Unchanged({}, "it has no record")


def test_a_payload_that_was_never_kept_cannot_be_run(world: World) -> None:
    world.control.cancel(ID)
    refused = world.control.retry(ID)
    assert isinstance(refused, Unchanged)
    assert "its payload was not kept" in refused.why


def test_a_job_that_no_worker_will_receive_again_is_lost(world: World) -> None:
    assert world.store.lose(JOB) == AlreadyEnded("FAILED")
    job = job_of(world.record())
    assert (job["status"], job["error"]["type"], job["attempt"]) == ("FAILED", "WorkerLost", 0)
    assert isinstance(world.control.retry(ID), Changed)  # its payload is kept


def test_a_job_at_work_is_not_lost_before_its_lease_is_over(world: World) -> None:
    world.claim(NewJob(ID, "text/plain", Location("b", "k")))
    assert world.store.lose(JOB) == Busy(int((START + 30) * 1000))
    world.now += 31
    assert world.store.lose(JOB) == AlreadyEnded("FAILED")
    assert "payload" not in world.record()  # it is where it was
    assert world.store.lose(JOB) == AlreadyEnded("FAILED")


def test_an_ended_job_is_not_lost(world: World) -> None:
    world.store.succeed(world.claim(), Result(json_text="1"))
    assert world.store.lose(JOB) == AlreadyEnded("SUCCEEDED")
    world.control.retry(ID)
    assert world.store.lose(JOB) == AlreadyEnded("QUEUED")  # a leftover of the first generation
    assert job_of(world.record())["status"] == "QUEUED"
    assert world.store.lose(JOB, generation=2) == AlreadyEnded("FAILED")
