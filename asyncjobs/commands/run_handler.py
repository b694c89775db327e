"""`asyncjobs run-handler`: the project's handler or command, once, on a file, with nothing around it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from asyncjobs.commands.project import load_config
from asyncjobs.commands.session import Session
from asyncjobs.commands.submit import check_type, guess_type, opened
from asyncjobs.config import Worker
from asyncjobs.console import jobs as show
from asyncjobs.console.output import Output, clean
from asyncjobs.errors import ConfigError, JobFailedError, UsageError
from asyncjobs.jobs import ids
from asyncjobs.worker import thread_output
from asyncjobs.worker.command_slot import CommandSlot
from asyncjobs.worker.executor import Attempt, Control, InThread, Slot, StartError
from asyncjobs.worker.job import PAYLOAD_FILE, PAYLOAD_IN_MEMORY
from asyncjobs.worker.logs import Log
from asyncjobs.worker.outcome import Failed, Outcome, Stopped, Succeeded
from asyncjobs.worker.process_slot import ProcessSlot
from asyncjobs.worker.thread_slot import HandlerLoop, ThreadSlot

SHOWN_EVERY = 0.5  # seconds between two lines of progress, as a worker writes it


def run(session: Session, *, file: str, content_type: str | None, result: Path | None) -> None:
    """Run it, and print its result.

    Raises:
        ConfigError: There is nothing to run, or it cannot be started.
        JobFailedError: It failed.
    """
    check_type(content_type)
    if result is not None and not result.parent.is_dir():
        raise UsageError(f"{result} cannot be written.", why=f"There is no folder {result.parent}.")
    worker = load_config(session).worker
    os.environ.update(worker.env)  # as a task has it; the handler's process inherits it
    progress = ProgressLines(session.output)
    folder = TemporaryDirectory(prefix="asyncjobs-", ignore_cleanup_errors=True)
    with opened([file]) as (payload,), folder as directory:
        attempt = Attempt(
            job_id=ids.mint(),
            attempt=1,
            max_attempts=worker.max_attempts,
            content_type=content_type or guess_type(file, payload),
            payload=b"",
            folder=str(Path(directory) / "job"),
            timeout=worker.timeout,
            on_progress=progress,
            control=Control(),
        )
        attempt.payload = _payload(payload, attempt)
        try:
            outcome = asyncio.run(_in_slot(_slot(worker, PersonsLog(session.output)), attempt))
        except StartError as error:
            raise ConfigError("The handler cannot be run.", why=str(error).strip()) from error
        progress.end()
        _show(session, attempt, outcome, result)


def _payload(file: Path, attempt: Attempt) -> bytes | Path:
    """As a worker hands it over; the handler's file is not the person's own."""
    if file.stat().st_size <= PAYLOAD_IN_MEMORY:
        return file.read_bytes()
    return Path(shutil.copyfile(file, attempt.make_directory() / PAYLOAD_FILE))


async def _in_slot(slot: Slot, attempt: Attempt) -> Outcome:
    try:
        await slot.start()
        return await slot.run(attempt)
    finally:
        # After a Ctrl-C it is still at work, with all that it has started.
        attempt.control.stop()
        await slot.close()


def _slot(worker: Worker, log: Log) -> Slot:
    """What a worker of this configuration has `concurrency` of."""
    if worker.command:
        return InThread(CommandSlot(worker.command, log))
    handler = worker.handler or ""
    if worker.isolation == "process":
        return InThread(ProcessSlot(handler, log))
    thread_output.install(log)
    return ThreadSlot(handler, HandlerLoop())


class PersonsLog(Log):
    """What the handler prints and logs, as lines to the person."""

    def __init__(self, output: Output) -> None:
        super().__init__(output.stderr)
        self._output = output

    def write(self, level: str, message: str, **fields: Any) -> None:
        self._output.say(clean(message))


class ProgressLines:
    """Progress as lines, twice a second at most: a handler may report it as often as it likes."""

    def __init__(self, output: Output, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._next = 0.0
        self._pending = ""
        self._last = ""

    def __call__(self, fraction: float, message: str) -> None:
        self._pending = clean(f"{fraction * 100:.0f} %  {message}".rstrip())
        if self._clock() >= self._next:
            self.end()

    def end(self) -> None:
        """Say the newest one, if that is not said yet."""
        if self._pending and self._pending != self._last:
            self._output.say(self._pending)
            self._last, self._next = self._pending, self._clock() + SHOWN_EVERY
        self._pending = ""


def _show(session: Session, attempt: Attempt, outcome: Outcome, file: Path | None) -> None:
    job = {"jobId": attempt.job_id, "status": "SUCCEEDED", "attempt": 1, "maxAttempts": attempt.max_attempts}
    if isinstance(outcome, Failed | Stopped):
        raise _failure(session, job, outcome, attempt)
    if outcome.is_value and outcome.file is not None:
        outcome = Succeeded(json_text=outcome.file.read_text(encoding="utf-8"))
    data = _bytes(outcome)
    if file is not None:
        _write(file, data)
        job["file"] = str(file)
    elif outcome.json_text is not None:
        job["result"] = json.loads(outcome.json_text)
    if session.output.as_json:
        session.output.document({**job, "contentType": outcome.content_type, "size": len(data)})
    elif file is not None:
        session.output.say(f"Written to {file}.")
    else:
        session.output.raw(data)


def _failure(session: Session, job: dict[str, Any], outcome: Failed | Stopped, attempt: Attempt) -> JobFailedError:
    if isinstance(outcome, Stopped):
        return JobFailedError("The handler was ended.")
    error = {"type": outcome.error_type, "message": outcome.message}
    if outcome.detail:
        session.output.say(clean(outcome.detail.rstrip()))
    if session.output.as_json:
        session.output.document({**job, "status": "FAILED", "error": error})
    again = f"A worker would try it again, {attempt.max_attempts} times in all."
    return JobFailedError(
        "The handler rejected the payload." if outcome.final else "The handler failed.",
        why=f"{outcome.error_type}: {outcome.message}",
        hint="" if outcome.final or attempt.max_attempts == 1 else again,
    )


def _bytes(outcome: Succeeded) -> bytes:
    if outcome.json_text is not None:
        return (show.pretty(json.loads(outcome.json_text)) + "\n").encode()
    return outcome.file.read_bytes() if outcome.file is not None else outcome.data or b""


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{file} cannot be written.", why=error.strerror or str(error)) from error
