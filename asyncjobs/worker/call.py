"""Finding and calling the user's function, the same in a child process and in a thread."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncjobs.worker.executor import StartError
from asyncjobs.worker.job import Job, Reject
from asyncjobs.worker.outcome import Failed, Outcome, from_value, rejected

Handler = Callable[[Job], Any]


def find_handler(name: str) -> Handler:
    """The function that "module:function" names, with the working directory on the path.

    Raises:
        StartError: It cannot be imported, is not there, or is no function of one argument.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        raise StartError(f"importing {module_name} failed:\n{traceback.format_exc()}") from error
    handler = getattr(module, function_name, None)
    if not callable(handler):
        raise StartError(f"{module_name} has no function {function_name}")
    return handler  # type: ignore[no-any-return]


def call_handler(handler: Handler, job: Job) -> Outcome:
    """Call it, and await what it returns if it is a coroutine."""
    try:
        value = handler(job)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
        return from_value(value)
    except BaseException as error:
        return _failure(error)


async def call_async_handler(handler: Handler, job: Job) -> Outcome:
    """Await it on the running loop."""
    try:
        return from_value(await handler(job))
    except BaseException as error:
        return _failure(error)


def _failure(error: BaseException) -> Failed:
    if isinstance(error, Reject):
        return rejected(str(error) or "rejected by the handler")
    if isinstance(error, SystemExit):
        return Failed("SystemExit", f"the handler called sys.exit({error.code!r})")
    kind = "OutOfMemory" if isinstance(error, MemoryError) else type(error).__name__
    return Failed(kind, str(error), "".join(traceback.format_exception(error)))


async def _awaited(value: Any) -> Any:
    return await value
