"""A stack's API on the emulated services, and the data plane that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import urllib3

from asyncjobs.local.dataplane import DataPlane
from asyncjobs.names import Names
from asyncjobs.provision.api_document import ApiSettings

REGION = "eu-west-1"
ACCOUNT = "000000000000"
START_SECONDS = 30


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, alive: Callable[[], bool] = lambda: True) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and alive():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


class Api:
    """A deployed API and the data plane that serves it."""

    def __init__(self, url: str, key: str, rest_api_id: str, settings: ApiSettings) -> None:
        self.url = url
        self.key = key
        self.rest_api_id = rest_api_id
        self.settings = settings
        self._pool = urllib3.PoolManager(retries=False, maxsize=16)

    def request(
        self, method: str, path: str, body: bytes | None = None, key: str | None = None, **headers: str
    ) -> urllib3.BaseHTTPResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is None:
            sent["x-api-key"] = self.key
        elif key:
            sent["x-api-key"] = key
        return self._pool.request(method, self.url + path, body=body, headers=sent, timeout=30)

    def close(self) -> None:
        self._pool.clear()


@contextlib.contextmanager
def served(app: DataPlane) -> Iterator[str]:
    """The application on a free port of this process."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    port = free_port()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 1
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for_port(port, thread.is_alive)
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        app.close()


def provision(
    aws: Callable[[str], Any], names: Names, document: dict[str, Any], settings: ApiSettings
) -> tuple[str, str]:
    """Queue, table, API, key and plan of a stack; the API's id and the key."""
    aws("sqs").create_queue(QueueName=names.queue)
    aws("dynamodb").create_table(
        TableName=names.table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "jobId", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
    )
    apigateway = aws("apigateway")
    rest_api_id = apigateway.import_rest_api(body=json.dumps(document).encode())["id"]
    deployment = apigateway.create_deployment(restApiId=rest_api_id)["id"]
    apigateway.create_stage(restApiId=rest_api_id, stageName=settings.stage, deploymentId=deployment)
    key = apigateway.create_api_key(name=names.api_key, enabled=True)
    plan = apigateway.create_usage_plan(
        name=names.usage_plan,
        apiStages=[{"apiId": rest_api_id, "stage": settings.stage}],
        throttle={"rateLimit": 1000, "burstLimit": 2000},
    )
    apigateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
    return rest_api_id, key["value"]
