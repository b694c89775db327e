"""The job store on DynamoDB's own rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from apis import Hosts, Waiting
from botocore.exceptions import ClientError
from records import job_of

from asyncjobs.jobs.api import Api
from asyncjobs.jobs.leases import (
    AlreadyEnded,
    Busy,
    Claimed,
    Lease,
    LeaseLostError,
    Location,
    NewJob,
    Result,
)
from asyncjobs.jobs.record import iso_time, shard_key
from asyncjobs.jobs.store import DynamoJobStore
from asyncjobs.testing import InMemoryStore

TABLE = "jobs"
SUBMITTED = 1_795_416_232_123
ID = f"{SUBMITTED}-abc"
JOB = NewJob(ID, "text/plain", "a text ☕")
START = 1_795_416_240.5  # epoch seconds
DAY = 86_400


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Repeating:
    """An API whose every write reaches the table, loses its answer, and is sent again."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        await self._api.call(operation, request)
        return await self._api.call(operation, request)


@pytest.fixture
def dynamodb(hosts: Hosts) -> Any:
    hosts.dynamodb.create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return hosts.dynamodb


@pytest.fixture
def clock() -> Clock:
    return Clock()


# Tests call the store's coroutines and wait for them.
Store = Any
Make = Callable[..., Store]


@pytest.fixture
def make(dynamodb: Any, hosts: Hosts, clock: Clock) -> Make:
    def make(api: Api = hosts.dynamodb_api, max_attempts: int = 3) -> Store:
        store = DynamoJobStore(
            api,
            TABLE,
            lease_seconds=30,
            max_attempts=max_attempts,
            result_days=30,
            coalesce=hosts.coalesce,
            now=clock,
        )
        return Waiting(store, hosts.loop)

    return make


@pytest.fixture
def store(make: Make) -> Store:
    return make()


@pytest.fixture
def repeating(make: Make, hosts: Hosts) -> Store:
    return make(Repeating(hosts.dynamodb_api))


@pytest.fixture
def record(dynamodb: Any) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        return dynamodb.get_item(TableName=TABLE, Key={"jobId": {"S": ID}}, ConsistentRead=True)["Item"]  # type: ignore[no-any-return]

    return read


Read = Callable[[], dict[str, Any]]


def claim(store: Store, job: NewJob = JOB) -> Lease:
    claimed = store.claim(job, likely_new=True)
    assert isinstance(claimed, Claimed), claimed
    return claimed.lease


WRITES: dict[str, Callable[[Store, Lease], None]] = {
    "heartbeat": lambda store, lease: store.heartbeat(lease),
    "progress": lambda store, lease: store.progress(lease, 0.5, "half"),
    "succeed": lambda store, lease: store.succeed(lease, Result(json_text='"mine"')),
    "fail": lambda store, lease: store.fail(lease, "ValueError", "mine"),
    "retry_later": lambda store, lease: store.retry_later(lease, "ValueError", "mine"),
    "hand_back": lambda store, lease: store.hand_back(lease),
}
ENDS = ("succeed", "fail", "retry_later", "hand_back")
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


def test_a_claim_makes_the_record(store: Store, record: Read) -> None:
    lease = claim(store)
    assert (lease.job_id, lease.attempt, lease.generation) == (ID, 1, 1)
    assert record() == {
        "jobId": {"S": ID},
        "status": {"S": "RUNNING"},
        "statusShard": {"S": shard_key("RUNNING", ID)},
        "submittedAt": {"S": "2026-11-23T06:43:52.123Z"},
        "startedAt": {"S": "2026-11-23T06:44:00.500Z"},
        "attempt": {"N": "1"},
        "maxAttempts": {"N": "3"},
        "generation": {"N": "1"},
        "contentType": {"S": "text/plain"},
        "payload": {"S": "a text ☕"},
        "leaseToken": {"S": lease.token},
        "leaseUntil": {"N": str(int((START + 30) * 1000))},
        "expiresAt": {"N": str(int(START) + 30 * DAY)},
    }


@pytest.mark.parametrize(
    ("payload", "attribute", "stored"),
    [
        (b"\x00\xff", "payload", {"B": b"\x00\xff"}),
        (Location("b", "k"), "payloadLocation", {"M": {"bucket": {"S": "b"}, "key": {"S": "k"}}}),
    ],
)
def test_payloads_that_are_no_text(
    store: Store, record: Read, payload: bytes | Location, attribute: str, stored: dict[str, Any]
) -> None:
    claim(store, NewJob(ID, "application/pdf", payload))
    assert record()[attribute] == stored


PAYLOADS: list[str | bytes | Location] = ["a text", b"\x00\xff", Location("b", "k"), Location("b", "k2"), ""]


