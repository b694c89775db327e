"""What `asyncjobs submit` does with a payload that no message can carry: it goes into the stack's bucket."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncjobs.aws import translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, target_of_api
from asyncjobs.console.progress import Display
from asyncjobs.errors import ApiError, CredentialsError
from asyncjobs.jobs.uploads import Uploads
from asyncjobs.progress import Event

_WHY = "A message takes 1 MiB, so the payload goes into the stack's bucket."


def submit(session: Session, file: Path, job_id: str, content_type: str) -> None:
    """Upload it and queue its job.

    Raises:
        ApiError: Only a URL is known, and not of which stack.
        CredentialsError: No usable credentials of the stack's account.
        NotFoundError: There is no such stack.
    """
    size = file.stat().st_size
    target = _target(session, size)
    names, clients = target.names, target.clients
    uploads = Uploads(clients.s3, clients.sqs, bucket=names.bucket, queue=names.queue, account=names.account)
    with translated(f"payload of {job_id}"), _shown(session, size) as on_sent:
        uploads.submit(file, job_id=job_id, content_type=content_type, on_sent=on_sent)


def _target(session: Session, size: int) -> Target:
    url = session.env.get("ASYNCJOBS_API_URL", "")
    if url and not session.names_stack and session.state.stack_at(url) is None:
        raise ApiError(
            f"The payload is too large for the API: {size:,} bytes.",
            status=413,
            code="PayloadTooLarge",
            why=f"{_WHY} That takes AWS credentials, and ASYNCJOBS_API_URL does not say which stack it is.",
            hint="Name the stack with `--stack` and its region with `--region`, or submit a smaller file.",
        )
    try:
        return target_of_api(session)
    except CredentialsError as error:
        raise CredentialsError(
            f"The payload is too large for the API: {size:,} bytes.",
            why=f"{_WHY} {error.what[:1].upper()}{error.what[1:]}",
            hint=error.hint,
        ) from error


@contextmanager
def _shown(session: Session, size: int) -> Iterator[Callable[[int], None]]:
    """How far the upload is, to a person at a terminal."""
    display = Display(session.output)
    lock, sent = threading.Lock(), 0

    def on_sent(count: int) -> None:
        nonlocal sent
        with lock:
            sent += count
            # The part that failed and is sent again counts backwards.
            display.emit(Event("upload", "waiting", f"{_megabytes(sent)} of {_megabytes(size)} MB"))

    if not session.output.live:
        yield lambda _: None
        return
    with display.shown():
        yield on_sent
        display.emit(Event("upload", "done", f"{_megabytes(size)} MB"))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}"
