"""HTTP/1.1 for calls whose request and answer are both small and whole: POST over connections that are kept alive.

Of what a general client offers (redirects, cookies, streams, compression) such a call needs nothing, and pays for it
with more CPU than all the rest of it takes. The parser is the one that Node.js has, by way of httptools.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools


class HttpError(Exception):
    """No connection, or none long enough for an answer."""


class Answer(NamedTuple):
    """Args: headers: Their names in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class _Connection(asyncio.Protocol):
    """One call at a time."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._headers: dict[str, str] = {}
        self._content: list[bytes] = []

    async def send(self, request: bytes) -> Answer:
        """Raises HttpError. Given up, the connection is closed: its answer would be taken for the next one's."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = None

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"an answer that is no HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was closed: {error or 'by the other side'}")

    def on_message_begin(self) -> None:
        self._headers, self._content = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._content.append(data)

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not self._parser.should_keep_alive():
            # What nobody asked for is a word of farewell.
            self.close()
        if answer is not None and not answer.done():
            answer.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._content)))

    def _fail(self, reason: str) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(HttpError(reason))


class Server:
    """The connections to one server; see Http."""

    def __init__(self, url: str, trusted: ssl.SSLContext, connect_seconds: float, keep_seconds: float) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.path = parts.path or "/"
        self._address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        self._tls = trusted if parts.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._keep_seconds = keep_seconds
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def post(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer, whatever its status. The headers name no length; `Host` is theirs to name.

        Raises:
            HttpError: There was none, and the call may or may not have had its effect.
        """
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"POST {self.path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        connection = self._take() or await self._connect()
        answer = await connection.send(head.encode("latin-1") + body)
        if connection.closed:
            self._all.discard(connection)
        else:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        for connection in self._all:
            connection.close()
        self._all.clear()
        self._idle.clear()

    def _take(self) -> _Connection | None:
        """The one used last, so that those there are too many of grow old."""
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.idle_since > self._keep_seconds:
                connection.close()
            if not connection.closed:
                return connection
            self._all.discard(connection)
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        host, port = self._address
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    _Connection, host, port, ssl=self._tls, happy_eyeballs_delay=0.25
                )
        except (OSError, TimeoutError) as error:
            raise HttpError(f"no connection to {host}:{port}: {error!r}") from error
        self._all = {one for one in self._all if not one.closed} | {connection}
        return connection


class Http:
    """Connections to all servers, closed in the end.

    Args:
        trusted: For https.
        connect_seconds: For a connection, its TLS included.
        keep_seconds: That an idle one is used again. AWS keeps them longer, so few calls meet one just being closed.
    """

    def __init__(self, trusted: ssl.SSLContext, *, connect_seconds: float, keep_seconds: float = 15) -> None:
        self._trusted = trusted
        self._connect_seconds = connect_seconds
        self._keep_seconds = keep_seconds
        self._servers: list[Server] = []

    def server(self, url: str) -> Server:
        """Args: url: Of http or https; its path is that of every call."""
        self._servers.append(Server(url, self._trusted, self._connect_seconds, self._keep_seconds))
        return self._servers[-1]

    def close(self) -> None:
        for server in self._servers:
            server.close()