@pytest.mark.parametrize("first", PAYLOADS)
@pytest.mark.parametrize("second", PAYLOADS)
def test_sent_again_with_another_payload_it_is_the_same_job(
    make: Make, hosts: Hosts, record: Read, first: str | bytes | Location, second: str | bytes | Location
) -> None:
    store = make()
    job = NewJob(ID, "text/plain", first)
    claimed = store.claim(job)
    assert isinstance(claimed, Claimed)
    assert claimed.job == job
    store.retry_later(claimed.lease, "ValueError", "no")
    before = record()
    again = make(Repeating(hosts.dynamodb_api)).claim(NewJob(ID, "text/csv", second))
    assert isinstance(again, Claimed)
    assert (again.job, again.lease.attempt) == (job, 2)
    kept = ("payload", "payloadLocation", "contentType")
    assert {name: record().get(name) for name in kept} == {name: before.get(name) for name in kept}


def test_another_payload_claims_nothing_that_is_not_free(store: Store, record: Read) -> None:
    lease = claim(store)
    other = NewJob(ID, "text/csv", Location("b", "k"))
    assert store.claim(other) == Busy(int((START + 30) * 1000))
    store.succeed(lease, Result(json_text="1"))
    before = record()
    assert store.claim(other) == AlreadyEnded("SUCCEEDED")
    assert record() == before


