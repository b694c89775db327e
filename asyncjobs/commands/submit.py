"""`asyncjobs submit`: payloads in, job ids out; with `--wait` the results."""

from __future__ import annotations

import codecs
import mimetypes
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from asyncjobs.client import TERMINAL, JobsClient
from asyncjobs.commands.session import Session
from asyncjobs.console import jobs as show
from asyncjobs.errors import UsageError
from asyncjobs.jobs import ids

BINARY = "application/octet-stream"
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;\s*[\w-]+=[\w.+-]+)*\Z", re.ASCII)
TEXT = "text/plain"
_CHUNK = 1024 * 1024


def run(
    session: Session,
    *,
    files: Sequence[str],
    content_type: str | None,
    job_id: str | None,
    wait: bool,
    follow: bool,
    timeout: float | None,
) -> None:
    """Submit each file, in order; "-" is standard input.

    Raises:
        JobFailedError: With `wait` or `follow`: one of them failed or was cancelled.
    """
    if job_id is not None:
        _check_id(job_id, files)
    check_type(content_type)
    submitted = []
    with opened(files) as payloads:  # all of them first: a typing error submits nothing
        client = session.client(upload=partial(_upload, session))
        for name, payload in zip(files, payloads, strict=True):
            kind = content_type or guess_type(name, payload)
            submitted.append(client.submit(payload, content_type=kind, job_id=job_id))
            if not wait:
                _show_id(session, submitted[-1])
            elif not session.output.as_json:
                session.output.say(f"{name}: submitted as {submitted[-1]}")
    if wait or follow:
        _finish(session, client, submitted, show_results=wait, show_changes=follow, timeout=timeout)


def _upload(session: Session, file: Path, job_id: str, content_type: str) -> None:
    # Imported here: only this way does a submission need boto3.
    from asyncjobs.commands import upload

    upload.submit(session, file, job_id, content_type)


def guess_type(name: str, payload: Path) -> str:
    """The type of a payload: by the file's name, but text only when it really is UTF-8 text.

    What is not goes as bytes, because the API takes text types as UTF-8 and refuses what SQS cannot carry as text.
    """
    guessed = mimetypes.guess_type(name, strict=False)[0] or ""
    if guessed and not _is_texty(guessed):
        return guessed if guessed in _BINARY_TYPES else BINARY
    if not _is_sendable_text(payload):
        return BINARY
    return guessed if guessed in _TEXT_TYPES else TEXT


_TEXT_TYPES = {
    "application/json",
    "text/csv",
    "text/html",
    "text/plain",
    "text/xml",
    "application/xml",
    "text/markdown",
}
_BINARY_TYPES = {"application/pdf", "application/zip", "image/png", "image/jpeg"}


def _is_texty(kind: str) -> bool:
    return kind.startswith("text/") or kind in _TEXT_TYPES


# SQS takes tab, line feed and carriage return, and no other control characters; U+FFFE and U+FFFF neither.
_REFUSED = [*(chr(code) for code in range(32) if code not in (9, 10, 13)), "\ufffd", "\ufffe", "\uffff"]


def _is_sendable_text(payload: Path) -> bool:
    try:
        with payload.open("rb") as file:
            texts = codecs.iterdecode(iter(partial(file.read, _CHUNK), b""), "utf-8")
            return not any(character in text for text in texts for character in _REFUSED)
    except UnicodeDecodeError:
        return False


def _check_id(job_id: str, files: Sequence[str]) -> None:
    if len(files) > 1:
        raise UsageError("--id names one job, and there are several files.")
    if not ids.is_well_formed(job_id):
        raise UsageError(
            f"--id {job_id} is no job id.",
            why="It is the epoch time in milliseconds (13 digits), a hyphen, and 1 to 64 of A-Za-z0-9._-",
        )


def check_type(content_type: str | None) -> None:
    """Raises UsageError for what is no content type."""
    if content_type is not None and not _TYPE.match(content_type):
        raise UsageError(f"--content-type {content_type!r} is no content type.", hint="For example text/plain.")


@contextmanager
def opened(files: Sequence[str]) -> Iterator[list[Path]]:
    """Files to submit; "-" is standard input. It and other streams are temporary files as long as this lasts.

    Raises:
        UsageError: For one that cannot be submitted.
    """
    if list(files).count("-") > 1:
        raise UsageError("Standard input (-) can be submitted once.")
    with ExitStack() as stack:
        payloads = [_opened(name, stack) for name in files]
        if empty := [name for name, payload in zip(files, payloads, strict=True) if not payload.stat().st_size]:
            raise UsageError(
                f"{', '.join(empty)}: nothing in it.", why="A job needs a payload; the queue takes none that is empty."
            )
        yield payloads


def _opened(name: str, stack: ExitStack) -> Path:
    try:
        if name == "-":
            return _copied(sys.stdin.buffer, stack)
        with Path(name).open("rb") as source:
            # A file that the kernel makes as it is read, as under /proc, says that it is empty.
            if Path(name).is_file() and Path(name).stat().st_size:
                return Path(name)
            return _copied(source, stack)
    except OSError as error:
        raise UsageError(f"{name} cannot be read.", why=error.strerror or str(error)) from error


def _copied(stream: IO[bytes], stack: ExitStack) -> Path:
    copy = NamedTemporaryFile(prefix="asyncjobs-")  # noqa: SIM115
    stack.enter_context(copy)
    shutil.copyfileobj(stream, copy)
    copy.flush()
    return Path(copy.name)


def _show_id(session: Session, job_id: str) -> None:
    if session.output.as_json:
        session.output.document({"jobId": job_id, "status": "QUEUED"})
    else:
        session.output.data(job_id)


def _finish(
    session: Session,
    client: JobsClient,
    submitted: Sequence[str],
    *,
    show_results: bool,
    show_changes: bool,
    timeout: float | None,
) -> None:
    failed = []
    for job_id in submitted:
        job: dict[str, Any] = {}
        for job in client.follow(job_id, timeout=timeout):
            if show_changes and session.output.as_json:
                session.output.document(job)
            elif show_changes:
                session.output.say(f"{job_id}  {show.change(job)}")
        if show_results and not (show_changes and session.output.as_json):
            _show_result(session, job)
        if job["status"] in TERMINAL - {"SUCCEEDED"}:
            failed.append(job)
    if failed:
        what = f"{len(failed)} of {len(submitted)} jobs did not succeed"
        raise show.failure(failed[0], f"{what}; {failed[0]['jobId']} is {failed[0]['status']}.")


def _show_result(session: Session, job: dict[str, Any]) -> None:
    if session.output.as_json:
        session.output.document(job)
    elif job["status"] != "SUCCEEDED":
        session.output.say(show.summary(job))
    else:
        from asyncjobs.commands import result

        result.show_result(session, job)
