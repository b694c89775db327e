"""A small HTTP server that keeps the job API's contract, with the states of its jobs written down beforehand."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from asyncjobs.assets import read_template
from asyncjobs.provision.api_document import content_security_policy

KEY = "test-key-0123456789"
STAGE = "/v1"
LIMIT = 1024 * 1024
CONTENT_TYPES = {"application/json", "text/plain", "text/csv", "application/octet-stream", "application/pdf"}
_PATH = re.compile(rf"{STAGE}/jobs/([^/?]+)\Z")
_ID = re.compile(r"[0-9]{13}-[A-Za-z0-9._-]{1,64}\Z")


class FakeApi:
    """What the server knows and what it was sent.

    Args:
        states: What each GET of a job adds to its JSON, in order; the last one stays.
        submissions: Every accepted PUT as (id, content type, body); a repeat is there twice.
        put_answers: Statuses for the next PUTs instead of the real answer; 0 drops the connection after reading.
        get_answers, delete_answers: The same for GETs and DELETEs of jobs.
        cancelled: The ids of cancelled jobs; each job is CANCELLED from then on.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.states: list[dict[str, Any]] = [{"status": "SUCCEEDED", "result": {"words": 2}}]
        self.submissions: list[tuple[str, str, bytes]] = []
        self.put_answers: list[int] = []
        self.get_answers: list[int] = []
        self.delete_answers: list[int] = []
        self.cancelled: list[str] = []
        self.reads = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeApi

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path in (STAGE, f"{STAGE}/"):
            page = read_template("frontend/index.html")
            self._answer(200, page.encode(), "text/html; charset=utf-8", content_security_policy(page))
        elif self._allowed() and not self._scripted(self.api.get_answers):
            self._job()

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        match = _PATH.match(self.path)
        content_type = self.headers.get("content-type", "application/json").split(";")[0]
        if not self._allowed() or self._scripted(self.api.put_answers):
            return
        if match is None or not _ID.match(match[1]):
            self._error(400, "BadRequest", "The job id is malformed.")
        elif len(body) > LIMIT:
            self._error(413, "RequestTooLarge", "The body is larger than the queue takes.")
        elif content_type not in CONTENT_TYPES:
            self._error(415, "UnsupportedMediaType", f"The API does not list {content_type}.")
        else:
            self.api.submissions.append((match[1], content_type, body))
            self._json(202, {"jobId": match[1], "status": "QUEUED"})

    def do_DELETE(self) -> None:
        match = _PATH.match(self.path)
        if match is None or not self._allowed() or self._scripted(self.api.delete_answers):
            return
        self.api.cancelled.append(match[1])
        self.api.states = [{**self.api.states[-1], "status": "CANCELLED"}]
        self._json(200, {"jobId": match[1], "submittedAt": "2026-11-23T06:43:52.123Z", **self.api.states[-1]})

    def _job(self) -> None:
        match = _PATH.match(self.path)
        if match is None or not _ID.match(match[1]) or match[1].startswith("000"):
            return self._error(404, "JobNotFound", "There is no job with this id.")
        state = self.api.states[min(self.api.reads, len(self.api.states) - 1)]
        self.api.reads += 1
        return self._json(200, {"jobId": match[1], "submittedAt": "2026-11-23T06:43:52.123Z", **state})

    def _allowed(self) -> bool:
        if self.headers.get("x-api-key") == KEY:
            return True
        self._error(403, "Forbidden", "The API key is missing or wrong.")
        return False

    def _scripted(self, statuses: list[int]) -> bool:
        if not statuses:
            return False
        status = statuses.pop(0)
        if status:
            self._error(status, "Scripted", "The service is not well.")
        else:
            self.close_connection = True
        return True

    def _error(self, status: int, code: str, message: str) -> None:
        self._json(status, {"error": code, "message": message})

    def _json(self, status: int, value: object) -> None:
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str, policy: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        if policy:
            self.send_header("content-security-policy", policy)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve_fake_api() -> Iterator[FakeApi]:
    """The server on a free port of loopback, ended with the context."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        api = FakeApi(f"http://127.0.0.1:{server.server_address[1]}{STAGE}/")
        handler.api = api  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
