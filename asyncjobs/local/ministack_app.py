"""The emulator: its settings, its application, its state. With `ministack_ecs`, all that knows ministack's inside.

ministack is pinned to one version, so what is used here beyond its environment variables and its ASGI application
is small, listed in docs/local.md, and exercised by tests/local.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from asyncjobs.local.dataplane.sqs_rules import MAX_MESSAGE_BYTES, message_bytes, sqs_refuses
from asyncjobs.local.paths import EnginePaths
from asyncjobs.local.usage_plans import PatchError, patched
from asyncjobs.names import STACK_TAG

DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# What a stack uses. The others would bring code that starts containers, listeners and subprocesses.
_SERVICES = (
    "apigateway,dynamodb,ec2,ecr,ecs,ecs-metadata,iam,kms,logs,monitoring,s3,secretsmanager,sns,sqs,ssm,sts,tagging"
)

_BASE = re.compile(r"asyncjobs-(?P<stack>[a-z](?:[a-z0-9-]{0,22}[a-z0-9])?)\Z")
_BUCKET = re.compile(r"(?P<base>asyncjobs-.+)-\d{12}-[a-z]{2}(?:-[a-z]+)+-\d\Z")


def configure(paths: EnginePaths, port: int, access_key: str, secret_key: str) -> None:
    """Set the emulator's environment. To be called before anything imports it: it reads most of it on import.

    Args:
        access_key, secret_key: Of its root user. It verifies the signatures of presigned URLs of S3.
    """
    os.environ.update(
        {
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "AWS_ACCESS_KEY_ID": access_key,
            "AWS_SECRET_ACCESS_KEY": secret_key,
            "MINISTACK_ACCOUNT_ID": DEFAULT_ACCOUNT,
            "MINISTACK_REGION": DEFAULT_REGION,
            "SERVICES": _SERVICES,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "PERSIST_STATE": "1",
            "STATE_DIR": str(paths.data),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(paths.data / "s3"),
            "LOG_LEVEL": "WARNING",
            "ECS_RESTORE_RECONCILE_DELAY_SECONDS": "0.2",
            # A socket that cannot exist: no Docker engine is looked for, even where one runs.
            "DOCKER_HOST": f"unix://{paths.root}/no-docker.sock",
            "TMPDIR": str(paths.tmp),
        }
    )


class Ministack:
    """The emulator inside this process."""

    def __init__(self) -> None:
        import ministack.app as application
        from ministack.core import persistence
        from ministack.services import apigateway_v1, cloudwatch, sqs

        self._app = application
        self._persistence = persistence
        # It would run any script under /etc/localstack and /docker-entrypoint-initaws.d: not on a person's machine.
        application._collect_scripts = lambda *directories: []
        _keep_alarm_metrics(cloudwatch)
        _check_messages(sqs)
        _patch_usage_plans(apigateway_v1)

    @property
    def asgi(self) -> AsgiApp:
        app: AsgiApp = self._app.app
        return app

    async def task_metadata(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the task metadata endpoint, whose URIs hold a secret of their task."""
        from ministack.services import ecs_metadata

        status, headers, body = await ecs_metadata.handle_request("GET", path, {}, b"", {})
        return int(status), {str(name): str(value) for name, value in headers.items()}, bytes(body)

    def state_keys(self, service: str) -> set[str]:
        """The state files that a request signed for this service may change; all loaded ones for an unknown name."""
        name = self._app.SERVICE_NAME_ALIASES.get(service, service)
        config = self._app.SERVICE_REGISTRY.get(name)
        if config is None:
            return set(self._app._build_persistence_save_dict())
        return {config.get("state_key", config["module"]), *config.get("sub_modules", ())}

    def snapshot(self, keys: Iterable[str]) -> dict[str, Any]:
        """Copies of these services' states, in the order to write them in.

        Queues come last: a crash between two files must at worst bring back a message whose job is recorded as
        done, never lose one whose job is not.
        """
        getters = self._app._build_persistence_save_dict()
        ordered = sorted((key for key in keys if key in getters), key=lambda key: (key == "sqs", key))
        states = {key: getters[key]() for key in ordered}
        return {key: state for key, state in states.items() if state is not None}

    def write(self, states: dict[str, Any]) -> None:
        for key, state in states.items():
            self._persistence.save_state(key, state)

    def rest_api_region(self, rest_api_id: str) -> str | None:
        """The region of a REST API; None when there is no such API."""
        from ministack.services import apigateway_v1

        for (_account, region, key), _api in apigateway_v1._rest_apis.all_items():
            if key == rest_api_id:
                return str(region)
        return None

    def stacks(self) -> list[str]:
        """Stacks that own something here, by tag or, failing that, by name."""
        return sorted({*_tagged_stacks(), *filter(None, map(stack_of_name, _resource_names()))})


