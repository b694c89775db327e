"""`python -m asyncjobs.worker` as a task runs it, against a server that speaks SQS, DynamoDB and S3."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from moto.server import ThreadedMotoServer
from records import job_of

from asyncjobs.jobs import ids

WITHIN = 30.0  # seconds; reached only by a test that fails
LEASE = 2
HANDLER = """
import asyncio, hashlib, time

def handle(job):
    print("handling", job.id)
    if job.content_type == "application/zip":
        with job.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if job.content_type == "application/octet-stream":
        return bytes(reversed(job.bytes))
    if job.content_type == "application/pdf":
        (job.directory / "out.csv").write_bytes(job.bytes)
        return job.directory / "out.csv"
    text = job.text
    if text == "first attempt hangs" and job.attempt == 1:
        job.progress(0.5, "hanging")
        time.sleep(300)
    if text == "hangs":
        job.progress(0.5, "hanging")
        time.sleep(300)
    job.progress(0.9, "almost")
    return {"words": len(text.split()), "attempt": job.attempt}

async def handle_async(job):
    await asyncio.sleep(0.01)
    return job.text
"""
SUBMIT = """
import resource, sys
from pathlib import Path
import boto3
from asyncjobs.jobs import ids
from asyncjobs.jobs.uploads import Uploads

