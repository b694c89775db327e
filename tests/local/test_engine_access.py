"""Who may use a running engine: programs of other users of the machine can connect to it, and must get nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError
from engines import REGION, Aws, alive, engine_in, request, until

from asyncjobs.aws import LOCAL_SECRET_KEY
from asyncjobs.local.control import EngineInfo, LocalEngine
from asyncjobs.local.image import ProcessImages
from asyncjobs.progress import NullProgress

ACCOUNT = "000000000000"
SHOW = (
    "import json, os, time, urllib.request\n"
    "uri = os.environ['ECS_CONTAINER_METADATA_URI_V4']\n"
    "print(urllib.request.urlopen(uri + '/task').read().decode(), flush=True)\n"
    "print(json.dumps(dict(os.environ)), flush=True)\n"
    "time.sleep(600)\n"
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEngine]:
    engine = engine_in(tmp_path_factory.mktemp("access"))
    try:
        engine.start(NullProgress())
        yield engine
    finally:
        engine.stop(NullProgress())


@pytest.fixture
def info(engine: LocalEngine) -> EngineInfo:
    found = engine.running()
    assert found is not None
    return found


@pytest.fixture
def aws(info: EngineInfo) -> Aws:
    return Aws(info)


@pytest.fixture(params=["test", ACCOUNT, "AKIAAAAAAAAAAAAAAAAA"])
def stranger(request: pytest.FixtureRequest, info: EngineInfo) -> Aws:
    return Aws(info, request.param)


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    answer = error.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_a_stranger_cannot_run_a_program(stranger: Aws, aws: Aws) -> None:
    container = {"name": "worker", "image": "asyncjobs.local/x:0123456789abcdef", "command": ["touch", "/tmp/x"]}
    with pytest.raises(ClientError) as refused:
        stranger.ecs.register_task_definition(family="evil", containerDefinitions=[container])
    assert code(refused) == ("UnrecognizedClientException", 403)
    assert aws.ecs.list_task_definitions(familyPrefix="evil")["taskDefinitionArns"] == []


@pytest.mark.parametrize(
    ("service", "operation", "expected"),
    [
        ("ecs", "list_clusters", "UnrecognizedClientException"),
        ("dynamodb", "list_tables", "UnrecognizedClientException"),
        ("sqs", "list_queues", "UnrecognizedClientException"),
        ("apigateway", "get_rest_apis", "UnrecognizedClientException"),
        ("logs", "describe_log_groups", "UnrecognizedClientException"),
        ("ecr", "describe_repositories", "UnrecognizedClientException"),
        ("cloudwatch", "describe_alarms", "UnrecognizedClientException"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
        ("iam", "list_roles", "InvalidClientTokenId"),
        ("ec2", "describe_vpcs", "InvalidClientTokenId"),
        ("s3", "list_buckets", "InvalidAccessKeyId"),
    ],
)
def test_every_service_refuses_strangers_in_its_own_protocol(
    stranger: Aws, aws: Aws, service: str, operation: str, expected: str
) -> None:
    getattr(getattr(aws, service), operation)()
    with pytest.raises(ClientError) as refused:
        getattr(getattr(stranger, service), operation)()
    assert code(refused) == (expected, 403)


def test_the_scaling_api_refuses_strangers(stranger: Aws, aws: Aws) -> None:
    assert aws.application_autoscaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []
    with pytest.raises(ClientError) as refused:
        stranger.application_autoscaling.describe_scalable_targets(ServiceNamespace="ecs")
    assert code(refused) == ("UnrecognizedClientException", 403)


def test_unsigned_requests_reach_nothing(info: EngineInfo) -> None:
    run_task = {"X_Amz_Target": "AmazonEC2ContainerServiceV20141113.RunTask"}
    for headers in ({}, run_task, {"Host": "bucket.s3.localhost"}, {"Host": "api.execute-api.localhost"}):
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            for path in ("/", "/restapis", "/bucket/key", "/restapis/a/prod/_user_request_/jobs", "/v2/_catalog"):
                # A registry asks whoever has no token for one.
                assert request(info, method, path, **headers)[0] == (401 if path.startswith("/v2/") else 403)
    status, _, body = request(info, "POST", "/", **run_task)
    assert (status, json.loads(body)["__type"]) == (403, "MissingAuthenticationTokenException")


def test_the_metadata_endpoint_leads_nowhere_else(info: EngineInfo) -> None:
    path = "/v4/" + "a" * 43
    for headers in ({}, {"Host": "v4.s3.localhost"}, {"X_Amz_Target": "DynamoDB_20120810.ListTables"}):
        for suffix in ("", "/task", "/../../restapis", "/_user_request_/x", "?Action=ListQueues"):
            assert request(info, "GET", path + suffix, **headers)[0] == 404
        assert request(info, "POST", path, **headers)[0] == 405


def test_the_engines_own_endpoints_want_the_token(engine: LocalEngine, info: EngineInfo, aws: Aws) -> None:
    api = aws.apigateway.create_rest_api(name="asyncjobs-token")["id"]
    for path in ("/_asyncjobs/stacks", f"/_asyncjobs/apis/{api}", "/_asyncjobs/other"):
        assert request(info, "GET", path)[0] == 403
        assert request(info, "GET", path, **{"x-asyncjobs-token": "guess"})[0] == 403
    assert request(info, "GET", f"/_asyncjobs/apis/{api}", **{"x-asyncjobs-token": info.token})[0] == 200
    assert engine.stacks_left() == ["token"]
    aws.apigateway.delete_rest_api(restApiId=api)
    task = "12345678-1234-1234-1234-123456789012"
    assert request(info, "GET", f"/_asyncjobs/ecs-agent/{task}/task-protection/v1/state")[0] == 404
    health = json.loads(request(info, "GET", "/_asyncjobs/health")[2])
    assert not {info.token, info.access_key} & {str(value) for value in health.values()}


def test_the_key_is_of_the_default_account_and_only_its_owner_can_read_it(
    engine: LocalEngine, info: EngineInfo, aws: Aws
) -> None:
    assert re.fullmatch(r"[A-Z0-9]{20}", info.access_key)
    assert aws.sts.get_caller_identity()["Account"] == ACCOUNT
    assert aws.sqs.create_queue(QueueName="whose")["QueueUrl"].split("/")[-2] == ACCOUNT
    holding = [file for file in engine.state_dir.rglob("*") if file.is_file() and info.access_key in file.read_text()]
    assert {file.name for file in holding} == {"engine.json", "credentials.json"}
    assert {file.stat().st_mode & 0o777 for file in holding} == {0o600}
    assert info.access_key not in repr(info)
    process = psutil.Process(info.pid)
    for each in (process, *process.children(recursive=True)):
        assert info.access_key not in " ".join(each.cmdline())


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls_work_with_the_key_only(info: EngineInfo, aws: Aws, version: str) -> None:
    aws.s3.create_bucket(Bucket="presigned")
    aws.s3.put_object(Bucket="presigned", Key="a key", Body=b"content")
    signing = boto3.client(
        "s3",
        endpoint_url=info.endpoint_url,
        region_name=REGION,
        aws_access_key_id=info.access_key,
        aws_secret_access_key=LOCAL_SECRET_KEY,
        config=Config(signature_version=version),
    )
    url = signing.generate_presigned_url("get_object", Params={"Bucket": "presigned", "Key": "a key"})
    signing.close()
    answer = urllib3.request("GET", url, retries=False)
    assert answer.data == b"content", answer.data
    assert urllib3.request("GET", url.replace(info.access_key, "test"), retries=False).status == 403
    assert urllib3.request("GET", url.partition("?")[0], retries=False).status == 403


def test_tasks_get_the_key_whatever_their_definition_says(engine: LocalEngine, aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(SHOW)
    image = ProcessImages(engine.state_dir).build(tmp_path, "shows", NullProgress())
    options = {"awslogs-group": "/shows", "awslogs-region": REGION, "awslogs-stream-prefix": "w"}
    container = {
        "name": "worker",
        "image": image,
        "command": ["python", "main.py"],
        "environment": [{"name": "AWS_ACCESS_KEY_ID", "value": "AKIAOFANOTHERACCOUNT"}],
        "logConfiguration": {"logDriver": "awslogs", "options": options},
    }
    aws.logs.create_log_group(logGroupName="/shows")
    aws.ecs.create_cluster(clusterName="shows")
    aws.ecs.register_task_definition(family="shows", containerDefinitions=[container])
    task = aws.ecs.run_task(cluster="shows", taskDefinition="shows", launchType="FARGATE")["tasks"][0]

    def printed() -> list[str]:
        lines = [each["message"] for each in aws.logs.filter_log_events(logGroupName="/shows")["events"]]
        return lines if len(lines) == 2 else []

    metadata, environment = map(json.loads, until(printed))
    assert metadata["TaskARN"] == task["taskArn"]
    found = engine.running()
    assert found is not None
    assert environment["AWS_ACCESS_KEY_ID"] == found.access_key
    with urllib.request.urlopen(environment["ECS_CONTAINER_METADATA_URI_V4"]) as answer:
        assert json.loads(answer.read())["Name"] == "worker"
    aws.ecs.stop_task(cluster="shows", task=task["taskArn"])


# Usage plans.


def test_a_usage_plan_is_patched_as_aws_does(engine: LocalEngine, aws: Aws) -> None:
    gateway = aws.apigateway
    document = {
        "openapi": "3.0.1",
        "info": {"title": "plans", "version": "1"},
        "paths": {"/": {"get": {"responses": {}, "x-amazon-apigateway-integration": {"type": "MOCK"}}}},
    }
    api = gateway.import_rest_api(body=json.dumps(document).encode())["id"]
    gateway.create_deployment(restApiId=api, stageName="prod")
    plan = gateway.create_usage_plan(name="plans", throttle={"rateLimit": 1, "burstLimit": 1})["id"]

    def patch(op: str, path: str, value: str = "") -> Any:
        operation = {"op": op, "path": path, **({"value": value} if value else {})}
        return gateway.update_usage_plan(usagePlanId=plan, patchOperations=[operation])

    answer = patch("add", "/apiStages", f"{api}:prod")
    assert answer["apiStages"] == [{"apiId": api, "stage": "prod"}]
    assert gateway.get_usage_plans()["items"][0]["apiStages"] == [{"apiId": api, "stage": "prod"}]
    assert urllib3.request("GET", f"{engine.api_url(api)}/prod/none", retries=False).status == 403
    with pytest.raises(gateway.exceptions.NotFoundException):
        patch("add", "/apiStages", f"{api}:none")
    with pytest.raises(gateway.exceptions.BadRequestException):
        patch("add", "/apiStages", "nonsense")
    assert patch("replace", "/throttle/rateLimit", "2.5")["throttle"] == {"rateLimit": 2.5, "burstLimit": 1}
    assert patch("replace", "/quota/limit", "100")["quota"] == {"limit": 100}
    assert patch("remove", "/apiStages", f"{api}:prod").get("apiStages", []) == []
    assert gateway.get_usage_plan(usagePlanId=plan)["throttle"]["rateLimit"] == 2.5
    gateway.delete_usage_plan(usagePlanId=plan)
    gateway.delete_rest_api(restApiId=api)


# Its directory.


def test_damaged_files_do_not_stop_the_engine(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    for name in ("tasks.json", "ports.json", "scaling.json", "engine.json", "credentials.json"):
        (tmp_path / name).write_text('{"engine": "x", "a": 1, "targets": {"x": 1}, "policies": [], "access_key": 5}')
    try:
        info = engine.start(NullProgress())
        for damage in ('{"a": 1}', "[", ""):
            (tmp_path / "engine.json").write_text(damage)
            assert until(engine.running) == info
        (tmp_path / "engine.json").unlink()
        assert until(engine.running) == info
        assert Aws(info).application_autoscaling.describe_scalable_targets(ServiceNamespace="ecs")
    finally:
        engine.stop(NullProgress())


def test_the_key_outlives_the_engine_but_not_its_data(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    try:
        first = engine.start(NullProgress())
        engine.stop(NullProgress())
        second = engine.start(NullProgress())
        assert second.access_key == first.access_key
        assert second.token != first.token
        engine.stop(NullProgress())
        (tmp_path / "credentials.json").chmod(0o644)
        third = engine.start(NullProgress())
        assert third.access_key != first.access_key
        engine.stop(NullProgress())
        engine.forget()
        assert not (tmp_path / "credentials.json").exists()
    finally:
        engine.stop(NullProgress())


def test_an_engine_whose_directory_is_gone_ends(tmp_path: Path) -> None:
    engine = engine_in(tmp_path / "state")
    pid = engine.start(NullProgress()).pid
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    until(lambda: not alive(pid))
    assert not (tmp_path / "state").exists()
    shutil.rmtree(tmp_path / "elsewhere")


def test_tests_that_are_killed_leave_no_engine(tmp_path: Path) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path; from engines import engine_in; from asyncjobs.progress import NullProgress\n"
        f"print(engine_in(Path({str(tmp_path)!r})).start(NullProgress()).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -9
    until(lambda: not alive(int(killed.stdout)))
