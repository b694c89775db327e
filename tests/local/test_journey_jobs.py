"""Jobs on the embedded engine, from outside: the program, its output, its exit codes, the HTTP API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import urllib3
from projects import Stack, eventually

from asyncjobs.jobs import ids

pytest.importorskip("ministack", reason="the `local` extra is not installed")


def test_submit_and_status_in_a_script(stack: Stack):
    job_id = stack.submit("hello world")
    assert ids.is_well_formed(job_id)
    followed = stack.run("status", job_id, "--follow")
    assert "SUCCEEDED" in followed.stdout
    job = stack.json("status", job_id)
    assert set(job) == {
        *("jobId", "status", "submittedAt", "startedAt", "finishedAt", "attempt", "maxAttempts"),
        *("progress", "contentType", "result"),
    }
    assert job["jobId"] == job_id
    assert job["status"] == "SUCCEEDED"
    assert (job["attempt"], job["maxAttempts"]) == (1, 3)
    assert job["result"] == {"length": 11, "hex": b"hello world".hex(), "type": "text/plain", "attempt": 1}
    assert job["submittedAt"] <= job["startedAt"] <= job["finishedAt"]


def test_follow_shows_states_and_progress_and_json_streams(stack: Stack):
    job_id = stack.submit("sleep 3")
    lines = [json.loads(line) for line in stack.run("status", job_id, "--follow", "--json").stdout.splitlines()]
    assert lines[-1]["status"] == "SUCCEEDED"
    assert any(line.get("progress") == {"fraction": 0.25, "message": "sleeping"} for line in lines)


def test_several_files_and_standard_input(stack: Stack):
    names = [stack.file(f"file {number}", f"in{number}.txt") for number in range(3)]
    done = stack.run("submit", *names, "-", text="from a pipe")
    submitted = done.stdout.split()
    assert len(set(submitted)) == 4
    for job_id in submitted:
        stack.run("status", job_id, "--follow")
    assert stack.json("status", submitted[-1])["result"]["length"] == len("from a pipe")


def test_wait_prints_the_result(stack: Stack):
    done = stack.run("submit", stack.file("hello"), "--wait")
    assert json.loads(done.stdout)["length"] == 5


def test_a_rejected_job_ends_with_6_and_says_why(stack: Stack):
    done = stack.run("submit", stack.file("reject"), "--wait", check=6)
    assert "not today" in done.stderr
    job_id = stack.submit("reject")
    followed = stack.run("status", job_id, "--follow", check=6)
    assert "Rejected: not today" in followed.stdout
    assert stack.json("status", job_id)["error"] == {"type": "Rejected", "message": "not today"}
    stack.run("result", job_id, check=6)


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("long.txt", "é text\n".encode() * 800_000, "text/plain"),
        ("long.pdf", os.urandom(1024 * 1024) * 48, "application/pdf"),
        ("near.bin", b"\xff" * 1_000_000 + b"\xff" * 48_000, "application/octet-stream"),
    ],
)
def test_a_payload_that_no_message_can_carry(stack: Stack, name: str, data: bytes, kind: str):
    done = stack.json("submit", stack.file(data, name), "--wait")
    assert (done["status"], done["contentType"]) == ("SUCCEEDED", kind)
    if len(data) > 1024 * 1024:
        assert done["result"] == [hashlib.sha256(data).hexdigest(), kind]
    else:
        assert done["result"]["length"] == len(data)


def test_a_big_payload_sent_twice_is_one_job(stack: Stack):
    job_id = f"{int(time.time() * 1000)}-twice-{uuid.uuid4()}"
    file = stack.file("z" * 3_000_000, "twice.txt")
    for _ in range(2):
        assert stack.run("submit", file, "--id", job_id).stdout.strip() == job_id
    stack.run("status", job_id, "--follow")
    assert json.loads(stack.run("result", job_id).stdout)[1] == "text/plain"
    assert stack.json("retry", job_id)["status"] == "QUEUED"
    stack.run("status", job_id, "--follow")
    assert stack.json("status", job_id)["attempt"] == 1


def test_a_cancelled_job_never_runs_or_is_ended(stack: Stack):
    running = stack.submit("sleep 60")
    eventually(lambda: stack.json("status", running)["status"] == "RUNNING", "running")
    assert f"Job {running} is cancelled" in stack.run("cancel", running).stderr
    assert "CANCELLED" in stack.run("status", running, "--follow", check=6).stdout
    assert stack.json("cancel", running)["status"] == "CANCELLED"
    eventually(lambda: "the job is CANCELLED" in stack.run("logs", running).stdout, "its worker noticed")

    before = ids.mint()
    assert stack.json("cancel", before)["status"] == "CANCELLED"
    stack.run("submit", stack.file("never"), "--id", before)
    # Later jobs are done, and it is not.
    for _ in range(2):
        stack.run("submit", stack.file("hello"), "--wait")
    assert set(stack.json("status", before)) == {"jobId", "status", "submittedAt", "finishedAt"}

    done = stack.submit("hello")
    stack.run("status", done, "--follow")
    assert "it is SUCCEEDED" in stack.run("cancel", done, check=1).stderr
    stack.run("cancel", "nonsense", check=5)


def test_a_job_that_has_ended_is_run_again(stack: Stack):
    job_id = stack.submit("hello")
    stack.run("status", job_id, "--follow")
    first = stack.json("status", job_id)
    retried = stack.json("retry", job_id)
    # A worker that was fast enough has it by now, or has ended it.
    assert (retried["jobId"], retried["status"] in {"QUEUED", "RUNNING", "SUCCEEDED"}) == (job_id, True)
    stack.run("status", job_id, "--follow")
    again = stack.json("status", job_id)
    assert again["result"] == first["result"]
    assert again["startedAt"] > first["finishedAt"]
    stack.run("retry", ids.mint(), check=5)


def test_a_failing_job_is_tried_as_often_as_configured(stack: Stack):
    job_id = stack.submit("fail")
    stack.run("status", job_id, "--follow", "--timeout", "90", check=6)
    job = stack.json("status", job_id)
    assert (job["status"], job["attempt"]) == ("FAILED", 3)
    assert job["error"] == {"type": "ValueError", "message": "no good"}


def test_a_result_that_is_a_file_comes_back_byte_for_byte(stack: Stack):
    job_id = stack.submit("file")
    stack.run("status", job_id, "--follow")
    assert set(stack.json("status", job_id)["resultLocation"]) == {"bucket", "key"}
    out = stack.directory.parent / "out.bin"
    stack.run("result", job_id, "-o", str(out))
    assert out.read_bytes() == b"\x00\x01" * 300_000


def test_giving_up_waiting_is_7_and_no_result_yet_is_said(stack: Stack):
    job_id = stack.submit("sleep 6")
    assert "still" in stack.run("status", job_id, "--follow", "--timeout", "0.5", check=7).stderr
    assert "--follow" in stack.run("result", job_id, check=1).stderr
    stack.run("status", job_id, "--follow")


def test_logs_of_one_job(stack: Stack):
    first, second = stack.submit("one"), stack.submit("second")
    for job_id in (first, second):
        stack.run("status", job_id, "--follow")

    def lines() -> list[str]:
        return stack.run("logs", first).stdout.splitlines()

    eventually(lambda: any("handled 3 bytes" in line for line in lines()), "the handler's print in the log")
    assert all(first in line for line in lines())
    assert second in stack.run("logs", "--since", "1h").stdout


@pytest.mark.parametrize(
    ("body", "kind", "statuses"),
    [
        (b"plain", "text/plain", {202}),
        ("emoji 🎉 and ünïcode".encode(), "text/plain; charset=utf-8", {202}),
        (b"&MessageAttribute.1.Value.StringValue=x&Action=DeleteQueue", "text/plain", {202}),
        (b'{"quote": "\\"", "vtl": "$input.body #if($x) ${y}"}', "application/json", {202}),
        (b"x" * (1024 * 1024 - 1024), "text/plain", {202}),
        (b"\x00\x01\xff\xfe binary", "application/octet-stream", {202}),
        (b"", "text/plain", {400}),
        (b"nul \x00 byte", "text/plain", {400}),
        (b"\xff\xfe not utf-8", "text/plain", {400}),
        (b"x" * (1024 * 1024 + 1), "text/plain", {413}),
        (b"x" * (11 * 1024 * 1024), "text/plain", {413}),
        (b"x", "application/x-nonsense", {415}),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_body_arrives_byte_for_byte_or_is_refused(
    api: tuple[str, dict[str, str]], http: urllib3.PoolManager, body: bytes, kind: str, statuses: set[int]
):
    url, headers = api
    answer = http.request("POST", f"{url}/jobs", body=body, headers={**headers, "content-type": kind})
    assert answer.status in statuses, answer.data
    if answer.status != 202:
        assert set(answer.json()) == {"error", "message"}
        assert answer.headers["access-control-allow-origin"] == "*"
        return
    job_id = answer.json()["jobId"]
    assert answer.headers["location"] == f"/v1/jobs/{job_id}"

    def ended() -> Any:
        job = http.request("GET", f"{url}/jobs/{job_id}", headers=headers).json()
        return job if job["status"] not in ("QUEUED", "RUNNING") else None

    result = eventually(ended, "the job's end")["result"]
    assert result["length"] == len(body)
    assert result["hex"] == body[:64].hex()


def test_what_get_answers(api: tuple[str, dict[str, str]], http: urllib3.PoolManager):
    url, headers = api
    now = int(time.time() * 1000)

    def get(job_id: str, **extra: str) -> urllib3.BaseHTTPResponse:
        return http.request("GET", f"{url}/jobs/{job_id}", headers={**headers, **extra})

    fresh = get(f"{now}-nobody-sent-this")
    assert fresh.status == 200
    assert set(fresh.json()) == {"jobId", "status", "submittedAt"}
    assert fresh.json()["status"] == "QUEUED"
    for job_id in ("nonsense", f"{now}-", f"{now}-a$b", f"{now + 86_400_000}-future", f"{now - 15 * 86_400_000}-old"):
        answer = get(job_id)
        assert (answer.status, answer.json()["error"]) == (404, "JobNotFound"), job_id
    assert http.request("GET", f"{url}/jobs/{now}-a").status == 403
    assert get(f"{now}-a", **{"x-api-key": "wrong"}).status == 403


def test_the_same_id_twice_is_one_job(stack: Stack):
    job_id = ids.mint()
    name = stack.file("only once")
    assert stack.run("submit", name, "--id", job_id).stdout.strip() == job_id
    assert stack.run("submit", name, "--id", job_id).stdout.strip() == job_id
    stack.run("status", job_id, "--follow")
    first = stack.json("status", job_id)
    assert stack.run("submit", name, "--id", job_id).stdout.strip() == job_id
    time.sleep(1)
    assert stack.json("status", job_id) == first


def test_a_big_result_with_only_url_and_key(stack: Stack, info: Any, tmp_path: Path):
    job_id = stack.submit("file")
    stack.run("status", job_id, "--follow")
    done = subprocess.run(
        [sys.executable, "-m", "asyncjobs", "result", job_id, "-o", "out.bin", "--json"],
        cwd=tmp_path,
        env={
            **os.environ,
            "ASYNCJOBS_STATE_DIR": str(stack.state),
            "ASYNCJOBS_API_URL": info["apiUrl"],
            "ASYNCJOBS_API_KEY": info["apiKey"],
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["jobId"] == job_id
    assert len((tmp_path / "out.bin").read_bytes()) == 600_000