endpoint, name, *files = sys.argv[1:]
session = boto3.session.Session("testing", "testing", region_name="eu-west-1")
s3, sqs = session.client("s3", endpoint_url=endpoint), session.client("sqs", endpoint_url=endpoint)
uploads = Uploads(s3, sqs, bucket=name, queue=name, account="123456789012")
for file in files:
    job_id = ids.mint()
    uploads.submit(Path(file), job_id=job_id, content_type="application/zip")
    print(job_id, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def eventually(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WITHIN
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


class Cloud:
    """A queue, a table and a bucket of one test's own."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.endpoint = endpoint
        self.name = name
        session = boto3.session.Session("testing", "testing", region_name="eu-west-1")
        self.sqs: Any = session.client("sqs", endpoint_url=endpoint)
        self.dynamodb: Any = session.client("dynamodb", endpoint_url=endpoint)
        self.s3: Any = session.client("s3", endpoint_url=endpoint)
        self.queue_url: str = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.dynamodb.create_table(
            TableName=name,
            AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def close(self) -> None:
        for client in (self.sqs, self.dynamodb, self.s3):
            client.close()

    def submit(self, payload: str | bytes, content_type: str = "text/plain") -> str:
        job_id = ids.mint()
        attributes = {"jobId": job_id, "contentType": content_type}
        if isinstance(payload, bytes):
            payload, attributes["encoding"] = base64.b64encode(payload).decode(), "base64"
        self.sqs.send_message(
            QueueUrl=self.queue_url,
            MessageBody=payload,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )
        return job_id

    def upload(self, *files: Path) -> list[tuple[str, float]]:
        """The jobs of big payloads, and the most memory in MiB that the process had by then that submitted them."""
        command = [sys.executable, "-c", SUBMIT, self.endpoint, self.name, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        return [(job_id, int(kib) / 1024) for job_id, kib in lines]

    def job(self, job_id: str) -> dict[str, Any]:
        item = self.dynamodb.get_item(TableName=self.name, Key={"jobId": {"S": job_id}}, ConsistentRead=True)
        return job_of(item["Item"]) if "Item" in item else {}

    def wait_for(self, job_id: str, status: str) -> dict[str, Any]:
        eventually(lambda: self.job(job_id).get("status") == status)
        return self.job(job_id)

    def object(self, bucket: str, key: str) -> bytes:
        with closing(self.s3.get_object(Bucket=bucket, Key=key)["Body"]) as body:
            return body.read()  # type: ignore[no-any-return]

    def messages(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)


@pytest.fixture
def cloud(endpoint: str) -> Iterator[Cloud]:
    cloud = Cloud(endpoint, f"c{uuid.uuid4().hex}")
    yield cloud
    cloud.close()


class WorkerProcess:
    def __init__(self, cloud: Cloud, project: Path, log: Path, **env: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "asyncjobs.worker"],
                cwd=project,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **{
                        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ASYNCJOBS_"))
                    },
                    "TMPDIR": str(project),  # a worker that is killed leaves its attempt's folder
                    "AWS_ENDPOINT_URL": cloud.endpoint,
                    "AWS_ACCESS_KEY_ID": "testing",
                    "AWS_SECRET_ACCESS_KEY": "testing",
                    "AWS_REGION": "eu-west-1",
                    "AWS_DEFAULT_REGION": "eu-west-1",
                    "ASYNCJOBS_STACK": "demo",
                    "ASYNCJOBS_QUEUE_URL": cloud.queue_url,
                    "ASYNCJOBS_TABLE": cloud.name,
                    "ASYNCJOBS_BUCKET": cloud.name,
                    "ASYNCJOBS_HANDLER": "handler:handle",
                    "ASYNCJOBS_LEASE_SECONDS": str(LEASE),
                    **env,
                },
            )

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log so far: every line is one JSON object."""
        return [json.loads(line) for line in self._log.read_text().split("\n")[:-1]]

    def said(self, job_id: str) -> list[str]:
        return [line["message"] for line in self.log if line.get("jobId") == job_id]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WITHIN)


@pytest.fixture
def work(cloud: Cloud, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    (tmp_path / "handler.py").write_text(HANDLER)
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    started: list[WorkerProcess] = []

    def start(**env: str) -> WorkerProcess:
        started.append(WorkerProcess(cloud, tmp_path, tmp_path / f"worker-{len(started)}.log", **env))
        return started[-1]

    yield start
    for worker in started:
        worker.end()


Work = Callable[..., WorkerProcess]


@pytest.mark.parametrize(("isolation", "client"), [("process", "lean"), ("thread", "lean"), ("thread", "boto3")])
def test_jobs_end_to_end(cloud: Cloud, work: Work, isolation: str, client: str) -> None:
    worker = work(ASYNCJOBS_ISOLATION=isolation, ASYNCJOBS_CLIENT=client)
    small, big = cloud.submit("three small words"), cloud.submit("word " * 2_000)
    binary = cloud.submit(b"\x00\xff\x01", "application/octet-stream")
    job = cloud.wait_for(small, "SUCCEEDED")
    assert job["result"] == {"words": 3, "attempt": 1}
    assert job["progress"] == {"fraction": 1.0, "message": "almost"}
    assert (job["attempt"], job["maxAttempts"], job["contentType"]) == (1, 3, "text/plain")
    assert cloud.wait_for(big, "SUCCEEDED")["result"]["words"] == 2_000
    text = b"word " * 2_000
    assert cloud.object(cloud.name, f"payloads/{big}/{hashlib.sha256(text).hexdigest()}") == text
    file = cloud.submit(b"a,b" * 5_000, "application/pdf")
    assert cloud.object(**cloud.wait_for(file, "SUCCEEDED")["resultLocation"]) == b"a,b" * 5_000
    location = cloud.wait_for(binary, "SUCCEEDED")["resultLocation"]
    assert cloud.object(**location) == b"\x01\xff\x00"
    eventually(lambda: cloud.messages() == 0)
    eventually(lambda: "succeeded" in worker.said(small))
    assert worker.said(small) == ["started", f"handling {small}", "succeeded"]


def peak_mib(process: subprocess.Popen[bytes]) -> float:
    """The most memory that a process has had so far."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc for a process's peak of memory")
@pytest.mark.parametrize("how", ["process", "thread", "command"])
def test_a_big_payload_is_nowhere_in_memory(cloud: Cloud, work: Work, tmp_path: Path, how: str) -> None:
    """Neither where it is submitted nor in the worker; boto3 takes some for its threads and parts."""
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(os.urandom(2 * MIB))
    big.write_bytes(os.urandom(MIB) * 64)
    command = {"ASYNCJOBS_HANDLER": "", "ASYNCJOBS_COMMAND": '["sha256sum"]'}
    worker = work(**command if how == "command" else {"ASYNCJOBS_ISOLATION": how})
    [(first, _)] = cloud.upload(small)
    cloud.wait_for(first, "SUCCEEDED")
    at_first = peak_mib(worker.process)
    (second, before), (third, after) = cloud.upload(small, big)
    assert after - before < 30
    result = cloud.wait_for(third, "SUCCEEDED")["result"]
    assert result.split()[0] == hashlib.sha256(big.read_bytes()).hexdigest()
    assert peak_mib(worker.process) - at_first < 30
    # Each attempt's folder is gone, and the payload's object was not copied.
    eventually(lambda: not list(tmp_path.glob("asyncjobs-worker-*/*")))
    keys = [one["Key"] for one in cloud.s3.list_objects_v2(Bucket=cloud.name)["Contents"]]
    assert sorted(key.split("/")[1] for key in keys) == sorted([first, second, third])


def test_a_message_that_claims_to_be_base64_does_not_cost_the_worker(cloud: Cloud, work: Work) -> None:
    poison = {"jobId": ids.mint(), "encoding": "base64"}
    cloud.sqs.send_message(
        QueueUrl=cloud.queue_url,
        MessageBody="é☕",
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in poison.items()},
    )
    worker = work()
    eventually(lambda: any("not a job" in line["message"] for line in worker.log))
    assert cloud.wait_for(cloud.submit("three small words"), "SUCCEEDED")["result"]["words"] == 3


def test_a_worker_that_can_receive_no_more_ends_with_an_error(cloud: Cloud, work: Work, tmp_path: Path) -> None:
    log = tmp_path / "worker-0.log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    worker = work()
    os.set_blocking(reader, True)
    with os.fdopen(reader) as lines:
        assert any("ready" in line for line in iter(lines.readline, ""))
    # With nobody to read its log, the failure of a receive is more than the receiver can bear.
    cloud.sqs.delete_queue(QueueUrl=cloud.queue_url)
    assert worker.process.wait(WITHIN) not in (0, 3)


def test_a_command_worker(cloud: Cloud, work: Work) -> None:
    work(ASYNCJOBS_HANDLER="", ASYNCJOBS_COMMAND='["wc", "-w"]')
    assert cloud.wait_for(cloud.submit("three small words"), "SUCCEEDED")["result"] == 3


def test_a_job_whose_worker_is_killed_is_run_again(cloud: Cloud, work: Work) -> None:
    first = work()
    job_id = cloud.submit("first attempt hangs")
    eventually(lambda: "progress" in cloud.job(job_id))
    (child,) = psutil.Process(first.process.pid).children()
    first.process.kill()
    first.process.wait(WITHIN)
    second = work()
    job = cloud.wait_for(job_id, "SUCCEEDED")
    assert (job["attempt"], job["result"]) == (2, {"words": 3, "attempt": 2})
    eventually(lambda: cloud.messages() == 0)
    assert "started" in second.said(job_id)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_job_longer_than_its_lease_is_run_once(cloud: Cloud, work: Work) -> None:
    first, second = work(), work()
    job_id = cloud.submit("hangs")
    eventually(lambda: "progress" in cloud.job(job_id))
    time.sleep(2 * LEASE)
    assert cloud.job(job_id)["attempt"] == 1
    assert sorted(worker.said(job_id).count("started") for worker in (first, second)) == [0, 1]


def test_a_worker_told_to_stop_hands_its_job_back(cloud: Cloud, work: Work) -> None:
    worker = work(ASYNCJOBS_STOP_TIMEOUT="1")
    job_id = cloud.submit("hangs")
    eventually(lambda: "progress" in cloud.job(job_id))
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(WITHIN) == 0
    job = cloud.job(job_id)
    assert (job["status"], job["attempt"]) == ("QUEUED", 0)
    assert "error" not in job
    assert cloud.messages() == 1
    assert worker.said(job_id)[-1] == "handed back"


def test_a_worker_told_to_stop_lets_a_short_job_end(cloud: Cloud, work: Work) -> None:
    worker = work()
    job_id = cloud.submit("a")
    eventually(lambda: "started" in worker.said(job_id))
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(WITHIN) == 0
    assert cloud.job(job_id)["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ({"ASYNCJOBS_HANDLER": "broken:handle"}, "No module named 'no_such_module_anywhere'"),
        ({"ASYNCJOBS_TABLE": "", "ASYNCJOBS_TIMEOUT": "soon"}, "ASYNCJOBS_TIMEOUT='soon'"),
    ],
    ids=["handler", "settings"],
)
def test_a_worker_that_cannot_work_says_so_and_takes_no_job(
    cloud: Cloud, work: Work, env: dict[str, str], why: str
) -> None:
    cloud.submit("a")
    worker = work(**env)
    assert worker.process.wait(WITHIN) == 3
    errors = [line["message"] for line in worker.log if line["level"] == "error"]
    assert any(why in error for error in errors)
    counts = cloud.sqs.get_queue_attributes(QueueUrl=cloud.queue_url, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "1"


def test_coroutines_and_many_jobs_at_once(cloud: Cloud, work: Work) -> None:
    work(
        ASYNCJOBS_HANDLER="handler:handle_async",
        ASYNCJOBS_ISOLATION="thread",
        ASYNCJOBS_CONCURRENCY="8",
        ASYNCJOBS_LEASE_SECONDS="30",  # no slow machine may cost an attempt here
    )
    jobs = [cloud.submit(f"word {number}") for number in range(40)]
    for job_id in jobs:
        assert cloud.wait_for(job_id, "SUCCEEDED")["attempt"] == 1
    eventually(lambda: cloud.messages() == 0)


def test_a_job_in_the_dead_letter_queue_ends(cloud: Cloud, work: Work) -> None:
    dead = cloud.sqs.create_queue(QueueName=f"{cloud.name}-dead")["QueueUrl"]
    cloud.queue_url, jobs = dead, cloud.queue_url
    job_id = cloud.submit("a")
    cloud.queue_url = jobs
    work(ASYNCJOBS_DEAD_LETTER_QUEUE_URL=dead)
    assert cloud.wait_for(job_id, "FAILED")["error"]["type"] == "WorkerLost"


def test_a_worker_says_that_it_is_well(cloud: Cloud, work: Work) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    worker = work(ASYNCJOBS_HEALTH_PORT=port)
    eventually(lambda: any("ready" in line["message"] for line in worker.log))
    ask = [sys.executable, "-m", "asyncjobs.worker.health"]
    assert subprocess.run(ask, env={**os.environ, "ASYNCJOBS_HEALTH_PORT": port}, check=False).returncode == 0
    worker.process.send_signal(signal.SIGSTOP)
    try:
        done = subprocess.run(ask, env={**os.environ, "ASYNCJOBS_HEALTH_PORT": port}, capture_output=True, check=False)
    finally:
        worker.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
