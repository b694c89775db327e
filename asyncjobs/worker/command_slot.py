"""A slot that runs a program for each job: payload on standard input, result on standard output."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from asyncjobs.worker.executor import (
    Attempt,
    StartError,
    kill_tree,
    killed_by,
    oom_kills,
    prefer_for_oom,
    signal_name,
)
from asyncjobs.worker.logs import Log
from asyncjobs.worker.outcome import (
    RESULT_IN_MEMORY,
    Failed,
    Outcome,
    Stopped,
    Succeeded,
    from_value,
    rejected,
)

REJECT_EXIT = 65  # EX_DATAERR of sysexits.h
_TAIL = 2_000
_CHUNK = 1024 * 1024


class CommandSlot:
    """Exit 0 is success, 65 rejects the job for good, anything else is tried again."""

    def __init__(self, command: Sequence[str], log: Log, *, oom_kills: Callable[[], int] = oom_kills) -> None:
        self._command = list(command)
        self._oom_kills = oom_kills
        self._log = log

    def start(self) -> None:
        if shutil.which(self._command[0]) is None:
            raise StartError(f"there is no program {self._command[0]}")

    def run(self, attempt: Attempt) -> Outcome:
        directory = attempt.make_directory()
        # Not through a pipe: it may be of any size, and nobody has to hold it in memory. Hidden from a program that
        # clears its folder.
        with NamedTemporaryFile(dir=directory, prefix=".result-", delete=False) as output:
            return self._run(attempt, output) or _result(output)

    def _run(self, attempt: Attempt, output: IO[bytes]) -> Outcome | None:
        """None: it succeeded, and what it has printed is the result."""
        kills_before = self._oom_kills()
        try:
            process = self._start(attempt, output)
        except OSError as error:
            return Failed("StartError", f"{self._command[0]}: {error.strerror}")
        prefer_for_oom(process.pid)
        attempt.control.on_stop(lambda: kill_tree(process.pid))
        try:
            payload = attempt.payload if isinstance(attempt.payload, bytes) else None
            _, errors = process.communicate(payload, timeout=attempt.timeout)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            _, errors = process.communicate()
            self._log_lines(errors, attempt)
            return Failed("Timeout", f"the command ran longer than {attempt.timeout:g} s and was ended")
        finally:
            attempt.control.on_stop(None)
        self._log_lines(errors, attempt)
        if attempt.control.stopped:
            return Stopped()
        text = errors.decode("utf-8", "replace")
        return _failure(process.returncode, text, kills_before, self._oom_kills)

    def _start(self, attempt: Attempt, output: IO[bytes]) -> subprocess.Popen[bytes]:
        with ExitStack() as stack:
            payload = attempt.payload
            return subprocess.Popen(
                self._command,
                stdin=stack.enter_context(payload.open("rb")) if isinstance(payload, Path) else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, **_environment(attempt)},
            )

    def close(self) -> None:
        """Nothing is kept between jobs."""

    def _log_lines(self, errors: bytes, attempt: Attempt) -> None:
        for line in errors.decode("utf-8", "replace").splitlines():
            if line:
                self._log.info(line, jobId=attempt.job_id, attempt=attempt.attempt)


def _environment(attempt: Attempt) -> dict[str, str]:
    return {
        "ASYNCJOBS_JOB_ID": attempt.job_id,
        "ASYNCJOBS_ATTEMPT": str(attempt.attempt),
        "ASYNCJOBS_MAX_ATTEMPTS": str(attempt.max_attempts),
        "ASYNCJOBS_CONTENT_TYPE": attempt.content_type,
        "ASYNCJOBS_JOB_DIRECTORY": attempt.folder,
    }


def _failure(code: int, errors: str, kills_before: int, count: Callable[[], int]) -> Outcome | None:
    """What exit code and standard error say; None where it succeeded."""
    tail = errors.strip()[-_TAIL:]
    if code == REJECT_EXIT:
        return rejected(tail or f"the command ended with exit code {REJECT_EXIT}")
    if code < 0:
        return Failed(killed_by(-code, kills_before, count), tail or f"the command was ended by {signal_name(-code)}")
    if code:
        return Failed(f"Exit {code}", tail or f"the command ended with exit code {code}")
    return None


def _result(output: IO[bytes]) -> Outcome:
    """Standard output as JSON where it is a JSON value that can be kept, else as text, else as bytes.

    Bytes of any size; whether a text is JSON, only who has read all of it can say.
    """
    is_text, size = _is_text(output), output.seek(0, os.SEEK_END)
    if size > RESULT_IN_MEMORY and not is_text:
        return Succeeded(file=Path(output.name), content_type="application/octet-stream")
    output.seek(0)
    data = output.read()
    if not is_text:
        return Succeeded(data=data, content_type="application/octet-stream")
    text = data.decode("utf-8")
    try:
        outcome = from_value(json.loads(text))
        if isinstance(outcome, Succeeded):
            return outcome
    except (ValueError, RecursionError):
        pass
    # Also what only Python takes for JSON, like NaN.
    return from_value(text)


def _is_text(output: IO[bytes]) -> bool:
    output.seek(0)
    try:
        for _ in codecs.iterdecode(iter(partial(output.read, _CHUNK), b""), "utf-8"):
            pass
    except UnicodeDecodeError:
        return False
    return True
