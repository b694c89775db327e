"""The HTTP client against a server on loopback that answers from a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.client import LARGEST_MESSAGE, JobsClient
from asyncjobs.errors import (
    ApiError,
    CredentialsError,
    JobEndedError,
    JobFailedError,
    NotFoundError,
    TimedOutError,
    UsageError,
)

ID = "1795434536980-abc"


class Api:
    """Answers each request with the next of `answers`, and keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                api.asked.append((self.command, self.path, headers, body))
                status, document = api.answers.pop(0)
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_DELETE = _answer

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.server.shutdown()
    api.server.server_close()


def client(api: Api, key: str = "k", **settings: Any) -> JobsClient:
    return JobsClient(api.url, key, sleep=lambda _: None, **settings)


def test_submit_puts_the_payload_under_an_id_of_its_own(api: Api):
    api.answers = [(202, {"jobId": ID, "status": "QUEUED"})]
    assert client(api).submit("grüße".encode(), content_type="text/plain") == ID
    method, path, headers, body = api.asked[0]
    assert method == "PUT"
    assert path.startswith("/v1/jobs/")
    assert headers["x-api-key"] == "k"
    assert headers["content-type"] == "text/plain"
    assert body.decode() == "grüße"


def test_a_submission_that_failed_on_the_way_is_repeated_under_the_same_id(api: Api):
    api.answers = [(503, {}), (429, {}), (202, {"jobId": ID, "status": "QUEUED"})]
    client(api).submit(b"x", content_type="text/plain")
    assert len({path for _, path, _, _ in api.asked}) == 1
    assert len(api.asked) == 3


def test_follow_yields_changes_only_and_ends_with_the_job(api: Api):
    states = ["QUEUED", "QUEUED", "RUNNING", "RUNNING", "SUCCEEDED"]
    api.answers = [(200, {"jobId": ID, "status": state}) for state in states]
    assert [job["status"] for job in client(api).follow(ID)] == ["QUEUED", "RUNNING", "SUCCEEDED"]


def test_wait_gives_up_in_time_and_says_how_to_go_on(api: Api):
    api.answers = [(200, {"jobId": ID, "status": "RUNNING"})] * 100
    now = iter(range(100))
    waiting = JobsClient(api.url, clock=lambda: float(next(now)), sleep=lambda _: None)
    with pytest.raises(TimedOutError) as caught:
        waiting.wait(ID, timeout=5)
    assert ID in caught.value.hint


@pytest.mark.parametrize(
    ("status", "document", "error"),
    [
        (403, {"error": "Forbidden", "message": "Forbidden"}, CredentialsError),
        (404, {"error": "JobNotFound", "message": "gone"}, NotFoundError),
        (404, {"error": "NotFound", "message": "no such path"}, ApiError),
        (400, {"error": "InvalidJobId", "message": "no"}, ApiError),
        (413, {"error": "PayloadTooLarge", "message": "no"}, ApiError),
        (500, b"<html>", ApiError),
    ],
)
def test_every_error_of_the_api_becomes_ours(api: Api, status: int, document: Any, error: type[Exception]):
    api.answers = [(status, document)] * 9
    with pytest.raises(error):
        client(api, retries=1).get(ID)


def test_the_apis_own_words_reach_the_person(api: Api):
    api.answers = [(413, {"error": "PayloadTooLarge", "message": "At most 1 MiB."})]
    with pytest.raises(ApiError) as caught:
        client(api).submit(b"x", content_type="text/plain")
    assert (caught.value.status, caught.value.code, caught.value.why) == (413, "PayloadTooLarge", "At most 1 MiB.")


def test_an_address_that_is_no_api_of_ours_is_noticed(api: Api):
    api.answers = [(200, {"hello": "world"}), (200, b"<html>")]
    for _ in range(2):
        with pytest.raises(ApiError, match="does not answer like an asyncjobs API"):
            client(api).get(ID)


def test_result_gives_the_value_or_the_bytes(api: Api):
    done = {"jobId": ID, "status": "SUCCEEDED"}
    location = {"bucket": "b", "key": "k"}
    api.answers = [(200, {**done, "result": {"a": 1}}), (200, {**done, "resultLocation": location})]
    fetching = client(api, fetch=lambda where: f"{where['bucket']}/{where['key']}".encode())
    assert fetching.result(ID) == {"a": 1}
    assert fetching.result(ID) == b"b/k"


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING", "FAILED", "CANCELLED"])
def test_there_is_no_result_of_a_job_that_has_not_succeeded(api: Api, status: str):
    api.answers = [(200, {"jobId": ID, "status": status})]
    with pytest.raises(JobFailedError, match=status):
        client(api).result(ID)


ENDED = (409, {"error": "JobAlreadyEnded", "message": "The job has already ended."})