def stack_of_name(name: str) -> str | None:
    """The stack whose resource would have this name."""
    bucket = _BUCKET.match(name)
    base = (bucket["base"] if bucket else name).removesuffix(".fifo").removesuffix("-dlq")
    match = _BASE.match(base)
    return match["stack"] if match else None


def _resource_names() -> Iterable[str]:
    from ministack.services import apigateway_v1, dynamodb, ecs, s3, sqs

    for store in (dynamodb._tables, sqs._queue_name_to_url, ecs._clusters):
        yield from (str(key[2]) for key, _ in store.all_items())
    yield from (str(api.get("name", "")) for _, api in apigateway_v1._rest_apis.all_items())
    yield from (str(key[1]) for key in list(s3._buckets._data))


def _tagged_stacks() -> Iterable[str]:
    from ministack.services import apigateway_v1, sqs

    owners = [queue.get("tags") for _, queue in sqs._queues.all_items()]
    owners += [api.get("tags") for _, api in apigateway_v1._rest_apis.all_items()]
    return [tags[STACK_TAG] for tags in owners if isinstance(tags, dict) and STACK_TAG in tags]


def _keep_alarm_metrics(cloudwatch: Any) -> None:
    """Make PutMetricAlarm keep `Metrics` (metric math), which this version drops and autoscaling needs."""
    original = cloudwatch._put_metric_alarm

    def put_metric_alarm(params: Any, data: Any, is_cbor: bool, is_json: bool = False) -> Any:
        answer = original(params, data, is_cbor, is_json)
        alarm = cloudwatch._alarms.get((data or {}).get("AlarmName", "")) if is_cbor or is_json else None
        if alarm is not None and data.get("Metrics"):
            alarm["Metrics"] = data["Metrics"]
            for name in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Dimensions", "Unit"):
                alarm.pop(name, None)
        return answer

    cloudwatch._put_metric_alarm = put_metric_alarm


def _patch_usage_plans(apigateway: Any) -> None:
    """Make UpdateUsagePlan carry out its patch; this version stores "API:STAGE" where a list of stages must be."""

    def stage_exists(rest_api_id: str, stage: str) -> bool:
        return stage in apigateway._stages_v1.get(rest_api_id, {})

    def update_usage_plan(plan_id: str, data: dict[str, Any]) -> Any:
        plan = apigateway._usage_plans.get(plan_id)
        if not plan:
            return apigateway._v1_error("NotFoundException", "Invalid Usage Plan identifier specified", 404)
        try:
            changed = patched(plan, data.get("patchOperations", []), stage_exists)
        except PatchError as error:
            return apigateway._v1_error(error.code, str(error), 404 if error.code == "NotFoundException" else 400)
        apigateway._usage_plans[plan_id] = changed
        return apigateway._v1_response(changed)

    apigateway._update_usage_plan = update_usage_plan


def _attribute_text(value: dict[str, Any]) -> str:
    """The value of a string attribute; for a binary one, which arrives as base64, a text of as many bytes."""
    if value.get("StringValue") is not None:
        return str(value["StringValue"])
    encoded = str(value.get("BinaryValue") or "").rstrip("=")
    return "." * (len(encoded) * 3 // 4)


def _check_messages(sqs: Any) -> None:
    """Make SendMessage and SendMessageBatch judge attributes as SQS does; this version looks at the body only."""
    original = sqs._act_send_message

    def send_message(data: dict[str, Any], queue_url: str) -> Any:
        attributes = {
            name: (str(value.get("DataType", "")), _attribute_text(value))
            for name, value in (data.get("MessageAttributes") or {}).items()
        }
        if any(sqs_refuses(value) for _type, value in attributes.values()):
            raise sqs._Err("InvalidMessageContents", "The message contains characters outside the allowed set.")
        queue = sqs._get_q(data.get("QueueUrl", queue_url), "sqs:SendMessage")
        limit = int(queue["attributes"].get("MaximumMessageSize", MAX_MESSAGE_BYTES))
        if message_bytes(data.get("MessageBody") or "", attributes) > limit:
            reason = f"Message must be shorter than {limit} bytes."
            raise sqs._Err("InvalidParameterValue", f"One or more parameters are invalid. Reason: {reason}")
        return original(data, queue_url)

    sqs._act_send_message = send_message
    sqs._HANDLERS["SendMessage"] = send_message
