from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError
from botocore.parsers import ResponseParserError

from asyncjobs.jobs.leases import Claimed, Location, NewJob
from asyncjobs.jobs.queue import Message
from asyncjobs.testing import Clock, FakeSlot, InMemoryObjects, InMemoryQueue, InMemoryStore, Lines
from asyncjobs.testing.slots import Answer
from asyncjobs.worker.executor import Attempt
from asyncjobs.worker.keeper import Keeper
from asyncjobs.worker.metrics import Metrics
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded, rejected
from asyncjobs.worker.payloads import ObjectStore
from asyncjobs.worker.runner import LONGEST_BACKOFF, Runner, backoff_seconds
from asyncjobs.worker.slots import SlotPool

ID = "1795416232123-abc"


def aws_error(code: str = "InternalServerError", status: int = 500) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "what AWS says"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "UpdateItem",
    )


def failed_upload(cause: ClientError) -> Exception:
    """As S3 transfers raise it: with the cause as its context only."""
    try:
        try:
            raise cause
        except ClientError as error:
            raise S3UploadFailedError(f"Failed to upload: {error}")  # noqa: B904
    except S3UploadFailedError as error:
        return error


class World:
    """A worker's surroundings, with one message sent."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.log = Lines()
        self.queue = InMemoryQueue(self.clock)
        self.store = InMemoryStore(self.clock)
        self.objects = InMemoryObjects()
        self.keeper = Keeper(self.store, self.queue, self.log, lease_seconds=30, clock=self.clock)
        self.runner = self.make_runner(directory, self.objects)
        self.queue.send(ID, '{"text": "é"}')

    def make_runner(self, directory: Path, objects: ObjectStore) -> Runner:
        return Runner(
            self.queue,
            self.store,
            objects,
            self.keeper,
            self.log,
            Metrics(self.log, now=self.clock),
            directory=directory,
            timeout=60,
            max_attempts=3,
            sleep=self.clock.sleep,
            jitter=lambda: 1.0,
            now=self.clock,
        )

    def message(self) -> Message:
        (message,) = asyncio.run(self.queue.receive(1))
        assert isinstance(message, Message)
        return message

    def handle(self, run: Answer = lambda _: Succeeded(json_text="1")) -> FakeSlot:
        slot = FakeSlot(run)
        asyncio.run(self.runner.handle(self.message(), SlotPool([slot])))
        assert self.keeper.held == []
        return slot

    @property
    def status(self) -> str:
        return self.store.records[ID].status


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_big_payload_is_a_file_until_the_result_is_kept(world: World) -> None:
    location = Location("bucket", f"payloads/{ID}/{'0a' * 32}")
    data = b"x" * 2_000_000
    world.objects.kept[location.key] = data
    asyncio.run(world.queue.delete(world.message()))
    world.queue.send(ID, location, "text/plain")

    def read(attempt: Attempt) -> Outcome:
        assert isinstance(attempt.payload, Path)
        assert attempt.payload.read_bytes() == data
        assert attempt.payload.parent == attempt.directory
        return Succeeded(json_text="1")

    (attempt,) = world.handle(read).attempts
    assert world.status == "SUCCEEDED"
    assert not attempt.directory.exists()
    assert list(world.objects.kept) == [location.key]  # claimed as it is, not copied


@pytest.mark.parametrize("error", [aws_error("NoSuchKey", 404), OSError(28, "No space left on device")])
def test_a_payload_that_cannot_be_read_fails_the_attempt_and_leaves_nothing(
    world: World, tmp_path: Path, error: Exception
) -> None:
    class Broken(InMemoryObjects):
        async def read_payload(
            self, payload: str | bytes | Location, make_directory: Callable[[], Path]
        ) -> bytes | Path:
            (make_directory() / "payload.part").write_bytes(b"x")
            raise error

    world.runner = world.make_runner(tmp_path, Broken())
    world.handle()
    record = world.store.records[ID]
    assert record.error is not None
    assert (record.status, record.error[0]) == ("QUEUED", "PayloadUnavailable")
    assert list(tmp_path.iterdir()) == []


def boom(_: Attempt) -> Outcome:
    return Failed("ValueError", "boom", "Traceback …")


def test_a_result_is_recorded_and_then_the_message_is_deleted(world: World) -> None:
    slot = world.handle()
    record = world.store.records[ID]
    assert (record.status, record.attempt, record.writes) == ("SUCCEEDED", 1, ["RUNNING", "SUCCEEDED"])
    assert record.result is not None
    assert record.result.json_text == "1"
    assert world.queue.left == []
    (attempt,) = slot.attempts
    assert (attempt.job_id, attempt.attempt, attempt.max_attempts, attempt.timeout) == (ID, 1, 3, 60)
    assert attempt.payload == '{"text": "é"}'.encode()
    assert [line["message"] for line in world.log.lines if line["jobId"] == ID] == ["started", "succeeded"]


def test_the_attempt_s_folder_lives_until_its_file_is_kept(world: World) -> None:
    def write(attempt: Attempt) -> Outcome:
        file = attempt.make_directory() / "result.bin"
        file.write_bytes(b"\x00\x01")
        return Succeeded(file=file, content_type="application/octet-stream")

    slot = world.handle(write)
    assert list(world.objects.kept.values()) == [b"\x00\x01"]
    assert not slot.attempts[0].directory.exists()
    assert isinstance(slot.attempts[0].directory, Path)


def test_the_last_progress_message_goes_into_the_record_with_the_result(world: World) -> None:
    def report(attempt: Attempt) -> Outcome:
        attempt.on_progress(0.2, "reading")
        attempt.on_progress(0.9, "almost")
        return Succeeded(json_text="1")

    world.handle(report)
    assert world.store.records[ID].progress == (1.0, "almost")


def test_an_exception_is_tried_again_after_a_pause_with_its_error_kept(world: World) -> None:
    world.handle(boom)
    record = world.store.records[ID]
    assert (record.status, record.attempt, record.error) == ("QUEUED", 1, ("ValueError", "boom"))
    assert world.queue.hidden_for == {ID: 2}
    (line,) = [line for line in world.log.lines if line["level"] == "error"]
    assert (line["message"], line["traceback"], line["attempt"]) == ("ValueError: boom", "Traceback …", 1)


def test_the_pauses_grow_and_the_last_attempt_fails_the_job(world: World) -> None:
    pauses = []
    for _ in range(2):
        world.handle(boom)
        pauses.append(world.queue.hidden_for[ID])
        world.clock.now += pauses[-1]
    world.handle(boom)
    record = world.store.records[ID]
    assert pauses == [2, 4]
    assert (record.status, record.attempt, record.error) == ("FAILED", 3, ("ValueError", "boom"))
    assert world.queue.left == []


def test_a_success_after_an_error_has_none(world: World) -> None:
    world.handle(boom)
    world.clock.now += 2
    world.handle()
    assert (world.status, world.store.records[ID].error) == ("SUCCEEDED", None)


def test_a_rejection_fails_at_once(world: World) -> None:
    world.handle(lambda _: rejected("no page"))
    record = world.store.records[ID]
    assert (record.status, record.attempt, record.error) == ("FAILED", 1, ("Rejected", "no page"))
    assert world.queue.left == []


def test_what_is_stopped_is_handed_back_without_charge(world: World) -> None:
    world.handle(lambda _: Stopped())
    assert (world.status, world.store.records[ID].attempt) == ("QUEUED", 0)
    assert world.queue.hidden_for == {ID: 0}


def test_a_duplicate_of_an_ended_job_is_only_deleted(world: World) -> None:
    world.handle()
    world.queue.send(ID)
    assert world.handle().attempts == []
    assert world.queue.left == []
    assert world.store.records[ID].writes == ["RUNNING", "SUCCEEDED"]


def test_a_job_at_work_elsewhere_is_kept_until_that_lease_is_over(world: World) -> None:
    world.queue.send(ID)  # the same job sent twice, as a client over a bad network does
    first, second = asyncio.run(world.queue.receive(2))
    assert isinstance(first, Message)
    assert isinstance(second, Message)
    never = FakeSlot()

    async def meanwhile(_: Attempt) -> Outcome:
        await world.runner.handle(second, SlotPool([never]))
        return Succeeded(json_text="1")

    asyncio.run(world.runner.handle(first, SlotPool([FakeSlot(meanwhile)])))
    assert never.attempts == []
    assert world.queue.hidden_for == {ID: 31}
    world.clock.now += 31
    assert world.handle().attempts == []
    assert world.queue.left == []


def test_a_worker_lost_on_its_last_attempt_ends_the_job(world: World) -> None:
    class Killed(BaseException):
        pass

    def kill(_: Attempt) -> Outcome:
        raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            world.handle(kill)
        world.clock.now += 31
    assert world.handle().attempts == []
    record = world.store.records[ID]
    assert record.status == "FAILED"
    assert record.error == ("WorkerLost", "The worker of attempt 3 of 3 was lost.")
    assert world.queue.left == []


def test_a_paused_worker_changes_nothing_after_its_lease(world: World) -> None:
    def pause(_: Attempt) -> Outcome:
        world.clock.now += 31
        return Succeeded(json_text='"late"')

    world.handle(pause)
    record = world.store.records[ID]
    assert (record.status, record.result) == ("RUNNING", None)
    assert world.queue.left == [ID]
    assert world.log.messages("warning") == ["result discarded: the lease is lost; the job is RUNNING"]
    world.handle()
    assert (record.status, record.attempt, record.writes.count("SUCCEEDED")) == ("SUCCEEDED", 2, 1)


def test_a_cancelled_job_stays_cancelled(world: World) -> None:
    def cancel(_: Attempt) -> Outcome:
        world.store.cancel(ID)
        return Succeeded(json_text="1")

    world.handle(cancel)
    assert world.status == "CANCELLED"
    assert world.queue.left == []  # nothing is left to be done


def test_a_lease_lost_while_the_handler_ran_is_not_recorded(world: World) -> None:
    async def lose(attempt: Attempt) -> Outcome:
        world.clock.now += 31
        assert isinstance(await world.store.claim(NewJob(ID, "text/plain", "x")), Claimed)  # by another worker
        await world.keeper.tick()
        assert attempt.control.stopped
        return Stopped()

    world.handle(lose)
    assert (world.status, world.store.records[ID].attempt, world.queue.left) == ("RUNNING", 2, [ID])


def test_a_job_cancelled_while_the_handler_ran_is_done_with(world: World) -> None:
    async def cancel(attempt: Attempt) -> Outcome:
        world.store.cancel(ID)
        world.clock.now += 11
        await world.keeper.tick()
        assert attempt.control.cancelled.is_set()
        return Succeeded(json_text='"too late"')

    world.handle(cancel)
    assert (world.status, world.store.records[ID].result, world.queue.left) == ("CANCELLED", None, [])


def test_a_retried_job_runs_again_with_its_first_payload(world: World) -> None:
    world.handle(lambda _: rejected("no page"))
    world.queue.send(ID, "-", generation=2)  # the message is there before the record says so
    (attempt,) = world.handle().attempts
    assert (attempt.payload, attempt.attempt) == ('{"text": "é"}'.encode(), 1)
    record = world.store.records[ID]
    assert (record.status, record.generation, record.error, world.queue.left) == ("SUCCEEDED", 2, None, [])
    world.queue.send(ID)  # a duplicate of the first message, late
    assert world.handle().attempts == []
    assert (record.status, world.queue.left) == ("SUCCEEDED", [])


def test_a_retry_of_a_job_whose_record_is_gone_is_dropped(world: World) -> None:
    asyncio.run(world.queue.delete(world.message()))
    world.queue.send(ID, "-", generation=2)
    assert world.handle().attempts == []
    assert (world.store.records, world.queue.left) == ({}, [])


@pytest.mark.parametrize(
    "error",
    [
        aws_error(),
        aws_error("ProvisionedThroughputExceededException", 400),
        aws_error("ExpiredTokenException", 400),
        EndpointConnectionError(endpoint_url="x"),
        S3UploadFailedError("part 3"),
        failed_upload(aws_error("SlowDown", 503)),
        ResponseParserError("an HTML page of a proxy"),
    ],
    ids=["500", "throttled", "expired", "connection", "upload", "upload-throttled", "parser"],
)
def test_a_result_is_not_lost_to_a_passing_failure_of_aws(world: World, error: Exception) -> None:
    def fail_next(_: Attempt) -> Outcome:
        world.store.errors += [error, error]
        return Succeeded(json_text="1")

    world.handle(fail_next)
    assert (world.status, world.queue.left) == ("SUCCEEDED", [])
    assert len(world.clock.sleeps) == 2


REFUSALS = [
    aws_error("AccessDeniedException", 400),
    aws_error("ResourceNotFoundException", 400),
    failed_upload(aws_error("AccessDenied", 403)),
    ParamValidationError(report="x"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=["denied", "no-table", "upload-denied", "parameters"])
def test_what_aws_refuses_for_good_is_left_for_redelivery_at_once(world: World, error: Exception) -> None:
    def refuse_next(_: Attempt) -> Outcome:
        world.store.errors += [error]
        return Succeeded(json_text="1")

    world.handle(refuse_next)
    assert world.clock.sleeps == []
    assert (world.status, world.queue.left) == ("RUNNING", [ID])
    (line,) = [line for line in world.log.lines if line["level"] == "error"]
    assert line["message"] == f"refused, left for later: {error}"
    world.clock.now += 31
    world.handle()
    assert (world.status, world.store.records[ID].attempt) == ("SUCCEEDED", 2)


def test_a_result_the_table_cannot_hold_fails_the_job(world: World) -> None:
    def refuse_next(_: Attempt) -> Outcome:
        world.store.errors += [aws_error("ValidationException", 400)]
        return Succeeded(json_text="1")

    world.handle(refuse_next)
    record = world.store.records[ID]
    assert (record.status, record.attempt, world.queue.left) == ("FAILED", 1, [])
    assert record.error is not None
    assert record.error[0] == "ResultNotStorable"
    assert "what AWS says" in record.error[1]
    assert world.clock.sleeps == []


BIG = "big " * 2_000  # kept in the bucket


@pytest.mark.parametrize(("first", "second"), [("one", "two"), ("one", BIG), (BIG, "two"), (BIG, BIG + "two")])
def test_sent_again_with_another_payload_it_is_the_first_one_s_job(world: World, first: str, second: str) -> None:
    asyncio.run(world.queue.delete(world.message()))
    world.queue.send(ID, first, "text/plain")
    world.handle(boom)
    assert asyncio.run(world.queue.receive(1)) == []  # it waits for its next attempt
    world.queue.send(ID, second, "text/csv")
    (attempt,) = world.handle().attempts
    assert (attempt.payload, attempt.content_type, attempt.attempt) == (first.encode(), "text/plain", 2)
    assert world.status == "SUCCEEDED"


def test_a_payload_that_cannot_be_read_is_tried_again(world: World) -> None:
    asyncio.run(world.queue.delete(world.message()))
    world.queue.send(ID, BIG)
    world.handle(boom)
    world.queue.send(ID, "another")
    world.objects.kept.clear()
    assert world.handle().attempts == []
    record = world.store.records[ID]
    assert (record.status, record.attempt) == ("QUEUED", 2)
    assert record.error is not None
    assert record.error[0] == "PayloadUnavailable"


def test_a_delete_that_fails_for_a_while_is_repeated(world: World) -> None:
    def fail_next(_: Attempt) -> Outcome:
        world.queue.errors += [aws_error()]
        return Succeeded(json_text="1")

    world.handle(fail_next)
    assert (world.status, world.queue.left) == ("SUCCEEDED", [])


def test_a_claim_that_fails_leaves_the_message_for_later(world: World) -> None:
    world.store.errors += [aws_error()]
    assert world.handle().attempts == []
    assert world.queue.left == [ID]
    assert world.log.messages("error")[0].startswith("left for later: ")
    world.clock.now += 31
    world.handle()
    assert (world.status, world.store.records[ID].attempt) == ("SUCCEEDED", 1)


def test_the_pause_doubles_up_to_a_quarter_of_an_hour() -> None:
    assert [backoff_seconds(attempt, 1.0) for attempt in (1, 2, 3, 10, 100)] == [2, 4, 8, 900, LONGEST_BACKOFF]
    assert backoff_seconds(1, 0.5) == 1
    assert all(1 <= backoff_seconds(n, random.uniform(0.5, 1)) <= LONGEST_BACKOFF for n in range(1, 40))
