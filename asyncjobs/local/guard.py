"""Keeps web pages away from listeners on loopback.

A page on the internet can make a browser send requests to 127.0.0.1. With DNS rebinding it sends its own host name,
so a Host that is not loopback is refused everywhere. Without, it can still send "simple" cross-site requests, so the
AWS endpoint also refuses any that a browser marks as coming from another site.
"""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from asyncjobs.local.ministack_app import AsgiApp, Receive, Scope, Send

# Names under .localhost never leave the machine (RFC 6761), so S3's virtual-hosted buckets may use them.
_LOOPBACK = re.compile(r"(127(?:\.\d{1,3}){3}|(?:[a-z0-9.-]+\.)?localhost|\[::1\])(?::\d+)?\Z", re.IGNORECASE)


def header(scope: Scope, name: bytes) -> str:
    """The first value of a request header, or an empty string."""
    return next((value.decode("latin-1") for key, value in scope.get("headers", []) if key.lower() == name), "")


def is_loopback_host(host: str) -> bool:
    return _LOOPBACK.match(host) is not None


def is_foreign_site(scope: Scope) -> bool:
    """Whether a browser says that a page of another site sent this request."""
    if header(scope, b"sec-fetch-site") == "cross-site":
        return True
    origin = header(scope, b"origin")
    return bool(origin) and not is_loopback_host(urlsplit(origin).netloc)


async def respond(send: Send, status: int, value: object, content_type: str = "application/json") -> None:
    """Send a whole JSON answer, without any CORS header."""
    await respond_bytes(send, status, json.dumps(value).encode(), content_type)


async def respond_bytes(send: Send, status: int, body: bytes, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class LoopbackOnly:
    """ASGI middleware in front of every listener.

    Args:
        allow_foreign_sites: The job API is made for browsers and has its own CORS rules and keys.
        host: A further Host that is answered, with its port.
    """

    def __init__(self, app: AsgiApp, *, allow_foreign_sites: bool, host: str | None = None) -> None:
        self._app = app
        self._allow_foreign_sites = allow_foreign_sites
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif not is_loopback_host(host := header(scope, b"host")) and host != self._host:
            message = "This listener answers only to loopback host names."
            await respond(send, 403, {"error": "ForbiddenHost", "message": message})
        elif not self._allow_foreign_sites and is_foreign_site(scope):
            message = "Web pages of other sites may not call the local engine."
            await respond(send, 403, {"error": "ForbiddenOrigin", "message": message})
        else:
            await self._app(scope, receive, send)
