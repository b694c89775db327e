"""The engine's process: `python -m asyncjobs.local.server --state-dir DIR`.

Order matters. The lock comes first, so that one state directory never has two engines; then the port and the
environment, which the emulator reads while it is imported; then its saved state, which starts tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncjobs.local.paths import EnginePaths, docker_environment
from asyncjobs.local.presence import Presence, take_lock

if TYPE_CHECKING:
    from asyncjobs.local.engine import Engine

EXIT_ALREADY_RUNNING = 3


def detach() -> None:
    """Become a child of init in a session of its own. The parent ends here; the lock stays with the child."""
    if os.fork():
        os._exit(0)
    os.setsid()


async def run(paths: EnginePaths, lock: int) -> None:
    """Serve until asked to stop."""
    from asyncjobs.local.access import Endpoint, load_access_key
    from asyncjobs.local.ministack_app import configure
    from asyncjobs.local.ports import Ports

    ports = Ports(paths)
    listener = ports.listen("engine")
    port = listener.getsockname()[1]
    endpoint = Endpoint(f"http://127.0.0.1:{port}", load_access_key(paths))
    docker_env = docker_environment()
    configure(paths, port, endpoint.access_key, endpoint.secret_key)

    from hypercorn.asyncio import serve

    from asyncjobs.local.engine import Engine
    from asyncjobs.local.guard import LoopbackOnly
    from asyncjobs.local.ports import hypercorn_config

    presence = Presence(paths, lock)
    engine = Engine(paths, ports, endpoint, presence, docker_env)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, engine.request_stop)
    app: Any = LoopbackOnly(engine.gateway, allow_foreign_sites=False)
    started = asyncio.create_task(_start(engine, functools.partial(presence.announce, endpoint, port)))
    try:
        await serve(app, hypercorn_config(listener), shutdown_trigger=engine.stopped)
    finally:
        started.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await started
        presence.withdraw()


async def _start(engine: Engine, announce: functools.partial[None]) -> None:
    await engine.emulator_ready()
    # What was imported stays; the collector need not look at it again and again.
    gc.freeze()
    try:
        await engine.start()
    except Exception:
        # Ends the process, so that the command that started it reads this instead of waiting.
        logging.exception("the engine could not start")
        engine.request_stop()
        return
    announce()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="asyncjobs.local.server")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--detach", action="store_true", help="leave the terminal and run in the background")
    arguments = parser.parse_args(argv)
    paths = EnginePaths(arguments.state_dir.absolute())
    paths.create()
    lock = take_lock(paths)
    if lock is None:
        sys.stderr.write("another engine runs in this state directory\n")
        return EXIT_ALREADY_RUNNING
    if arguments.detach:
        detach()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s [%(name)s] %(message)s")
    asyncio.run(run(paths, lock))
    return 0


if __name__ == "__main__":
    sys.exit(main())
