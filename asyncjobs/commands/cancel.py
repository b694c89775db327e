"""`asyncjobs cancel`: a job whose result nobody wants any more."""

from __future__ import annotations

from asyncjobs.commands.session import Session


def run(session: Session, *, job_id: str) -> None:
    """Cancel a job, in the queue or at work.

    Raises:
        JobEndedError: It has succeeded or failed already.
        NotFoundError: There is no such job.
    """
    job = session.client().cancel(job_id)
    if session.output.as_json:
        session.output.document(job)
    else:
        session.output.say(f"Job {job_id} is cancelled.")
