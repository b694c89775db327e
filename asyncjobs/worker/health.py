"""`/healthz` for the container's health check, and `python -m asyncjobs.worker.health`, which asks for it.

The answer comes from the worker's own loop: one that is stuck gives none, and ECS replaces the task.
"""

from __future__ import annotations

import asyncio
import os
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress

PORT_VARIABLE = "ASYNCJOBS_HEALTH_PORT"
_TIMEOUT = 4.0


async def serve(port: int, is_well: Callable[[], bool]) -> asyncio.Server:
    """Answer 200 while all is well, else 503. Raises OSError where the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                await reader.readuntil(b"\r\n\r\n")
                status, word = ("200 OK", b"ok") if is_well() else ("503 Service Unavailable", b"stuck")
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(word)}\r\nConnection: close\r\n\r\n".encode())
                writer.write(word)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    return await asyncio.start_server(answer, "127.0.0.1", port)


def main() -> int:
    """0 if the worker of this container is well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{os.environ[PORT_VARIABLE]}/healthz", timeout=_TIMEOUT):
            return 0
    except (OSError, KeyError) as error:
        print(f"the worker does not answer: {error!r}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
