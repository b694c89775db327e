"""The data plane as an ASGI application."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from asyncjobs.local.dataplane.backends import AwsServices, call_mock
from asyncjobs.local.dataplane.control import ControlApi
from asyncjobs.local.dataplane.deployed import Deployments
from asyncjobs.local.dataplane.edge import Edge
from asyncjobs.local.dataplane.gateway import MAX_REQUEST_BYTES, Gateway
from asyncjobs.local.dataplane.http import SignedHttp
from asyncjobs.local.dataplane.integration import Integrations
from asyncjobs.local.dataplane.model import Request
from asyncjobs.local.dataplane.snapshots import Snapshots

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_THREADS = 64
# A body past the limit is read on without being kept, so that the caller gets to read why; but not for ever.
_DRAIN_BYTES = 10 * MAX_REQUEST_BYTES


class DataPlane:
    """Serves `/<stage>/...` of one REST API, as its stages are deployed.

    Calls to the services block, so each request runs in a thread of its own.

    Args:
        rest_api_id: The API to serve.
        endpoint_url: Where API Gateway's control API, SQS and DynamoDB are.
        state_dir: Where RestApiHooks keeps the deployments' copies.
        region, access_key, secret_key: What calls to the services are signed with.
        clock: Epoch seconds.
        monotonic: Seconds, for rates and ages.
        max_age: Seconds for which a stage's settings, keys and plans are not read again.
    """

    def __init__(
        self,
        rest_api_id: str,
        *,
        endpoint_url: str,
        region: str,
        state_dir: Path,
        access_key: str = "test",
        secret_key: str = "test",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        max_age: float = 0.2,
    ) -> None:
        http = SignedHttp(endpoint_url, region=region, access_key=access_key, secret_key=secret_key)
        deployments = Deployments(ControlApi(http), Snapshots(state_dir), rest_api_id, clock=monotonic, max_age=max_age)
        self._clock = clock
        self._gateway = Gateway(
            rest_api_id,
            deployments.current,
            Edge(access_key, monotonic=monotonic, clock=clock),
            Integrations({"AWS": AwsServices(http), "MOCK": call_mock}),
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"api-{rest_api_id}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            body = await _read_body(receive)
            if body is not None:
                request = self._request(scope, body)
                loop = asyncio.get_running_loop()
                response = await loop.run_in_executor(self._threads, self._gateway.answer, request)
                await _send(send, request.method, response.status, response.headers, response.body)

    def close(self) -> None:
        """Ends the threads once their requests are answered."""
        self._threads.shutdown(wait=False)

    def _request(self, scope: Scope, body: bytes) -> Request:
        raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        root = scope.get("root_path", "")
        _, stage, *rest = (raw_path.removeprefix(root) + "/").split("/", 2)
        client = scope.get("client") or ("127.0.0.1", 0)
        return Request(
            method=scope["method"],
            stage=stage,
            path="/" + "".join(rest).rstrip("/"),
            query=dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)),
            headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
            source_ip=client[0],
            request_id=str(uuid.uuid4()),
            time_ms=int(self._clock() * 1000),
        )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _read_body(receive: Receive) -> bytes | None:
    """The body, of one too large a part that is still too large; None when the caller has gone."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        if size <= MAX_REQUEST_BYTES:
            parts.append(part)
        size += len(part)
        if not message.get("more_body") or size > _DRAIN_BYTES:
            return b"".join(parts)


async def _send(send: Send, method: str, status: int, headers: Any, body: bytes) -> None:
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if status != 204:
        encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" or status == 204 else body})
