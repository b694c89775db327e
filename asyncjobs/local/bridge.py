"""The engine's second listener: the address by which containers see this machine.

It is opened when containers are first used, on the gateway of their network only, and takes the same keys as the one
on loopback.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from hypercorn.asyncio import serve

from asyncjobs.local.access import Endpoint
from asyncjobs.local.guard import LoopbackOnly
from asyncjobs.local.ministack_app import AsgiApp, Receive, Scope, Send
from asyncjobs.local.ports import bind, hypercorn_config

_OPEN_SECONDS = 10.0


class Bridge:
    """Made on the event loop that it serves on.

    Args:
        app: What it serves.
        endpoint: The engine's endpoint on loopback, whose port is taken here too where it is free.
    """

    def __init__(self, app: AsgiApp, endpoint: Endpoint) -> None:
        self._app = app
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._serving: list[asyncio.Task[None]] = []

    def listen(self, address: str) -> Endpoint:
        """Listen on this address of this machine; from any thread but the loop's.

        Raises:
            OSError: It is none of this machine's.
        """
        return asyncio.run_coroutine_threadsafe(self._open(address), self._loop).result(_OPEN_SECONDS)

    async def _open(self, address: str) -> Endpoint:
        socket = bind(self._endpoint.port, address)
        host = f"{address}:{socket.getsockname()[1]}"
        app: Any = LoopbackOnly(self._requests_only, allow_foreign_sites=False, host=host)
        self._serving.append(
            asyncio.create_task(serve(app, hypercorn_config(socket), shutdown_trigger=self._stop.wait))
        )
        return replace(self._endpoint, url=f"http://{host}")

    async def _requests_only(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        # Not the application's: the emulator would load its saved state once more, over the one it has by now.
        for _ in ("startup", "shutdown"):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    async def close(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._serving, return_exceptions=True)
