"""`asyncjobs.testing`: handlers run as a worker runs them, and fakes with the rules of the real ones."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.jobs.leases import AlreadyEnded, Claimed, LeaseLostError, NewJob, Result
from asyncjobs.testing import Clock, InMemoryQueue, InMemoryStore, run
from asyncjobs.worker import Job, Reject

ID = "1795416232123-abc"
JOB = NewJob(ID, "text/plain", "x")
HANDLERS = Path(__file__).parents[2] / "docs" / "handlers.md"


def count(job: Job) -> dict[str, int]:
    job.progress(0.5, "counting")
    return {"words": len(job.text.split())}


def test_a_job_that_succeeds_is_as_the_api_answers_it() -> None:
    done = run(count, "three small words", content_type="text/plain", job_id=ID)
    assert done.job == {
        "jobId": ID,
        "status": "SUCCEEDED",
        "submittedAt": "2026-11-23T06:43:52.123Z",
        "startedAt": "2026-11-23T06:43:52.000Z",
        "finishedAt": "2026-11-23T06:43:52.000Z",
        "attempt": 1,
        "maxAttempts": 3,
        "progress": {"fraction": 1.0, "message": "counting"},
        "contentType": "text/plain",
        "result": {"words": 3},
    }
    assert (done.status, done.result, done.data, done.error) == ("SUCCEEDED", {"words": 3}, None, {})
    assert (done.progress, done.pauses) == ([(0.5, "counting")], [])


def test_a_coroutine_is_awaited_also_from_within_one() -> None:
    async def handle(job: Job) -> str:
        await asyncio.sleep(0)
        return job.text.upper()

    async def a_test() -> Any:
        return run(handle, "text").result

    assert run(handle, "text").result == "TEXT"
    assert asyncio.run(a_test()) == "TEXT"


def test_what_fails_is_tried_again_and_keeps_its_last_error() -> None:
    attempts = []

    def handle(job: Job) -> None:
        attempts.append((job.id, job.attempt, job.max_attempts))
        raise ValueError(f"no luck the {job.attempt}th time")

    done = run(handle, b"x", max_attempts=3, job_id=ID)
    assert attempts == [(ID, 1, 3), (ID, 2, 3), (ID, 3, 3)]
    assert (done.status, done.error) == ("FAILED", {"type": "ValueError", "message": "no luck the 3th time"})
    assert (done.job["attempt"], done.result) == (3, None)
    assert done.pauses == [2, 4]
    assert [line for line in done.log if "Traceback" in line.get("traceback", "")]


def test_what_fails_may_say_anything() -> None:
    """Line separators of Unicode's are none of the log's."""

    def handle(job: Job) -> None:
        raise ValueError("a\u2028b\x85c")

    assert run(handle, b"").error == {"type": "ValueError", "message": "a\u2028b\x85c"}


def test_one_that_works_the_second_time_has_no_error_left() -> None:
    def handle(job: Job) -> int:
        if job.attempt == 1:
            raise OSError("busy")
        return job.attempt

    done = run(handle, "x")
    assert (done.status, done.result, done.error, done.job["attempt"]) == ("SUCCEEDED", 2, {}, 2)


def test_a_rejected_job_is_run_once() -> None:
    def handle(job: Job) -> None:
        raise Reject("not allowed")

    done = run(handle, "x")
    assert (done.error, done.job["attempt"]) == ({"type": "Rejected", "message": "not allowed"}, 1)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_bytes_and_files_come_back_as_bytes(kind: str) -> None:
    def handle(job: Job) -> Any:
        if kind == "bytes":
            return b"\x00\xff"
        file = job.directory / "out.bin"
        file.write_bytes(b"\x00\xff")
        return file

    done = run(handle, "x")
    assert (done.result, done.data) == (b"\x00\xff", b"\x00\xff")
    assert set(done.job["resultLocation"]) == {"bucket", "key"}
    assert "result" not in done.job


def test_a_payload_too_big_for_the_record_arrives_whole() -> None:
    payload = bytes(range(256)) * 1000
    assert run(lambda job: job.bytes == payload, payload).result is True


def test_a_value_that_is_no_json_is_an_error_like_in_production() -> None:
    done = run(lambda job: {1, 2}, "x", max_attempts=1)
    assert done.error["type"] == "InvalidResult"


def test_the_handler_may_run_a_loop_of_its_own() -> None:
    assert run(lambda job: asyncio.run(asyncio.sleep(0, "done")), "x").result == "done"


def claim(store: InMemoryStore, generation: int = 1) -> Any:
    return asyncio.run(store.claim(JOB, generation=generation))


def test_a_job_cancelled_before_a_worker_saw_it_is_not_run_and_cannot_be_retried() -> None:
    store = InMemoryStore(Clock())
    assert store.cancel(ID)
    assert store.get(ID) == {
        "jobId": ID,
        "status": "CANCELLED",
        "submittedAt": "2026-11-23T06:43:52.123Z",
        "finishedAt": "2026-11-23T06:43:52.000Z",
    }
    assert claim(store) == AlreadyEnded("CANCELLED")
    assert not store.cancel(ID)
    assert not store.retry(ID)


def test_of_a_cancellation_and_an_end_one_happens() -> None:
    store = InMemoryStore(Clock())
    claimed = claim(store)
    assert store.cancel(ID)
    with pytest.raises(LeaseLostError, match="CANCELLED"):
        asyncio.run(store.succeed(claimed.lease, Result(json_text="1")))
    store = InMemoryStore(Clock())
    asyncio.run(store.succeed(claim(store).lease, Result(json_text="1")))
    assert not store.cancel(ID)


def test_a_write_sent_again_is_done_once_and_another_end_is_refused() -> None:
    store = InMemoryStore(Clock())
    lease = claim(store).lease
    for _ in range(2):
        asyncio.run(store.fail(lease, "ValueError", "no"))
    assert store.records[ID].writes == ["RUNNING", "FAILED"]
    with pytest.raises(LeaseLostError, match="FAILED"):
        asyncio.run(store.succeed(lease, Result(json_text="1")))


def test_a_worker_paused_past_its_lease_changes_nothing() -> None:
    clock = Clock()
    store = InMemoryStore(clock, lease_seconds=30)
    late = claim(store).lease
    clock.now += 31
    assert isinstance(claim(store), Claimed)
    for write in (store.succeed(late, Result(json_text="1")), store.fail(late, "E", "m"), store.heartbeat(late)):
        with pytest.raises(LeaseLostError, match="RUNNING"):
            asyncio.run(write)


def test_a_retry_starts_the_next_generation_whichever_comes_first() -> None:
    for marked_first in (True, False):
        store = InMemoryStore(Clock())
        asyncio.run(store.succeed(claim(store).lease, Result(json_text="1")))
        if marked_first:
            assert store.retry(ID)
        again = claim(store, generation=2)
        assert (again.lease.generation, again.lease.attempt) == (2, 1)
        assert claim(store, generation=1) == AlreadyEnded("retried")


def test_a_received_message_is_hidden_until_its_time() -> None:
    clock = Clock()
    queue = InMemoryQueue(clock, lease_seconds=30)
    queue.send(ID, "x")

    def received() -> list[Any]:
        return asyncio.run(queue.receive(10))

    assert [message.receives for message in received()] == [1]
    assert received() == []
    clock.now += 30
    (message,) = received()
    assert message.receives == 2
    asyncio.run(queue.show_in(message, 0))
    (message,) = received()
    asyncio.run(queue.delete(message))
    assert queue.left == []


def test_the_example_in_the_docs_runs() -> None:
    (code,) = re.findall(r"<!-- tested -->\n\n((?:    .*\n|\n)+)", HANDLERS.read_text(encoding="utf-8"))
    source = textwrap.dedent(code)
    handler = "def handle(job):\n    job.progress(0.5, 'half')\n    return {'words': len(job.text.split())}\n"
    names: dict[str, Any] = {}
    exec(handler + source.replace("from handler import handle\n", ""), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) >= 3
    for test in tests:
        test()
