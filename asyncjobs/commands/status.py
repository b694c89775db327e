"""`asyncjobs status`: the job now, or followed to its end."""

from __future__ import annotations

from typing import Any

from asyncjobs.client import TERMINAL
from asyncjobs.commands.session import Session
from asyncjobs.console import jobs as show


def run(session: Session, *, job_id: str, follow: bool, timeout: float | None) -> None:
    """Show a job.

    Raises:
        JobFailedError: Followed, and it failed or was cancelled.
        TimedOutError: Followed, and it had not ended by `timeout` seconds.
    """
    client = session.client()
    if not follow:
        job = client.get(job_id)
        if session.output.as_json:
            session.output.document(job)
        else:
            session.output.data(show.summary(job))
        return
    job = {}
    for job in client.follow(job_id, timeout=timeout):
        _show_change(session, job)
    if not session.output.as_json:
        session.output.data(show.summary(job))
    if job["status"] in TERMINAL - {"SUCCEEDED"}:
        raise show.failure(job, f"Job {job_id} is {job['status']}.")


def _show_change(session: Session, job: dict[str, Any]) -> None:
    if session.output.as_json:
        session.output.document(job)
    else:
        session.output.data(show.change(job))
