"""`python -m asyncjobs.worker`: what a task runs."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
import sys
import traceback

from asyncjobs.errors import ExitCode
from asyncjobs.worker.build import build
from asyncjobs.worker.executor import StartError
from asyncjobs.worker.logs import Log
from asyncjobs.worker.settings import Settings, SettingsError
from asyncjobs.worker.workspace import NoWorkspaceError


def main() -> int:
    # What reads the log takes it for JSON, and that is UTF-8 whatever the locale.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    log = Log()
    try:
        settings = Settings.of(os.environ)
    except SettingsError as error:
        for line in str(error).splitlines():
            log.error(line)
        return ExitCode.CONFIG
    try:
        asyncio.run(_work(settings, log))
    except StartError:
        return ExitCode.CONFIG
    except NoWorkspaceError as error:
        log.error(str(error))
        return ExitCode.CONFIG
    except Exception as error:
        log.error(f"the worker cannot go on: {error!r}", traceback=traceback.format_exc())
        return ExitCode.UNEXPECTED
    return ExitCode.OK


async def _work(settings: Settings, log: Log) -> None:
    async with build(settings, os.environ, log) as worker:
        # Explicitly, because as PID 1 a process has no default handlers.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        _collect_seldom()
        log.write_in_turns_of(asyncio.get_running_loop())
        try:
            await worker.run()
        finally:
            log.write_in_turns_of(None)


def _collect_seldom() -> None:
    """Jobs leave next to no cycles, and looking for some after each 700 objects takes a tenth of the time or more."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


if __name__ == "__main__":
    sys.exit(main())
