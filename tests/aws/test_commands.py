"""`up` and `down` as commands against an AWS account (moto's): what they ask, say, and end with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from asyncjobs.aws import Clients
from asyncjobs.cli import app, hoist
from asyncjobs.names import Names

NAMES = Names("demo", "123456789012", "eu-west-1")
IMAGE = "registry.example.com/worker@sha256:" + "0" * 64
UP = ("up", "--image", IMAGE, "--no-wait")


@pytest.fixture
def run(clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    project = tmp_path / "project"
    project.mkdir()
    (project / "handler.py").write_text("def handle(job): return 1\n")
    (project / "asyncjobs.toml").write_text('[stack]\nname = "demo"\n[worker]\nhandler = "handler:handle"\n')
    monkeypatch.chdir(project)
    monkeypatch.setenv("ASYNCJOBS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")

    def run(*args: str, check: int = 0) -> Result:
        result = CliRunner().invoke(app, hoist(args))
        assert result.exit_code == check, result.output
        return result

    return run


def test_the_journey_of_a_stack_in_an_account(run: Any):
    plan = json.loads(run(*UP, "--dry-run", "--json").stdout)["plan"]
    assert {step["action"] for step in plan if step["step"] != "image"} == {"create"}
    up = json.loads(run(*UP, "--json").stdout)
    assert (up["account"], up["region"]) == ("123456789012", "eu-west-1")
    assert set(up["changed"]) == {step["step"] for step in plan} - {"image"}
    assert json.loads(run(*UP, "--json").stdout)["changed"] == []
    assert "nothing would change" in run(*UP, "--dry-run").stderr.lower()
    assert json.loads(run("info", "--json").stdout)["table"] == NAMES.table
    down = json.loads(run("down", "--yes", "--json").stdout)
    assert down["left"] == []
    assert "There is nothing to take down" in run("down", "--yes").stderr


def test_down_in_a_script_says_what_would_be_lost_and_wants_to_be_told(run: Any, clients: Clients):
    run(*UP)
    url = clients.sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"]
    for _ in range(3):
        clients.sqs.send_message(QueueUrl=url, MessageBody="x")
    refused = run("down", check=2).stderr
    assert "account 123456789012, eu-west-1" in refused
    assert "about 3 jobs in its queue" in refused
    assert "all job records" in refused
    assert "--yes" in refused
    run("down", "--yes")


def test_down_needs_nothing_but_the_name_and_the_region(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(*UP)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("ASYNCJOBS_STATE_DIR", str(tmp_path / "another machine"))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    down = json.loads(run("--stack", "demo", "--region", "eu-west-1", "down", "--yes", "--json").stdout)
    assert "table" in down["deleted"]
    assert down["left"] == []


def test_what_cannot_be_deleted_is_listed_with_the_reason_and_9(run: Any, clients: Clients):
    run(*UP)
    clients.dynamodb.update_table(TableName=NAMES.table, DeletionProtectionEnabled=True)
    left = run("down", "--yes", check=9).stderr
    assert f"Something is left: DynamoDB table {NAMES.table}." in left
    assert "DeleteTable failed with ValidationException" in left
    clients.dynamodb.update_table(TableName=NAMES.table, DeletionProtectionEnabled=False)
    assert json.loads(run("down", "--yes", "--json").stdout)["deleted"] == ["table"]


def test_down_leaves_a_namesake_alone_and_names_it(run: Any, clients: Clients):
    run(*UP)
    clients.sqs.delete_queue(QueueUrl=clients.sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"])
    url = clients.sqs.create_queue(QueueName=NAMES.queue)["QueueUrl"]
    down = run("down", "--yes")
    assert f"Left alone: SQS queue {NAMES.queue} exists and is not this stack's." in down.stderr
    assert clients.sqs.list_queues()["QueueUrls"] == [url]


def test_down_keeps_the_data_if_asked_and_up_takes_it_back(run: Any):
    run(*UP)
    down = json.loads(run("down", "--yes", "--keep-data", "--json").stdout)
    assert down["kept"] == ["table", "bucket"]
    assert {"table", "bucket"}.isdisjoint(down["deleted"])
    assert {"table", "bucket"}.isdisjoint(json.loads(run(*UP, "--json").stdout)["changed"])
    run("down", "--yes")


def test_two_regions_hold_two_stacks_of_one_name(run: Any):
    run(*UP)
    run("--region", "us-east-1", *UP)
    run("--region", "us-east-1", "down", "--yes")
    assert json.loads(run("--region", "eu-west-1", *UP, "--json").stdout)["changed"] == []
    run("--region", "eu-west-1", "down", "--yes")


@pytest.mark.parametrize("own", [True, False])
def test_without_an_engine_a_build_that_takes_one_ends_before_anything_is_made(
    run: Any, clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    if own:
        (tmp_path / "project" / "Dockerfile").write_text("FROM scratch\n")
    said = run("up", *([] if own else ["--builder", "docker"]), check=8).stderr
    assert "There is no Docker engine." in said
    assert clients.dynamodb.list_tables()["TableNames"] == []
    assert clients.ecr.describe_repositories()["repositories"] == []


def test_what_builds_is_docker_or_python(run: Any):
    assert "docker or python" in run("up", "--builder", "kaniko", check=2).stderr


def test_an_image_that_is_not_in_its_repository_ends_it_too(run: Any, clients: Clients):
    uri = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/theirs:1"
    assert f"There is no image {uri}." in run("up", "--image", uri, check=3).stderr
    assert clients.dynamodb.list_tables()["TableNames"] == []


def put_job(clients: Clients, status: str, **attributes: Any) -> str:
    job_id = f"1795416232123-{status}-{len(attributes)}"
    item = {
        "jobId": {"S": job_id},
        "status": {"S": status},
        "generation": {"N": "1"},
        "attempt": {"N": "3"},
        "contentType": {"S": "text/plain"},
        "expiresAt": {"N": "9999999999"},
    }
    clients.dynamodb.put_item(TableName=NAMES.table, Item=item | attributes)
    return job_id


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_retry_queues_the_payload_and_marks_the_record(run: Any, clients: Clients, status: str):
    run(*UP)
    job_id = put_job(clients, status, payload={"S": "some text"}, error={"M": {"type": {"S": "E"}}})
    assert json.loads(run("retry", job_id, "--json").stdout) == {"jobId": job_id, "status": "QUEUED"}
    record = clients.dynamodb.get_item(TableName=NAMES.table, Key={"jobId": {"S": job_id}})["Item"]
    assert (record["status"]["S"], record["generation"]["N"], "error" in record) == ("QUEUED", "2", False)
    url = clients.sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"]
    (message,) = clients.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
    attributes = {name: value.get("StringValue") for name, value in message["MessageAttributes"].items()}
    assert message["Body"] == "some text"
    assert attributes == {"jobId": job_id, "contentType": "text/plain", "generation": "2"}
    # What is queued again has not ended.
    assert "it is QUEUED" in run("retry", job_id, check=1).stderr


def test_what_cannot_be_retried_is_told_and_nothing_is_sent(run: Any, clients: Clients):
    assert "There is no stack demo" in run("retry", "1795416232123-x", check=5).stderr
    run(*UP)
    running = put_job(clients, "RUNNING", payload={"S": "x"})
    assert "it is RUNNING" in run("retry", running, check=1).stderr
    unseen = put_job(clients, "CANCELLED")
    assert "before a worker saw it" in run("retry", unseen, check=1).stderr
    expired = put_job(clients, "FAILED", payload={"S": "x"}, expiresAt={"N": "1"})
    for job_id in ("1795416232123-nobody", "nonsense", expired):
        assert f"There is no job {job_id}" in run("retry", job_id, check=5).stderr
    url = clients.sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"]
    # The queue's long poll would be waited for in real seconds.
    assert "Messages" not in clients.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0)