def test_cancel_returns_the_cancelled_job(api: Api):
    api.answers = [(503, {}), (200, {"jobId": ID, "status": "CANCELLED"})]
    assert client(api).cancel(ID)["status"] == "CANCELLED"
    assert [(method, path) for method, path, _, _ in api.asked] == [("DELETE", f"/v1/jobs/{ID}")] * 2


def test_a_cancellation_whose_answer_was_lost_is_done_when_it_is_repeated(api: Api):
    api.answers = [ENDED, (200, {"jobId": ID, "status": "CANCELLED"})]
    assert client(api).cancel(ID) == {"jobId": ID, "status": "CANCELLED"}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_what_has_ended_cannot_be_cancelled(api: Api, status: str):
    api.answers = [ENDED, (200, {"jobId": ID, "status": status})]
    with pytest.raises(JobEndedError, match=status):
        client(api).cancel(ID)


def test_other_conflicts_are_errors_of_the_api(api: Api):
    api.answers = [(409, {"error": "Conflict", "message": "no"})]
    with pytest.raises(ApiError):
        client(api).cancel(ID)


def test_nobody_there():
    with pytest.raises(ApiError, match="cannot be reached") as caught:
        JobsClient("http://127.0.0.1:9/v1", retries=0).get(ID)
    assert caught.value.status == 0


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://host/v1"])
def test_a_url_that_is_none(url: str):
    with pytest.raises(UsageError):
        JobsClient(url)


def test_an_id_cannot_leave_its_place_in_the_path(api: Api):
    api.answers = [(404, {"error": "JobNotFound", "message": "malformed"})]
    with pytest.raises(NotFoundError):
        client(api).get("../keys?x=1")
    assert api.asked[0][1] == "/v1/jobs/..%2Fkeys%3Fx%3D1"


TOO_LARGE = (413, {"error": "PayloadTooLarge", "message": "no"})
QUEUED = (200, {"jobId": ID, "status": "QUEUED"})


class Uploaded:
    """An upload that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[tuple[bytes, str, str]] = []

    def __call__(self, file: Path, job_id: str, content_type: str) -> None:
        self.jobs.append((file.read_bytes(), job_id, content_type))


def test_a_small_file_is_sent_like_its_bytes(api: Api, tmp_path: Path):
    file = tmp_path / "small.txt"
    file.write_bytes(b"two words")
    api.answers = [(202, {"jobId": ID, "status": "QUEUED"})]
    client(api).submit(file, content_type="text/plain")
    assert api.asked[0][3] == b"two words"


@pytest.mark.parametrize("as_file", [True, False])
def test_what_no_message_can_carry_is_uploaded_without_asking_the_api_to_take_it(
    api: Api, tmp_path: Path, as_file: bool
):
    file, data, uploaded = tmp_path / "big", b"x" * (LARGEST_MESSAGE + 1), Uploaded()
    file.write_bytes(data)
    api.answers = [QUEUED]
    answer = client(api, upload=uploaded).submit(file if as_file else data, content_type="text/plain", job_id=ID)
    assert answer == ID
    assert uploaded.jobs == [(data, ID, "text/plain")]
    assert [method for method, *_ in api.asked] == ["GET"]


def test_what_the_api_finds_too_large_is_uploaded_too(api: Api):
    data, uploaded = b"\xff" * 900_000, Uploaded()  # as base64 above 1 MiB
    api.answers = [TOO_LARGE, QUEUED]
    client(api, upload=uploaded).submit(data, content_type="application/pdf", job_id=ID)
    assert uploaded.jobs == [(data, ID, "application/pdf")]


def test_a_job_that_a_worker_has_is_not_uploaded_again(api: Api):
    uploaded = Uploaded()
    api.answers = [(200, {"jobId": ID, "status": "RUNNING"})]
    client(api, upload=uploaded).submit(b"x" * (LARGEST_MESSAGE + 1), content_type="text/plain", job_id=ID)
    assert uploaded.jobs == []


def test_an_id_that_the_api_would_refuse_is_not_uploaded(api: Api):
    uploaded = Uploaded()
    api.answers = [(404, {"error": "JobNotFound", "message": "from the future"})]
    with pytest.raises(ApiError) as caught:
        client(api, upload=uploaded).submit(b"x" * (LARGEST_MESSAGE + 1), content_type="text/plain", job_id="x")
    assert (caught.value.status, caught.value.code) == (400, "InvalidJobId")
    assert uploaded.jobs == []


def test_without_the_stack_a_large_payload_is_refused_and_the_way_on_named(api: Api):
    with pytest.raises(ApiError) as caught:
        client(api).submit(b"x" * (LARGEST_MESSAGE + 1), content_type="text/plain")
    assert (caught.value.status, caught.value.code) == (413, "PayloadTooLarge")
    assert "stack=" in caught.value.hint
    assert api.asked == []
