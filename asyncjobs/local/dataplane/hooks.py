"""Wraps the emulated AWS services: OpenAPI imports are carried out, and each deployment's copy is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

from asyncjobs.local.dataplane.app import AsgiApp, Message, Receive, Scope, Send
from asyncjobs.local.dataplane.importer import ImportFailed, import_document
from asyncjobs.local.dataplane.model import Json
from asyncjobs.local.dataplane.snapshots import PARTS, Snapshots

_REST_API = re.compile(r"/restapis(?:/([a-z0-9]+))?(/deployments)?/?")


class _Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class RestApiHooks:
    """An ASGI application around the emulator's: answers ImportRestApi and PutRestApi itself (by the emulator's other
    calls), and copies an API when it is deployed. Everything else goes through untouched.

    Args:
        app: The emulator's ASGI application.
        state_dir: Where the deployments' copies are kept, for the data planes to read.
    """

    def __init__(self, app: AsgiApp, state_dir: Path) -> None:
        self._app = app
        self._snapshots = Snapshots(state_dir)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = _REST_API.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if match is None:
            await self._app(scope, receive, send)
            return
        rest_api_id, deployments = match.groups()
        mode = parse_qs(scope.get("query_string", b"").decode()).get("mode", [""])[0]
        inner = _Inner(self._app, scope)
        if scope["method"] == "POST" and rest_api_id is None and mode == "import":
            answer = await self._import(inner, "", await _body(receive))
        elif scope["method"] == "PUT" and rest_api_id and not deployments:
            answer = await self._put(inner, rest_api_id, mode, await _body(receive))
        elif scope["method"] == "POST" and deployments:
            answer = await self._deploy(inner, rest_api_id, await _body(receive))
        elif scope["method"] == "DELETE" and rest_api_id and not deployments:
            answer = await inner.request("DELETE", scope["path"], b"")
            if answer.status < 300:
                self._snapshots.forget(rest_api_id)
        else:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _put(self, inner: _Inner, rest_api_id: str, mode: str, body: bytes) -> _Answer:
        if mode == "merge":
            return _bad_request("The local engine imports with mode=overwrite only.")
        found = await inner.request("GET", f"/restapis/{rest_api_id}", b"")
        return await self._import(inner, rest_api_id, body) if found.status == 200 else found

    async def _import(self, inner: _Inner, rest_api_id: str, body: bytes) -> _Answer:
        """Into the API, or into a new one."""
        made = ""
        try:
            document = json.loads(body)
            if not isinstance(document, dict):
                raise ImportFailed("The document is not a JSON object.")
            if not rest_api_id:
                properties = {"name": str(document.get("info", {}).get("title", ""))}
                rest_api_id = made = (await inner.call("POST", "/restapis", properties))["id"]
            await import_document(inner.call, rest_api_id, document)
        except (ImportFailed, ValueError, KeyError, TypeError, AttributeError) as error:
            if made:
                await inner.request("DELETE", f"/restapis/{made}", b"")
            return _bad_request(f"Unable to import the document: {error!r}")
        answer = await inner.request("GET", f"/restapis/{rest_api_id}", b"")
        return answer._replace(status=201) if made else answer

    async def _deploy(self, inner: _Inner, rest_api_id: str, body: bytes) -> _Answer:
        # Copied before: between the deployment and a copy made after it, another change could slip in.
        found = [await inner.request("GET", path.format(id=rest_api_id), b"") for path in PARTS.values()]
        answer = await inner.request("POST", f"/restapis/{rest_api_id}/deployments", body)
        if answer.status == 201:
            parts = {name: json.loads(part.body) for name, part in zip(PARTS, found, strict=True)}
            self._snapshots.keep(rest_api_id, json.loads(answer.body)["id"], parts)
        return answer


class _Inner:
    """Calls to the emulator in the name of a caller: with its headers, so for its account and region."""

    def __init__(self, app: AsgiApp, scope: Scope) -> None:
        self._app = app
        self._scope = scope

    async def call(self, method: str, path: str, document: Json | None) -> Json:
        body = b"" if document is None else json.dumps(document).encode()
        answer = await self.request(method, path, body)
        if answer.status >= 300:
            raise ImportFailed(f"{method} {path}: {answer.status} {answer.body.decode('utf-8', 'replace')}")
        result: Json = json.loads(answer.body) if answer.body else {}
        return result

    async def request(self, method: str, target: str, body: bytes) -> _Answer:
        path, _, query = target.partition("?")
        replaced = (b"content-length", b"transfer-encoding")
        headers = [(name, value) for name, value in self._scope["headers"] if name.lower() not in replaced]
        scope = {
            **self._scope,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
        requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            return requests.pop() if requests else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return _Answer(
            sent[0]["status"], list(sent[0].get("headers", [])), b"".join(part.get("body", b"") for part in sent[1:])
        )


async def _body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _bad_request(message: str) -> _Answer:
    body = json.dumps({"message": message}).encode()
    return _Answer(400, [(b"content-type", b"application/json"), (b"x-amzn-errortype", b"BadRequestException")], body)