@pytest.mark.parametrize("ending", ["succeed", "fail"])
def test_a_clock_that_is_behind_does_not_shorten_a_record_s_life(
    store: Store, record: Read, clock: Clock, ending: str
) -> None:
    clock.now = START - 40 * DAY
    lease = claim(store)
    expires = {"N": str(SUBMITTED // 1000 + 30 * DAY)}
    assert record()["expiresAt"] == expires
    WRITES[ending](store, lease)
    assert record()["expiresAt"] == expires


def test_a_job_from_start_to_end_as_json(store: Store, record: Read, clock: Clock) -> None:
    lease = claim(store)
    running = {
        "jobId": ID,
        "status": "RUNNING",
        "submittedAt": "2026-11-23T06:43:52.123Z",
        "startedAt": "2026-11-23T06:44:00.500Z",
        "attempt": 1,
        "maxAttempts": 3,
        "contentType": "text/plain",
    }
    assert job_of(record()) == running
    store.progress(lease, 0.4, "tokenised")
    assert job_of(record()) == {**running, "progress": {"fraction": 0.4, "message": "tokenised"}}
    clock.now += 2.25
    store.succeed(lease, Result(json_text='{"words":3,"é":null}'), "done")
    assert job_of(record()) == {
        **running,
        "status": "SUCCEEDED",
        "finishedAt": "2026-11-23T06:44:02.750Z",
        "progress": {"fraction": 1.0, "message": "done"},
        "result": {"words": 3, "é": None},
    }
    assert record()["expiresAt"] == {"N": str(int(clock.now) + 30 * DAY)}
    assert record()["statusShard"] == {"S": shard_key("SUCCEEDED", ID)}
    assert "leaseUntil" not in record()


def test_a_result_in_the_bucket(store: Store, record: Read) -> None:
    store.succeed(claim(store), Result(location=Location("bucket", "results/1")))
    job = job_of(record())
    assert job["resultLocation"] == {"bucket": "bucket", "key": "results/1"}
    assert "result" not in job


def test_a_failure(store: Store, record: Read) -> None:
    store.fail(claim(store), "ValueError", "no")
    job = job_of(record())
    assert (job["status"], job["error"]) == ("FAILED", {"type": "ValueError", "message": "no"})
    assert job["finishedAt"] == iso_time(int(START * 1000))


def test_an_error_stays_until_the_job_succeeds(store: Store, record: Read, clock: Clock) -> None:
    first = claim(store)
    store.progress(first, 0.9, "almost")
    store.retry_later(first, "ValueError", "no")
    queued = job_of(record())
    assert (queued["status"], queued["attempt"], queued["error"]["message"]) == ("QUEUED", 1, "no")
    assert "progress" not in queued
    clock.now += 2
    second = claim(store)
    running = job_of(record())
    assert (running["status"], running["attempt"], running["error"]["message"]) == ("RUNNING", 2, "no")
    assert running["startedAt"] == iso_time(int(clock.now * 1000))
    store.succeed(second, Result(json_text="1"))
    assert "error" not in job_of(record())


def test_an_attempt_handed_back_is_not_charged(store: Store, record: Read) -> None:
    for _ in range(5):
        lease = claim(store)
        assert lease.attempt == 1
        store.hand_back(lease)
        assert (record()["status"], record()["attempt"]) == ({"S": "QUEUED"}, {"N": "0"})


def test_a_running_job_is_busy_until_its_lease_ends(store: Store, clock: Clock) -> None:
    lease = claim(store)
    until = int((START + 30) * 1000)
    assert store.claim(JOB) == Busy(until)
    clock.now += 29
    store.heartbeat(lease)
    clock.now += 29
    assert store.claim(JOB) == Busy(until + 29_000)


def test_an_expired_lease_is_the_next_worker_s(store: Store, record: Read, clock: Clock) -> None:
    first = claim(store)
    clock.now += 30.001
    second = claim(store)
    assert (second.attempt, second.generation) == (2, 1)
    assert second.token != first.token
    assert record()["leaseToken"] == {"S": second.token}


@each_write
def test_a_zombie_writes_nothing_once_its_job_is_another_s(
    store: Store, record: Read, clock: Clock, write: Callable[..., None]
) -> None:
    zombie = claim(store)
    clock.now += 31
    claim(store)
    before = record()
    with pytest.raises(LeaseLostError):
        write(store, zombie)
    assert record() == before


@each_write
def test_a_zombie_writes_nothing_though_nobody_took_its_job(
    store: Store, record: Read, clock: Clock, write: Callable[..., None]
) -> None:
    zombie = claim(store)
    clock.now += 30.001
    before = record()
    with pytest.raises(LeaseLostError, match="RUNNING"):
        write(store, zombie)
    assert record() == before


@each_write
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_what_has_ended_never_changes(
    store: Store, record: Read, dynamodb: Any, clock: Clock, status: str, write: Callable[..., None]
) -> None:
    first = claim(store)
    store.retry_later(first, "ValueError", "no")
    end(store, dynamodb, status, claim(store))
    before = record()
    with pytest.raises(LeaseLostError, match=status):
        write(store, first)
    clock.now += 3600
    assert store.claim(JOB) == AlreadyEnded(status)
    assert record() == before


def end(store: Store, dynamodb: Any, status: str, lease: Lease) -> None:
    if status == "SUCCEEDED":
        store.succeed(lease, Result(json_text="1"))
    elif status == "FAILED":
        store.fail(lease, "ValueError", "no")
    else:
        dynamodb.update_item(
            TableName=TABLE,
            Key={"jobId": {"S": ID}},
            UpdateExpression="SET #status = :cancelled",
            ExpressionAttributeNames={"#status": "status"},
            ExpressionAttributeValues={":cancelled": {"S": "CANCELLED"}},
        )


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", WRITES)
def test_a_lease_ends_once(store: Store, record: Read, first: str, second: str) -> None:
    lease = claim(store)
    WRITES[first](store, lease)
    before = record()
    if first == second or {first, second} == {"retry_later", "hand_back"}:
        WRITES[second](store, lease)  # taken for the same write sent again
    else:
        with pytest.raises(LeaseLostError):
            WRITES[second](store, lease)
    assert record() == before


def test_a_worker_lost_on_the_last_attempt_ends_the_job(make: Make, record: Read, clock: Clock) -> None:
    store = make(max_attempts=2)
    for _ in range(2):
        claim(store)
        clock.now += 31
    assert store.claim(JOB) == AlreadyEnded("FAILED")
    job = job_of(record())
    assert (job["status"], job["attempt"]) == ("FAILED", 2)
    assert job["error"] == {"type": "WorkerLost", "message": "The worker of attempt 2 of 2 was lost."}
    assert job["finishedAt"] == iso_time(int(clock.now * 1000))
    assert store.claim(JOB) == AlreadyEnded("FAILED")


def test_the_last_attempt_is_busy_while_it_runs(make: Make, record: Read) -> None:
    store = make(max_attempts=1)
    lease = claim(store)
    assert isinstance(store.claim(JOB), Busy)
    store.succeed(lease, Result(json_text="1"))
    assert record()["status"] == {"S": "SUCCEEDED"}


def test_fewer_attempts_than_a_waiting_job_has_had_end_it_with_its_own_error(make: Make, record: Read) -> None:
    store = make()
    for _ in range(2):
        store.retry_later(claim(store), "ValueError", "no")
    assert make(max_attempts=2).claim(JOB) == AlreadyEnded("FAILED")
    assert job_of(record())["error"] == {"type": "ValueError", "message": "no"}


def test_a_claim_whose_answer_was_lost_counts_once(repeating: Store, record: Read, clock: Clock) -> None:
    assert claim(repeating).attempt == 1
    clock.now += 31
    assert claim(repeating).attempt == 2
    clock.now += 31
    assert claim(repeating).attempt == 3  # the last one: the repeated claim may not end the job
    assert (record()["status"], record()["attempt"]) == ({"S": "RUNNING"}, {"N": "3"})


@each_write
def test_a_write_whose_answer_was_lost_is_done(
    store: Store, repeating: Store, record: Read, write: Callable[..., None]
) -> None:
    lease = claim(store)
    write(repeating, lease)
    assert record()["attempt"] in ({"N": "1"}, {"N": "0"})
    assert record()["leaseToken"] == {"S": lease.token}


def test_giving_up_whose_answer_was_lost_is_done(make: Make, hosts: Hosts, record: Read, clock: Clock) -> None:
    claim(make(max_attempts=1))
    clock.now += 31
    assert make(Repeating(hosts.dynamodb_api), max_attempts=1).claim(JOB) == AlreadyEnded("FAILED")
    assert job_of(record())["error"]["type"] == "WorkerLost"


def test_a_job_claimed_while_another_gives_it_up_is_let_be(make: Make, hosts: Hosts, clock: Clock) -> None:
    class TakenMeanwhile:
        """Between the refused claim and the giving up, a worker with more attempts to give claims the job."""

        def __init__(self) -> None:
            self.calls = 0

        async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
            self.calls += 1
            if self.calls == 2:
                other = DynamoJobStore(
                    hosts.dynamodb_api, TABLE, lease_seconds=30, max_attempts=5, result_days=30, now=clock
                )
                assert isinstance(await other.claim(JOB), Claimed)
            return await hosts.dynamodb_api.call(operation, request)

    claim(make(max_attempts=1))
    clock.now += 31
    assert isinstance(make(TakenMeanwhile(), max_attempts=1).claim(JOB), Busy)


def test_texts_are_cut_and_cleaned_for_the_table(store: Store, record: Read) -> None:
    lease = claim(store)
    store.progress(lease, 7, "a\udcffb")
    assert job_of(record())["progress"] == {"fraction": 1.0, "message": "a?b"}
    store.fail(lease, "OSError", "x" * 10_000)
    assert len(job_of(record())["error"]["message"]) == 4_000


@pytest.mark.parametrize("refuses", [False, True])
def test_writes_wanted_at_once_share_a_call_or_do_without(hosts: Hosts, make: Make, refuses: bool) -> None:
    if not hosts.coalesce:
        pytest.skip("this endpoint knows no BatchExecuteStatement")
    calls: list[str] = []

    class Spy:
        async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
            calls.append(operation)
            if refuses and operation == "BatchExecuteStatement":
                raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)
            return await hosts.dynamodb_api.call(operation, request)

    store = DynamoJobStore(Spy(), TABLE, lease_seconds=30, max_attempts=3, result_days=30, coalesce=2)
    jobs = [NewJob(f"{SUBMITTED}-{number}", "text/plain", "x") for number in range(25)]

    async def work() -> list[BaseException | None]:
        claims = await asyncio.gather(*(store.claim(job, likely_new=True) for job in jobs))
        leases = [claim.lease for claim in claims if isinstance(claim, Claimed)]
        assert len({lease.token for lease in leases}) == 25
        await store.fail(leases[0], "ValueError", "first")
        return await asyncio.gather(
            *(store.succeed(lease, Result(json_text="1")) for lease in leases), return_exceptions=True
        )

    lost, *done = hosts.loop.run_until_complete(work())
    # One whose condition does not hold costs none of the others.
    assert isinstance(lost, LeaseLostError)
    assert done == [None] * 24
    assert calls.count("BatchExecuteStatement") == (1 if refuses else 2)
    assert calls.count("UpdateItem") == (51 if refuses else 1)


STEPS: dict[str, Callable[[Any, Lease], Any]] = {
    "progress": lambda store, lease: store.progress(lease, 0.25, "a quarter"),
    "succeed": lambda store, lease: store.succeed(lease, Result(json_text='{"a": [1, null]}'), "done"),
    "succeed elsewhere": lambda store, lease: store.succeed(lease, Result(location=Location("b", "k"))),
    "fail": lambda store, lease: store.fail(lease, "ValueError", "no" * 4000),
    "retry later": lambda store, lease: store.retry_later(lease, "ValueError", "not yet"),
    "hand back": lambda store, lease: store.hand_back(lease),
}


@pytest.mark.parametrize(
    "steps",
    [
        ("progress",),
        ("progress", "succeed"),
        ("succeed elsewhere",),
        ("fail",),
        ("progress", "retry later"),
        ("retry later", "claim", "succeed"),
        ("progress", "hand back"),
        ("hand back", "claim", "fail"),
    ],
    ids=", ".join,
)
def test_the_fake_for_users_tests_shows_the_same_job(
    store: Store, record: Callable[[], dict[str, Any]], clock: Clock, hosts: Hosts, steps: tuple[str, ...]
) -> None:
    fake = InMemoryStore(clock)
    for subject in (store, Waiting(fake, hosts.loop)):
        clock.now = START
        for step in ("claim", *steps):
            clock.now += 1
            if step == "claim":
                lease = subject.claim(JOB).lease
            else:
                STEPS[step](subject, lease)
    job = job_of(record())
    # The API leaves it out: attempts count from 1.
    if job["attempt"] == 0:
        del job["attempt"]
    assert fake.get(ID) == job
