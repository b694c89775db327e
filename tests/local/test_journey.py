"""The whole product on the embedded engine, from outside: the program, its output, its exit codes, the HTTP API."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3
from page import drive_page, launch_chromium

from asyncjobs.jobs import ids

pytest.importorskip("ministack", reason="the `local` extra is not installed")

HANDLER = """
import hashlib, os, time
from pathlib import Path
from asyncjobs.worker import Reject

def handle(job):
    text = job.bytes.decode("utf-8", "replace")
    if text.startswith("sleep "):
        job.progress(0.25, "sleeping")
        for _ in range(int(float(text.split()[1]) * 20)):
            time.sleep(0.05)
    if text == "reject":
        raise Reject("not today")
    if text == "fail":
        raise ValueError("no good")
    if text == "file":
        path = job.directory / "out.bin"
        path.write_bytes(b"\\x00\\x01" * 300_000)
        return path
    if len(job.bytes) > 1024 * 1024:
        with job.path.open("rb") as file:
            return [hashlib.file_digest(file, "sha256").hexdigest(), job.content_type]
    print("handled", len(job.bytes), "bytes")
    return {"length": len(job.bytes), "hex": job.bytes[:64].hex(), "type": job.content_type, "attempt": job.attempt}
"""


@dataclass
class Stack:
    """One project directory and the state folder its stack lives in."""

    directory: Path
    state: Path
    name: str

    def run(self, *args: str, check: int | None = 0, text: str | None = None) -> subprocess.CompletedProcess[str]:
        done = self.start(*args, stdin=subprocess.PIPE)
        out, err = done.communicate(text, timeout=120)
        if check is not None:
            assert done.returncode == check, f"{args}: {done.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(args, done.returncode, out, err)

    def start(self, *args: str, **settings: Any) -> subprocess.Popen[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ASYNCJOBS_"))}
        env |= {
            "ASYNCJOBS_STATE_DIR": str(self.state),
            "HOME": str(self.directory.parent),
            "AWS_EC2_METADATA_DISABLED": "true",
            # Also where a Docker engine runs: tests/docker is for that.
            "ASYNCJOBS_TASKS": "processes",
        }
        command = [sys.executable, "-m", "asyncjobs", *args]
        return subprocess.Popen(
            command, cwd=self.directory, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
        )

    def json(self, *args: str) -> Any:
        return json.loads(self.run(*args, "--json").stdout)

    def file(self, content: str | bytes, name: str = "input.txt") -> str:
        data = content.encode() if isinstance(content, str) else content
        # Beside the project, not in it: every file in it is part of the image.
        file = self.directory.with_name(f"{self.name}-inputs") / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
        return str(file)

    def submit(self, content: str) -> str:
        return self.run("submit", self.file(content)).stdout.strip()


def make_stack(directory: Path, state: Path, name: str) -> Stack:
    directory.mkdir()
    (directory / "handler.py").write_text(HANDLER)
    (directory / "asyncjobs.toml").write_text(
        f'[stack]\nname = "{name}"\n[worker]\nhandler = "handler:handle"\nconcurrency = 4\ntimeout = 120\n'
    )
    return Stack(directory, state, name)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    base = tmp_path_factory.mktemp("journey")
    stack = make_stack(base / "project", base / "state", "journey")
    stack.run("up", "--local")
    yield stack
    stack.run("down", "--yes")
    assert family(stack.state) == []


@pytest.fixture(scope="module")
def http() -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(retries=False)
    yield pool
    pool.clear()


@pytest.fixture(scope="module")
def api(stack: Stack) -> tuple[str, dict[str, str]]:
    info = stack.json("info", "--show-key")
    return info["apiUrl"], {"x-api-key": info["apiKey"]}


def family(state: Path) -> list[psutil.Process]:
    """The engine of a state folder and everything it has started."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "asyncjobs.local.server" in line and str(state / "local") in line:
            found += [process, *process.children(recursive=True)]
    return found


