"""The engine's ASGI application: its own endpoints, application-autoscaling, and the emulator behind them."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from asyncjobs import __version__
from asyncjobs.local.access import is_allowed, read_signature, refusal
from asyncjobs.local.control import TOKEN_HEADER
from asyncjobs.local.guard import header, respond, respond_bytes
from asyncjobs.local.ministack_app import AsgiApp, Message, Receive, Scope, Send
from asyncjobs.local.saver import may_change
from asyncjobs.local.scaling_api import TARGET_PREFIX

_OWN = "/_asyncjobs/"
# The emulator's own controls (reset, configuration, its view of queues) and its other doors to REST APIs.
_CLOSED = ("/_ministack", "/_localstack", "/_aws", "/health")
_RPC_PATH = re.compile(r"/operation/(?P<action>\w+)")
_REST_API = re.compile(r"/restapis/[^/]+/?\Z")
# Both are capabilities, as on ECS: the task's random id, and a random token.
_METADATA = re.compile(r"/v4/[A-Za-z0-9_-]{32,}(/.*)?\Z")
_AGENT = re.compile(r"ecs-agent/(?P<task>[0-9a-f-]+)/task-protection/v1/state\Z")
_LARGEST_OWN_BODY = 1024 * 1024


@dataclass(frozen=True)
class Parts:
    """What the gateway hands requests to.

    Args:
        emulator: ministack's application.
        api_url: Starts a REST API's listener and says where it is, or None.
        api_deleted: Called when a REST API may have been deleted.
        stacks: Names of stacks that own something.
        metadata: The task metadata endpoint: path to (status, headers, body).
        scaling: application-autoscaling: (action, region, body) to (status, answer).
        protection: The task protection agent: (method, task id, body) to (status, answer).
        touch: Called with the service name of a request that may have changed state.
        message_sent: Called when a message went into a queue.
        shutdown: Asks the engine to stop.
        registry: The registry of the emulated ECR.
        containers: Why no containers can be run here, or None. May take seconds.
        running: How many containers run, by the kind of their runner.
    """

    emulator: AsgiApp
    api_url: Callable[[str], Awaitable[str | None]]
    api_deleted: Callable[[], None]
    stacks: Callable[[], list[str]]
    metadata: Callable[[str], Awaitable[tuple[int, dict[str, str], bytes]]]
    scaling: Callable[[str, str, bytes], tuple[int, dict[str, Any]]]
    protection: Callable[[str, str, bytes], tuple[int, dict[str, Any]]]
    touch: Callable[[str], None]
    message_sent: Callable[[], None]
    shutdown: Callable[[], None]
    registry: AsgiApp
    containers: Callable[[], str | None]
    running: Callable[[], dict[str, int]]


class Gateway:
    """Routes a request by its path and its X-Amz-Target.

    Args:
        parts: Where requests go.
        access_key: Whose signature everything takes that is not the engine's own.
        token: What commands present to the engine's own endpoints.
    """

    def __init__(self, parts: Parts, *, access_key: str, token: str) -> None:
        self._parts = parts
        self._access_key = access_key
        self._token = token
        self._started = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._parts.emulator(scope, receive, send)
            return
        path: str = scope["path"]
        target = header(scope, b"x-amz-target")
        if path.startswith(_OWN):
            await self._own(scope, path.removeprefix(_OWN), receive, send)
        elif path.startswith(_CLOSED):
            await respond(send, 404, {"error": "NotFound", "message": "There is nothing here."})
        elif path == "/v2" or path.startswith("/v2/"):
            await self._parts.registry(scope, receive, send)
        elif _METADATA.match(path):
            await self._metadata(scope, path, send)
        else:
            await self._aws(scope, path, target, receive, send)

    async def _aws(self, scope: Scope, path: str, target: str, receive: Receive, send: Send) -> None:
        signature = read_signature(scope)
        if not is_allowed(signature, self._access_key):
            content_type, refused = refusal(scope, signature)
            await respond_bytes(send, 403, refused, content_type)
        elif target.startswith(TARGET_PREFIX):
            action = target.removeprefix(TARGET_PREFIX)
            status, answer = self._parts.scaling(action, signature.region, await _body(receive))
            await respond(send, status, answer, "application/x-amz-json-1.1")
        else:
            await self._emulate(scope, path, target, signature.service, receive, send)

    async def _metadata(self, scope: Scope, path: str, send: Send) -> None:
        # Straight to that endpoint: the emulator would let headers and host names lead the request elsewhere.
        if scope["method"] != "GET":
            await respond(send, 405, {"error": "MethodNotAllowed", "message": "Only GET."})
            return
        status, headers, body = await self._parts.metadata(path)
        await respond_bytes(send, status, body, headers.get("Content-Type", "application/json"))

    async def _emulate(self, scope: Scope, path: str, target: str, service: str, receive: Receive, send: Send) -> None:
        rpc = _RPC_PATH.search(path)
        action = rpc["action"] if rpc else target.rpartition(".")[2]
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._parts.emulator(scope, receive, note_status)
        if status < 400 and may_change(scope["method"], action):
            self._parts.touch(service)
            if action.startswith("SendMessage"):
                self._parts.message_sent()
            if scope["method"] == "DELETE" and _REST_API.match(path):
                self._parts.api_deleted()

    async def _own(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        agent = _AGENT.match(path)
        if path == "health" and method == "GET":
            await respond(send, 200, self._health())
        elif agent and method in ("GET", "PUT"):
            status, answer = self._parts.protection(method, agent["task"], await _body(receive))
            await respond(send, status, answer)
        elif not hmac.compare_digest(header(scope, TOKEN_HEADER.encode()).encode(), self._token.encode()):
            await respond(send, 403, {"error": "Forbidden", "message": "The token in engine.json is needed."})
        elif path == "stacks" and method == "GET":
            await respond(send, 200, {"stacks": self._parts.stacks()})
        elif path.startswith("apis/") and method == "GET":
            url = await self._parts.api_url(path.removeprefix("apis/"))
            missing = {"error": "NotFound", "message": "There is no such REST API."}
            await respond(send, 200 if url else 404, {"url": url} if url else missing)
        elif path == "containers" and method == "POST":
            await respond(send, 200, {"unavailable": await asyncio.to_thread(self._parts.containers)})
        elif path == "shutdown" and method == "POST":
            await respond(send, 202, {"stopping": True})
            self._parts.shutdown()
        else:
            await respond(send, 404, {"error": "NotFound", "message": "There is nothing here."})

    def _health(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptimeSeconds": round(time.monotonic() - self._started, 3),
            "tasks": self._parts.running(),
        }


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= _LARGEST_OWN_BODY:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    return body
