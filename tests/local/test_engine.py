"""The real engine in temporary directories: its life, its tasks, its autoscaling, and who may talk to it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3
from botocore.exceptions import ClientError
from engines import REGION, Aws, alive, engine_in, request, until

from asyncjobs.errors import LocalEngineError, NotFoundError
from asyncjobs.local.control import LocalEngine
from asyncjobs.local.image import ProcessImages
from asyncjobs.local.paths import import_paths
from asyncjobs.progress import NullProgress

LOOP = "import time\nprint('worker is up', flush=True)\nwhile True: time.sleep(0.05)\n"
# Takes a second to shut down, as a worker that finishes its job.
SLOW_END = (
    "import signal, sys, time\n"
    "def end(*_):\n    print('draining', flush=True); time.sleep(1); print('drained', flush=True); sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\nprint('worker is up', flush=True)\nwhile True: time.sleep(0.05)\n"
)


def kill_engine(state_dir: Path, pid: int) -> None:
    """SIGKILL the engine, after checking that the pid is the one of this directory."""
    assert str(state_dir) in psutil.Process(pid).cmdline()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalEngine, Aws]]:
    engine = engine_in(tmp_path_factory.mktemp("engine"))
    try:
        yield engine, Aws(engine.start(NullProgress()))
    finally:
        engine.stop(NullProgress())


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = engine_in(tmp_path / "state")
    try:
        yield engine
    finally:
        engine.stop(NullProgress())


def service(engine: LocalEngine, aws: Aws, tmp_path: Path, name: str, code: str, **options: Any) -> None:
    """An ECS service `worker` in a cluster of this name that runs the code."""
    register(engine, aws, tmp_path, name, code, **options)
    aws.logs.create_log_group(logGroupName=f"/asyncjobs/{name}")
    aws.ecs.create_cluster(clusterName=name)
    aws.ecs.create_service(
        cluster=name,
        serviceName="worker",
        taskDefinition=name,
        desiredCount=options.get("count", 1),
        launchType="FARGATE",
        deploymentConfiguration={
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
        },
    )


def register(engine: LocalEngine, aws: Aws, tmp_path: Path, name: str, code: str, **options: Any) -> str:
    project = tmp_path / name
    project.mkdir(exist_ok=True)
    (project / "main.py").write_text(code)
    image = options.get("image") or ProcessImages(engine.state_dir).build(project, name, NullProgress())
    container = {
        "name": "worker",
        "image": image,
        "command": ["python", "main.py"],
        "environment": [{"name": "GREETING", "value": "hello"}],
        "stopTimeout": options.get("stop_timeout", 10),
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": f"/asyncjobs/{name}",
                "awslogs-region": REGION,
                "awslogs-stream-prefix": "worker",
            },
        },
    }
    answer = aws.ecs.register_task_definition(
        family=name,
        requiresCompatibilities=["FARGATE"],
        networkMode="awsvpc",
        cpu="256",
        memory="512",
        containerDefinitions=[container],
    )
    return str(answer["taskDefinition"]["taskDefinitionArn"])


def tasks(aws: Aws, cluster: str, desired: str = "RUNNING") -> list[dict[str, Any]]:
    arns = aws.ecs.list_tasks(cluster=cluster, desiredStatus=desired)["taskArns"]
    return aws.ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"] if arns else []


def running(aws: Aws, cluster: str) -> list[dict[str, Any]]:
    return [task for task in tasks(aws, cluster) if task["lastStatus"] == "RUNNING"]


def pid_of(task: dict[str, Any]) -> int:
    return int(task["containers"][0]["runtimeId"])


def log_lines(aws: Aws, name: str) -> list[str]:
    events = aws.logs.filter_log_events(logGroupName=f"/asyncjobs/{name}")["events"]
    return [event["message"] for event in events]


# The engine's life.


def test_a_second_start_finds_the_first_engine(shared: tuple[LocalEngine, Aws]) -> None:
    engine, _ = shared
    first = engine.running()
    assert first is not None
    assert engine.start(NullProgress()) == first
    assert LocalEngine(engine.state_dir).running() == first


def test_the_engine_survives_the_command_that_started_it(fresh: LocalEngine) -> None:
    code = (
        "from pathlib import Path; from asyncjobs.local.control import LocalEngine;"
        "from asyncjobs.progress import NullProgress;"
        f"print(LocalEngine(Path({str(fresh.state_dir)!r})).start(NullProgress()).pid)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(import_paths())}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    info = fresh.running()
    assert info is not None
    assert info.pid == int(done.stdout)
    assert psutil.Process(info.pid).terminal() is None
    assert os.getsid(info.pid) != os.getsid(0)


def test_two_starts_at_once_give_one_engine(fresh: LocalEngine) -> None:
    code = (
        "import sys; from pathlib import Path; from asyncjobs.local.control import LocalEngine;"
        "from asyncjobs.progress import NullProgress;"
        f"print(LocalEngine(Path({str(fresh.state_dir)!r})).start(NullProgress()).pid)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(import_paths())}
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) for _ in range(3)
    ]
    pids = {process.communicate(timeout=30)[0].strip() for process in started}
    info = fresh.running()
    assert info is not None
    assert pids == {str(info.pid)}


def test_data_ports_and_listeners_survive_a_clean_restart(fresh: LocalEngine) -> None:
    first = fresh.start(NullProgress())
    aws = Aws(first)
    aws.sqs.create_queue(QueueName="asyncjobs-kept", tags={"asyncjobs:stack": "kept"})
    aws.sqs.send_message(QueueUrl=aws.sqs.get_queue_url(QueueName="asyncjobs-kept")["QueueUrl"], MessageBody="text")
    aws.s3.create_bucket(Bucket="asyncjobs-kept-000000000000-us-east-1")
    aws.s3.put_object(Bucket="asyncjobs-kept-000000000000-us-east-1", Key="k", Body=b"\x00bytes")
    api = aws.apigateway.create_rest_api(name="asyncjobs-kept")["id"]
    url = fresh.api_url(api)
    fresh.stop(NullProgress())
    assert fresh.running() is None
    assert not alive(first.pid)
    second = fresh.start(NullProgress())
    assert second.endpoint_url == first.endpoint_url
    aws = Aws(second)
    queue = aws.sqs.get_queue_url(QueueName="asyncjobs-kept")["QueueUrl"]
    assert aws.sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "text"
    stored = aws.s3.get_object(Bucket="asyncjobs-kept-000000000000-us-east-1", Key="k")
    assert stored["Body"].read() == b"\x00bytes"
    assert fresh.stacks_left() == ["kept"]
    # Nobody asked for it again: the person who has the URL finds the API there.
    assert urllib3.request("GET", f"{url}/stage/jobs", retries=False).status in (403, 404)
    assert fresh.api_url(api) == url


def test_a_killed_engine_is_plainly_gone_and_comes_back_with_its_data(fresh: LocalEngine, tmp_path: Path) -> None:
    info = fresh.start(NullProgress())
    aws = Aws(info)
    service(fresh, aws, tmp_path, "killed", LOOP)
    task = until(lambda: running(aws, "killed"))[0]
    aws.sqs.create_queue(QueueName="asyncjobs-killed")
    saved = fresh.state_dir / "data" / "sqs.json"
    until(lambda: saved.exists() and "asyncjobs-killed" in saved.read_text())
    kill_engine(fresh.state_dir, info.pid)
    assert fresh.running() is None
    with pytest.raises(LocalEngineError, match="not running"):
        fresh.stacks_left()
    until(lambda: not alive(pid_of(task)))
    fresh.stop(NullProgress())
    aws = Aws(fresh.start(NullProgress()))
    assert aws.sqs.list_queues()["QueueUrls"]
    again = until(lambda: running(aws, "killed"))[0]
    assert again["taskArn"] != task["taskArn"]
    assert alive(pid_of(again))
    stopped = {each["taskArn"]: each for each in tasks(aws, "killed", "STOPPED")}
    assert stopped[task["taskArn"]]["stoppedReason"] == "The local engine was restarted"


def test_a_file_of_a_dead_engine_with_someone_elses_pid_is_not_believed(fresh: LocalEngine) -> None:
    fresh.state_dir.mkdir()
    stale = {"port": 1, "endpoint_url": "", "started_at": "", "token": "", "access_key": "", "version": ""}
    (fresh.state_dir / "engine.json").write_text(json.dumps({"pid": os.getpid(), **stale}))
    assert fresh.running() is None
    fresh.stop(NullProgress())
    assert alive(os.getpid())


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    (tmp_path / "ports.json").mkdir()
    with pytest.raises(LocalEngineError) as caught:
        engine.start(NullProgress())
    assert "ports.json" in caught.value.why
    assert "engine.log" in caught.value.hint


def test_nothing_is_left_after_stop_and_nothing_outside_the_state_directory(fresh: LocalEngine, tmp_path: Path) -> None:
    info = fresh.start(NullProgress())
    aws = Aws(info)
    service(fresh, aws, tmp_path, "left", SLOW_END)
    task = until(lambda: running(aws, "left"))[0]
    until(lambda: "worker is up" in log_lines(aws, "left"))
    tree = [info.pid, *(child.pid for child in psutil.Process(info.pid).children(recursive=True))]
    assert pid_of(task) in tree
    opened = [
        file.path
        for pid in tree
        for file in psutil.Process(pid).open_files()
        # A process that is just starting still reads its modules.
        if getattr(file, "mode", "") != "r"
    ]
    assert [path for path in opened if not path.startswith((str(tmp_path), "/dev"))] == []
    fresh.stop(NullProgress())
    assert [pid for pid in tree if alive(pid)] == []
    assert not (fresh.state_dir / "engine.json").exists()
    assert list((fresh.state_dir / "tmp").glob("tasks/*")) == []
    assert "drained" in (fresh.state_dir / "data" / "cloudwatch_logs.json").read_text()


# Who may talk to it.


def test_only_loopback_hosts_and_no_foreign_pages(shared: tuple[LocalEngine, Aws]) -> None:
    info = shared[0].running()
    assert info is not None
    for host in ("evil.example", f"evil.example:{info.port}", "127.0.0.1.evil.example", "localhost.evil.example"):
        assert request(info, "GET", "/_asyncjobs/health", Host=host)[0] == 403
        assert request(info, "GET", "/", Host=host)[0] == 403
    for host in ("127.0.0.1", f"localhost:{info.port}", "[::1]", "bucket.s3.localhost"):
        assert request(info, "GET", "/_asyncjobs/health", Host=host)[0] == 200
    assert request(info, "POST", "/", Origin="https://evil.example")[0] == 403
    assert request(info, "POST", "/", Origin="null")[0] == 403
    assert request(info, "GET", "/", Sec_Fetch_Site="cross-site")[0] == 403
    status, headers, _ = request(info, "GET", "/_asyncjobs/health", Origin="http://localhost:3000")
    assert status == 200
    assert not [name for name in headers if name.startswith("access-control")]


def test_controls_of_the_emulator_are_closed_and_shutdown_needs_the_token(
    shared: tuple[LocalEngine, Aws],
) -> None:
    engine, _ = shared
    info = engine.running()
    assert info is not None
    for path in ("/_ministack/reset", "/_ministack/config", "/_aws/sqs/messages", "/_localstack/health"):
        assert request(info, "POST", path)[0] == 404
    assert request(info, "POST", "/_asyncjobs/shutdown")[0] == 403
    assert request(info, "POST", "/_asyncjobs/shutdown", **{"x-asyncjobs-token": "guess"})[0] == 403
    assert engine.running() == info
    assert (engine.state_dir / "engine.json").stat().st_mode & 0o077 == 0
    health = json.loads(request(info, "GET", "/_asyncjobs/health")[2])
    assert health["tasks"] == {"processes": 0, "containers": 0}
    assert health["pid"] == info.pid


def test_everything_listens_on_loopback_only(shared: tuple[LocalEngine, Aws], tmp_path: Path) -> None:
    engine, aws = shared
    api = aws.apigateway.create_rest_api(name="asyncjobs-ports")["id"]
    url = engine.api_url(api)
    assert engine.api_url(api) == url
    info = engine.running()
    assert info is not None
    process = psutil.Process(info.pid)
    listening = [
        connection.laddr
        for each in (process, *process.children(recursive=True))
        for connection in each.net_connections(kind="inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {info.port, int(url.rsplit(":", 1)[1])}
    aws.apigateway.delete_rest_api(restApiId=api)
    with pytest.raises(NotFoundError):
        engine.api_url(api)
    port = int(url.rsplit(":", 1)[1])
    until(lambda: port not in {c.laddr.port for c in process.net_connections() if c.status == psutil.CONN_LISTEN})


def test_the_queue_refuses_what_sqs_refuses(shared: tuple[LocalEngine, Aws]) -> None:
    _, aws = shared
    url = aws.sqs.create_queue(QueueName="characters")["QueueUrl"]
    with pytest.raises(ClientError, match="InvalidMessageContents"):
        aws.sqs.send_message(QueueUrl=url, MessageBody="nul \x00 byte")
    attributes: dict[str, Any] = {"name": {"DataType": "String", "StringValue": "\x00"}}
    with pytest.raises(ClientError, match="InvalidMessageContents"):
        aws.sqs.send_message(QueueUrl=url, MessageBody="text", MessageAttributes=attributes)
    attributes = {"name": {"DataType": "Binary", "BinaryValue": b"\x00" * 100}}
    aws.sqs.send_message(QueueUrl=url, MessageBody="x" * (1048576 - 110), MessageAttributes=attributes)
    with pytest.raises(ClientError, match="must be shorter"):
        aws.sqs.send_message(QueueUrl=url, MessageBody="x" * (1048576 - 109), MessageAttributes=attributes)
    batch = [{"Id": "good", "MessageBody": "text"}, {"Id": "bad", "MessageBody": "\x0b"}]
    answer = aws.sqs.send_message_batch(QueueUrl=url, Entries=batch)
    assert [each["Id"] for each in answer["Successful"]] == ["good"]
    assert [each["Code"] for each in answer["Failed"]] == ["InvalidMessageContents"]
    aws.sqs.delete_queue(QueueUrl=url)


# Tasks.


def test_a_service_runs_as_a_process_with_logs_and_is_replaced_when_killed(
    shared: tuple[LocalEngine, Aws], tmp_path: Path
) -> None:
    engine, aws = shared
    code = "import json, os\nprint(json.dumps(dict(os.environ)), flush=True)\n" + LOOP
    os.environ["SECRET_OF_THE_HOST"] = "never"
    try:
        service(engine, aws, tmp_path, "runs", code)
        task = until(lambda: running(aws, "runs"))[0]
    finally:
        del os.environ["SECRET_OF_THE_HOST"]
    until(lambda: "worker is up" in log_lines(aws, "runs"))
    environment = json.loads(log_lines(aws, "runs")[0])
    assert environment["GREETING"] == "hello"
    assert environment["AWS_REGION"] == REGION
    assert environment["AWS_ENDPOINT_URL"] == engine.running().endpoint_url  # type: ignore[union-attr]
    assert environment["HOME"].startswith(str(engine.state_dir))
    assert "SECRET_OF_THE_HOST" not in environment
    assert not [name for name in environment if name.startswith(("MINISTACK", "STATE_DIR", "DOCKER"))]
    task_id = task["taskArn"].rsplit("/", 1)[1]
    streams = aws.logs.describe_log_streams(logGroupName="/asyncjobs/runs")["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [f"worker/worker/{task_id}"]

    os.kill(pid_of(task), signal.SIGKILL)
    replaced = until(lambda: [each for each in running(aws, "runs") if each["taskArn"] != task["taskArn"]])[0]
    assert alive(pid_of(replaced))
    old = aws.ecs.describe_tasks(cluster="runs", tasks=[task["taskArn"]])["tasks"][0]
    assert old["lastStatus"] == "STOPPED"
    assert old["stoppedReason"] == "Essential container in task exited"
    assert old["stopCode"] == "EssentialContainerExited"
    assert old["containers"][0]["exitCode"] == 137
    take_down(aws, "runs")
    until(lambda: not alive(pid_of(replaced)))


def take_down(aws: Aws, name: str) -> None:
    aws.ecs.delete_service(cluster=name, service="worker", force=True)
    until(lambda: describe(aws, name)["status"] == "INACTIVE")
    aws.ecs.delete_cluster(cluster=name)


def describe(aws: Aws, name: str) -> dict[str, Any]:
    found: dict[str, Any] = aws.ecs.describe_services(cluster=name, services=["worker"])["services"][0]
    return found


def test_stopping_is_a_sigterm_and_the_task_is_stopped_only_when_the_process_is(
    shared: tuple[LocalEngine, Aws], tmp_path: Path
) -> None:
    engine, aws = shared
    service(engine, aws, tmp_path, "drains", SLOW_END)
    task = until(lambda: running(aws, "drains"))[0]
    until(lambda: "worker is up" in log_lines(aws, "drains"))
    aws.ecs.update_service(cluster="drains", service="worker", desiredCount=0)
    now = aws.ecs.describe_tasks(cluster="drains", tasks=[task["taskArn"]])["tasks"][0]
    assert (now["desiredStatus"], now["lastStatus"]) == ("STOPPED", "STOPPING")
    assert alive(pid_of(task))
    deleted = aws.ecs.delete_service(cluster="drains", service="worker")["service"]
    assert deleted["status"] == "DRAINING"
    with pytest.raises(ClientError, match="ClusterContainsServicesException"):
        aws.ecs.delete_cluster(cluster="drains")
    with pytest.raises(ClientError, match="still Draining"):
        aws.ecs.create_service(cluster="drains", serviceName="worker", taskDefinition="drains", desiredCount=0)
    until(lambda: describe(aws, "drains")["status"] == "INACTIVE")
    assert not alive(pid_of(task))
    assert log_lines(aws, "drains") == ["worker is up", "draining", "drained"]
    done = aws.ecs.describe_tasks(cluster="drains", tasks=[task["taskArn"]])["tasks"][0]
    assert done["lastStatus"] == "STOPPED"
    assert done["containers"][0]["exitCode"] == 0
    assert done["stopCode"] == "ServiceSchedulerInitiated"
    aws.ecs.delete_cluster(cluster="drains")


def test_a_task_that_ignores_sigterm_is_killed_after_its_stop_timeout(
    shared: tuple[LocalEngine, Aws], tmp_path: Path
) -> None:
    engine, aws = shared
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LOOP
    service(engine, aws, tmp_path, "stubborn", stubborn, stop_timeout=1)
    task = until(lambda: running(aws, "stubborn"))[0]
    until(lambda: "worker is up" in log_lines(aws, "stubborn"))
    # Only then its deployment is over, in which ministack looks after the number of tasks anyway.
    until(lambda: describe(aws, "stubborn")["deployments"][0]["rolloutState"] == "COMPLETED")
    aws.ecs.stop_task(cluster="stubborn", task=task["taskArn"], reason="by hand")
    stopped = until(lambda: [each for each in tasks(aws, "stubborn", "STOPPED") if each["lastStatus"] == "STOPPED"])[0]
    assert stopped["containers"][0]["exitCode"] == 137
    assert (stopped["stopCode"], stopped["stoppedReason"]) == ("UserInitiated", "by hand")
    until(lambda: running(aws, "stubborn"))
    take_down(aws, "stubborn")


def test_a_new_task_definition_rolls_and_a_broken_one_rolls_back(
    shared: tuple[LocalEngine, Aws], tmp_path: Path
) -> None:
    engine, aws = shared
    service(engine, aws, tmp_path, "rolls", LOOP)
    first = until(lambda: running(aws, "rolls"))[0]
    second = register(engine, aws, tmp_path, "rolls", "print('second', flush=True)\n" + LOOP)
    aws.ecs.update_service(cluster="rolls", service="worker", taskDefinition=second)
    until(lambda: [each["taskDefinitionArn"] for each in running(aws, "rolls")] == [second])
    until(lambda: not alive(pid_of(first)))
    until(lambda: describe(aws, "rolls")["deployments"][0]["rolloutState"] == "COMPLETED")
    missing = register(engine, aws, tmp_path, "rolls", LOOP, image="asyncjobs.local/rolls:0123456789abcdef")
    aws.ecs.update_service(cluster="rolls", service="worker", taskDefinition=missing)
    failed = until(lambda: [t for t in tasks(aws, "rolls", "STOPPED") if t["taskDefinitionArn"] == missing])[0]
    assert failed["stoppedReason"].startswith("CannotPullContainerError:")
    assert failed["stopCode"] == "TaskFailedToStart"
    until(lambda: describe(aws, "rolls")["taskDefinition"] == second, 20)
    assert [each["taskDefinitionArn"] for each in running(aws, "rolls")] == [second]
    take_down(aws, "rolls")


def test_a_service_whose_first_tasks_die_fails_its_deployment_and_stops_trying(
    shared: tuple[LocalEngine, Aws], tmp_path: Path
) -> None:
    engine, aws = shared
    service(engine, aws, tmp_path, "broken", "import sys; sys.exit('no such module')")
    assert describe(aws, "broken")["deployments"][0]["rolloutState"] == "IN_PROGRESS"
    until(lambda: describe(aws, "broken")["deployments"][0]["rolloutState"] == "FAILED")
    assert tasks(aws, "broken") == []
    stopped = tasks(aws, "broken", "STOPPED")
    assert [task["containers"][0]["exitCode"] for task in stopped] == [1, 1, 1]
    assert log_lines(aws, "broken") == ["no such module"] * 3
    messages = [event["message"] for event in describe(aws, "broken")["events"]]
    assert any("is unable to consistently start tasks" in message for message in messages)
    assert any("circuit breaker" in message for message in messages)
    take_down(aws, "broken")


def test_no_docker_engine_is_contacted_where_one_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as docker:
        docker.bind(str(tmp_path / "docker.sock"))
        docker.listen()
        docker.setblocking(False)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        engine = engine_in(tmp_path / "state")
        try:
            aws = Aws(engine.start(NullProgress()))
            service(engine, aws, tmp_path, "docker", LOOP)
            until(lambda: running(aws, "docker"))
        finally:
            engine.stop(NullProgress())
        with pytest.raises(BlockingIOError):
            docker.accept()


def test_a_protected_task_is_not_scaled_in(shared: tuple[LocalEngine, Aws], tmp_path: Path) -> None:
    engine, aws = shared
    service(engine, aws, tmp_path, "protects", LOOP, count=2)
    until(lambda: len(running(aws, "protects")) == 2)
    newest = max(running(aws, "protects"), key=lambda task: task["createdAt"])
    arn = newest["taskArn"]
    info = engine.running()
    assert info is not None
    path = f"/_asyncjobs/ecs-agent/{arn.rsplit('/', 1)[1]}/task-protection/v1/state"
    connection = http.client.HTTPConnection("127.0.0.1", info.port, timeout=10)
    connection.request("PUT", path, body='{"ProtectionEnabled": true, "ExpiresInMinutes": 5}')
    assert json.loads(connection.getresponse().read())["protection"]["TaskArn"] == arn
    connection.close()
    aws.ecs.update_service(cluster="protects", service="worker", desiredCount=1)
    assert [each["taskArn"] for each in running(aws, "protects")] == [arn]
    aws.ecs.update_service(cluster="protects", service="worker", desiredCount=0)
    assert [each["taskArn"] for each in running(aws, "protects")] == [arn]
    protected = aws.ecs.get_task_protection(cluster="protects", tasks=[arn])["protectedTasks"]
    assert protected[0]["protectionEnabled"] is True
    aws.ecs.update_task_protection(cluster="protects", tasks=[arn], protectionEnabled=False)
    until(lambda: not running(aws, "protects"))
    take_down(aws, "protects")


# Autoscaling.


def test_a_message_scales_from_zero_and_an_empty_queue_back_to_it(
    shared: tuple[LocalEngine, Aws], tmp_path: Path
) -> None:
    engine, aws = shared
    service(engine, aws, tmp_path, "scales", LOOP, count=0)
    url = aws.sqs.create_queue(QueueName="scales")["QueueUrl"]
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": "service/scales/worker",
        "ScalableDimension": "ecs:service:DesiredCount",
    }
    scaling = aws.application_autoscaling
    with pytest.raises(scaling.exceptions.ValidationException):
        scaling.register_scalable_target(
            **{**target, "ResourceId": "service/scales/none"}, MinCapacity=0, MaxCapacity=1
        )
    with pytest.raises(scaling.exceptions.ObjectNotFoundException):
        put_policy(scaling, target, "busy", [])
    scaling.register_scalable_target(**target, MinCapacity=0, MaxCapacity=2, Tags={"asyncjobs:stack": "scales"})
    steps = [
        {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 1, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 1, "ScalingAdjustment": 5},
    ]
    busy = put_policy(scaling, target, "busy", steps)
    idle = put_policy(scaling, target, "idle", [{"MetricIntervalUpperBound": 0, "ScalingAdjustment": 0}])
    put_alarm(aws, "scales-busy", "GreaterThanOrEqualToThreshold", busy)
    put_alarm(aws, "scales-idle", "LessThanThreshold", idle)
    alarm = aws.cloudwatch.describe_alarms(AlarmNames=["scales-busy"])["MetricAlarms"][0]
    assert alarm["Metrics"][2]["Expression"] == "visible + inflight"
    assert not running(aws, "scales")

    aws.sqs.send_message(QueueUrl=url, MessageBody="one")
    until(lambda: len(running(aws, "scales")) == 1)
    aws.sqs.send_message(QueueUrl=url, MessageBody="two")
    until(lambda: len(running(aws, "scales")) == 2)
    aws.sqs.purge_queue(QueueUrl=url)
    until(lambda: not running(aws, "scales"))
    until(lambda: aws.cloudwatch.describe_alarms(StateValue="ALARM")["MetricAlarms"][0]["AlarmName"] == "scales-idle")

    found = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[target["ResourceId"]])
    arn = found["ScalableTargets"][0]["ScalableTargetARN"]
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"asyncjobs:stack": "scales"}
    assert len(scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]) == 2
    scaling.delete_scaling_policy(**target, PolicyName="busy")
    scaling.deregister_scalable_target(**target)
    with pytest.raises(scaling.exceptions.ObjectNotFoundException):
        scaling.deregister_scalable_target(**target)
    aws.cloudwatch.delete_alarms(AlarmNames=["scales-busy", "scales-idle"])
    take_down(aws, "scales")


def put_policy(scaling: Any, target: dict[str, str], name: str, steps: list[dict[str, Any]]) -> str:
    configuration = {"AdjustmentType": "ExactCapacity", "StepAdjustments": steps, "Cooldown": 0}
    answer = scaling.put_scaling_policy(
        **target, PolicyName=name, PolicyType="StepScaling", StepScalingPolicyConfiguration=configuration
    )
    return str(answer["PolicyARN"])


def put_alarm(aws: Aws, name: str, comparison: str, policy: str) -> None:
    def stat(identifier: str, metric: str) -> dict[str, Any]:
        dimensions = [{"Name": "QueueName", "Value": "scales"}]
        metric_of = {"Namespace": "AWS/SQS", "MetricName": metric, "Dimensions": dimensions}
        return {
            "Id": identifier,
            "MetricStat": {"Metric": metric_of, "Period": 60, "Stat": "Maximum"},
            "ReturnData": False,
        }

    aws.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Metrics=[
            stat("visible", "ApproximateNumberOfMessagesVisible"),
            stat("inflight", "ApproximateNumberOfMessagesNotVisible"),
            {"Id": "backlog", "Expression": "visible + inflight", "ReturnData": True},
        ],
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator=comparison,
        AlarmActions=[policy],
    )