def eventually(check: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = check()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


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
    assert stack.json("retry", job_id) == {"jobId": job_id, "status": "QUEUED"}
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


def test_post_and_get_answer_while_a_long_job_runs(
    stack: Stack, api: tuple[str, dict[str, str]], http: urllib3.PoolManager
):
    """29 seconds are too long for API Gateway; the whole job takes longer than that."""
    url, headers = api
    job_id = http.request(
        "POST", f"{url}/jobs", body=b"sleep 32", headers={**headers, "content-type": "text/plain"}
    ).json()["jobId"]
    eventually(lambda: stack.json("status", job_id)["status"] == "RUNNING", "running")
    started = time.monotonic()
    stack.run("status", job_id, "--follow", "--timeout", "90")
    assert time.monotonic() - started > 29
    assert stack.json("status", job_id)["attempt"] == 1


def test_a_killed_worker_costs_no_job(stack: Stack):
    job_id = stack.submit("sleep 4")
    eventually(lambda: stack.json("status", job_id)["status"] == "RUNNING", "running")
    workers = [p for p in family(stack.state) if p.cmdline()[-1:] == ["asyncjobs.worker"]]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    stack.run("status", job_id, "--follow", "--timeout", "100")
    job = stack.json("status", job_id)
    assert (job["status"], job["attempt"], job["result"]["attempt"]) == ("SUCCEEDED", 2, 2)


def test_a_second_up_changes_nothing_and_says_so(stack: Stack):
    done = stack.run("up", "--local")
    assert "nothing changed" in done.stderr
    assert stack.json("up")["changed"] == []
    assert all(line.startswith("keep") for line in stack.run("up", "--dry-run").stdout.splitlines())


def test_a_new_handler_is_rolled_out(stack: Stack):
    handler = stack.directory / "handler.py"
    handler.write_text(HANDLER.replace('"attempt": job.attempt', '"attempt": job.attempt, "version": 2'))
    changed = set(stack.json("up")["changed"])
    assert changed == {"image", "task-definition", "service"}

    def newest() -> bool:
        return json.loads(stack.run("submit", stack.file("x"), "--wait").stdout).get("version") == 2

    eventually(newest, "the new handler")


def test_two_stacks_on_one_machine_do_not_see_each_other(stack: Stack):
    other = make_stack(stack.directory.parent / "other", stack.state, "other")
    other.run("up", "--local")
    job_id = other.submit("x")
    other.run("status", job_id, "--follow")
    mine, theirs = stack.json("info", "--show-key"), other.json("info", "--show-key")
    for key in ("apiUrl", "apiKey", "queueUrl", "table", "bucket", "cluster", "logGroup"):
        assert mine[key] != theirs[key]
    assert stack.json("status", job_id)["status"] == "QUEUED"  # a fresh id that this stack has never seen
    foreign = urllib3.request(
        "GET", f"{theirs['apiUrl']}/jobs/{job_id}", headers={"x-api-key": mine["apiKey"]}, retries=False
    )
    assert foreign.status == 403
    assert "nothing is left" in other.run("down").stderr
    assert "nothing to take down" in other.run("down").stderr
    stack.run("status", stack.submit("still here"), "--follow")


def test_an_up_that_failed_can_be_taken_down(stack: Stack):
    broken = make_stack(stack.directory.parent / "broken", stack.state, "broken")
    (broken.directory / "handler.py").write_text("import there_is_no_such_module\n")
    failed = broken.run("up", "--local", check=1)
    assert "tasks do not start" in failed.stderr
    assert "exit code 3" in failed.stderr, failed.stderr
    assert "| ModuleNotFoundError: No module named 'there_is_no_such_module'" in failed.stderr, failed.stderr

    def said() -> bool:
        return "there_is_no_such_module" in broken.run("logs").stdout

    eventually(said, "the reason in the logs")
    again = broken.run("up", "--local", check=1)
    assert "tasks do not start" in again.stderr
    assert "nothing is left" in broken.run("down").stderr


def test_two_ups_at_once_make_one_stack(stack: Stack):
    race = make_stack(stack.directory.parent / "race", stack.state, "race")
    runs = [race.start("up", "--local", "--json") for _ in range(2)]
    outs = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outs
    assert len({json.loads(out)["apiUrl"] for out, _ in outs}) == 1
    assert sorted(bool(json.loads(out)["changed"]) for out, _ in outs) == [False, True]
    assert "nothing is left" in race.run("down").stderr


def until_line(process: subprocess.Popen[str], part: str) -> str:
    """What the process says until a line holds `part`."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if part in line:
            return said
    raise AssertionError(f"{part!r} was never said:\n{said}")


def test_ctrl_c_finishes_what_runs_says_where_it_stopped_and_up_goes_on(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "interrupted")
    up = other.start("up", "--local")
    until_line(up, "tasks are starting")
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=30)
    assert up.returncode == 130
    assert "`up` was interrupted." in said
    assert "There now: " in said
    assert "asyncjobs up" in said
    assert "Traceback" not in said
    plan = other.json("up", "--local", "--dry-run")["plan"]
    assert {step["step"]: step["action"] for step in plan}["table"] == "keep"
    again = other.run("up", "--local", "--json")
    assert "api" not in json.loads(again.stdout)["changed"]
    assert "another `up`" not in again.stderr
    other.run("down", "--yes")


def test_ctrl_c_twice_ends_at_once(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "twice")
    up = other.start("up", "--local")
    until_line(up, "tasks are starting")
    os.kill(up.pid, signal.SIGINT)
    os.kill(up.pid, signal.SIGINT)
    up.communicate(timeout=30)
    assert up.returncode == 130
    other.run("down", "--yes")


def test_up_gives_up_at_its_timeout_with_7(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "slow")
    done = other.run("up", "--local", "--timeout", "3", "--json", check=7)
    error = json.loads(done.stderr.splitlines()[-1])
    assert "table" in error["done"]
    assert error["failed"][0]["step"] == "service"
    other.run("down", "--yes")


def test_down_keeps_the_data_if_asked_and_up_takes_it_back(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "kept")
    other.run("up", "--local")
    job = other.submit("hello")
    other.run("status", job, "--follow")
    down = other.json("down", "--yes", "--keep-data")
    assert down["kept"] == ["table", "bucket"]
    assert "table" not in down["deleted"]
    assert "queue" in down["deleted"]
    assert {"table", "bucket"}.isdisjoint(other.json("up", "--local")["changed"])
    assert other.json("status", job)["status"] == "SUCCEEDED"
    assert set(other.json("down", "--yes")["deleted"]) >= {"table", "bucket"}


def test_up_says_what_took_so_long(stack: Stack, tmp_path: Path):
    other = make_stack(tmp_path / "other", stack.state, "path")
    up = other.json("up", "--local")
    assert up["criticalPath"][-1] in ("scaling", "service", "api-key")
    starts = {step["step"]: step["start"] for step in up["steps"]}
    ends = {step["step"]: step["end"] for step in up["steps"]}
    for before, after in zip(up["criticalPath"], up["criticalPath"][1:], strict=False):
        assert ends[before] <= starts[after]
    assert up["seconds"] == max(ends.values())
    other.run("down", "--yes")


def test_the_demo_in_json_is_one_document_and_leaves_nothing(tmp_path: Path):
    demo = Stack(tmp_path, tmp_path / "state", "demo")
    job = demo.json("demo")
    assert job["status"] == "SUCCEEDED"
    assert (job["result"]["words"], job["result"]["sentences"]) == (4270, 173)
    assert family(demo.state) == []
    assert list((demo.state / "demo").iterdir()) == []


def test_a_demo_that_is_told_to_end_tidies_up(tmp_path: Path):
    demo = Stack(tmp_path, tmp_path / "state", "demo")
    running = demo.start("demo")
    eventually(lambda: len(family(demo.state)) > 2, "the demo's workers")
    running.terminate()
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert family(demo.state) == []
    assert list((demo.state / "demo").iterdir()) == []


def test_a_big_result_with_only_url_and_key(stack: Stack, tmp_path: Path):
    job_id = stack.submit("file")
    stack.run("status", job_id, "--follow")
    info = stack.json("info", "--show-key")
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


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path):
    dry = make_stack(tmp_path / "dry", tmp_path / "state", "dry")
    assert dry.run("up", "--local", "--dry-run").stdout.count("create") == 17
    assert family(dry.state) == []
    assert not (dry.state / "stacks").exists()


def test_info_masks_the_key(stack: Stack):
    shown, masked = stack.json("info", "--show-key"), stack.json("info")
    assert masked["apiKey"] != shown["apiKey"]
    assert {"stack", "target", "account", "region", "apiUrl", "queueUrl", "deadLetterQueueUrl", "table"} <= set(shown)
    assert {"bucket", "repository", "cluster", "service", "logGroup"} <= set(shown)
    assert shown["target"] == "local"


def test_the_page_is_served_and_the_document_is_openapi(api: tuple[str, dict[str, str]], http: urllib3.PoolManager):
    url, _ = api
    page = http.request("GET", f"{url}/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    template = Path(__file__).parents[2] / "templates" / "frontend" / "index.html"
    assert page.data.decode() == template.read_text()
    document = http.request("GET", f"{url}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert "/jobs/{id}" in document["paths"]
    assert "amazonaws" not in json.dumps(document)


def test_a_person_with_a_browser(stack: Stack):
    info = stack.json("info", "--show-key")
    with launch_chromium() as browser:
        page = browser.new_page()
        result = drive_page(page, f"{info['apiUrl']}/", info["apiKey"], "typed into the page")
        page.close()
    assert json.loads(result)["length"] == len("typed into the page")


def test_a_dead_engine_is_said_plainly_and_comes_back_with_its_data(stack: Stack):
    job_id = stack.submit("before")
    stack.run("status", job_id, "--follow")
    engine = family(stack.state)[0]
    engine.terminate()
    engine.wait(60)
    for command in (["info"], ["logs"]):
        assert "asyncjobs up --local" in stack.run(*command, check=5).stderr
    assert "asyncjobs up --local" in stack.run("status", job_id, check=1).stderr
    stack.run("up", "--local")
    assert stack.json("status", job_id)["status"] == "SUCCEEDED"
