"""`asyncjobs result`: what the handler gave back, wherever it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asyncjobs.commands.session import Session
from asyncjobs.console import jobs as show
from asyncjobs.errors import AsyncJobsError, UsageError


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
        file.write_bytes(_bytes(session, job))
    except OSError as error:
        raise UsageError(f"{file} cannot be written.", why=error.strerror or str(error)) from error
    if session.output.as_json:
        session.output.document({"jobId": job_id, "file": str(file)})
    else:
        session.output.say(f"Written to {file}.")


def show_result(session: Session, job: dict[str, Any]) -> None:
    """Print the result of a job that succeeded."""
    session.output.raw(_bytes(session, job))


def _bytes(session: Session, job: dict[str, Any]) -> bytes:
    if "resultLocation" in job:
        return _download(session, job["resultLocation"])
    return (show.pretty(job.get("result")) + "\n").encode()


def _download(session: Session, location: dict[str, str]) -> bytes:
    # Only here does reading a result need AWS credentials: the object is in the stack's private bucket.
    from asyncjobs.aws import translated
    from asyncjobs.commands.target import target_of_api

    target = target_of_api(session)
    with translated(f"result s3://{location['bucket']}/{location['key']}"):
        return target.clients.s3.get_object(Bucket=location["bucket"], Key=location["key"])["Body"].read()
