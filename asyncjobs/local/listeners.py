"""One listener per REST API, so that paths and `Location` headers read as they do on AWS: `/<stage>/jobs/ID`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from hypercorn.asyncio import serve
from hypercorn.config import Config

from asyncjobs.local.guard import LoopbackOnly
from asyncjobs.local.ministack_app import Receive, Scope, Send
from asyncjobs.local.ports import Ports, hypercorn_config

ENGINE = "engine"


class ApiApp(Protocol):
    """The data plane of one REST API."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def close(self) -> None:
        """No request will come any more."""


@dataclass
class _Listener:
    url: str
    stop: asyncio.Event
    task: asyncio.Task[None]


class ApiListeners:
    """Starts and ends the listeners of REST APIs.

    Args:
        ports: Remembers their ports.
        region_of: The region of a REST API, None when there is no such API.
        make_app: The data plane of a REST API in a region.
    """

    def __init__(
        self,
        ports: Ports,
        region_of: Callable[[str], str | None],
        make_app: Callable[[str, str], ApiApp],
    ) -> None:
        self._ports = ports
        self._region_of = region_of
        self._make_app = make_app
        self._listeners: dict[str, _Listener] = {}

    async def restore(self) -> None:
        """After a restart, listen again where each API was served before."""
        for name in self._ports.names():
            if name != ENGINE:
                await self.url(name)
        self.prune()

    async def url(self, rest_api_id: str) -> str | None:
        """Where the API is served, from now on if it was not before; None when there is no such API."""
        region = self._region_of(rest_api_id)
        if region is None:
            return None
        listener = self._listeners.get(rest_api_id)
        if listener is None or listener.task.done():
            listener = self._start(rest_api_id, region)
            self._listeners[rest_api_id] = listener
        return listener.url

    def prune(self) -> None:
        """End the listeners of deleted APIs and forget their ports."""
        for name in self._ports.names():
            if name != ENGINE and self._region_of(name) is None:
                self._ports.forget(name)
                listener = self._listeners.pop(name, None)
                if listener is not None:
                    listener.stop.set()

    async def close(self) -> None:
        for listener in self._listeners.values():
            listener.stop.set()
        for listener in self._listeners.values():
            with suppress(asyncio.CancelledError):
                await listener.task
        self._listeners.clear()

    def _start(self, rest_api_id: str, region: str) -> _Listener:
        socket = self._ports.listen(rest_api_id)
        url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        app = self._make_app(rest_api_id, region)
        stop = asyncio.Event()
        task = asyncio.create_task(_serve(app, hypercorn_config(socket), stop))
        return _Listener(url, stop, task)


async def _serve(app: ApiApp, config: Config, stop: asyncio.Event) -> None:
    try:
        guarded: Any = LoopbackOnly(app, allow_foreign_sites=True)
        await serve(guarded, config, shutdown_trigger=stop.wait)
    finally:
        app.close()
