"""`asyncjobs result`: what the handler gave back, wherever it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncjobs.commands.session import Session
from asyncjobs.console import jobs as show
from asyncjobs.errors import AsyncJobsError, UsageError

_CHUNK = 1024 * 1024


def run(session: Session, *, job_id: str, file: Path | None) -> None:
    """Print a job's result, or write it to a file.

    Raises:
        JobFailedError: The job failed or was cancelled.
        AsyncJobsError: It has not ended yet.
    """
    job = session.client().get(job_id)
    if job["status"] in ("FAILED", "CANCELLED"):
        raise show.failure(job, f"Job {job_id} has no result: it is {job['status']}.")
    if job["status"] != "SUCCEEDED":
        raise AsyncJobsError(
            f"Job {job_id} has no result yet: it is {job['status']}.",
            hint=f"Wait for it: `asyncjobs status {job_id} --follow`.",
        )
    if file is None:
        show_result(session, job)
        return
    try:
        save_result(session, job, file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written.", why=error.strerror or str(error)) from error
    if session.output.as_json:
        session.output.document({"jobId": job_id, "file": str(file)})
    else:
        session.output.say(f"Written to {file}.")


def show_result(session: Session, job: dict[str, Any]) -> None:
    """Print the result of a job that succeeded."""
    if "resultLocation" not in job:
        session.output.raw(_readable(job))
        return
    with _bucket(session, job) as (s3, where):
        for chunk in s3.get_object(**where)["Body"].iter_chunks(_CHUNK):
            session.output.raw(chunk)


def save_result(session: Session, job: dict[str, Any], file: Path) -> None:
    """Write the result of a job that succeeded to a file. Raises OSError, too."""
    if "resultLocation" not in job:
        file.write_bytes(_readable(job))
        return
    from asyncjobs.jobs.uploads import TRANSFER

    with _bucket(session, job) as (s3, where):
        # Under another name until all of it is there.
        s3.download_file(where["Bucket"], where["Key"], str(file), Config=TRANSFER)


def _readable(job: dict[str, Any]) -> bytes:
    return (show.pretty(job.get("result")) + "\n").encode()


@contextmanager
def _bucket(session: Session, job: dict[str, Any]) -> Iterator[tuple[Any, dict[str, str]]]:
    # Only here does reading a result need AWS credentials: the object is in the stack's private bucket.
    from asyncjobs.aws import translated
    from asyncjobs.commands.target import target_of_api

    bucket, key = job["resultLocation"]["bucket"], job["resultLocation"]["key"]
    target = target_of_api(session)
    with translated(f"result s3://{bucket}/{key}"):
        yield target.clients.s3, {"Bucket": bucket, "Key": key}
