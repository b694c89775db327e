"""`asyncjobs retry`: a job that has ended, run once more."""

from __future__ import annotations

from asyncjobs.aws import translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, no_stack, target_of_api
from asyncjobs.config import Config
from asyncjobs.errors import AsyncJobsError, NotFoundError
from asyncjobs.jobs import ids
from asyncjobs.jobs.control import JobControl, Unchanged


def run(session: Session, *, job_id: str) -> None:
    """Queue a job that has ended, with the payload that it had.

    Raises:
        NotFoundError: There is no such stack or job.
        AsyncJobsError: It has not ended, or its payload was not kept.
    """
    target = target_of_api(session)
    with translated(f"job {job_id}"):
        # A malformed id is none of a job, and none that the table would have to be asked for.
        done = _control(target).retry(job_id) if ids.is_well_formed(job_id) else Unchanged({}, "")
    if isinstance(done, Unchanged) and not done.record:
        raise NotFoundError(
            f"There is no job {job_id} to run again.",
            why="It was never submitted, no worker has seen it yet, or its result has expired.",
        )
    if isinstance(done, Unchanged):
        raise AsyncJobsError(
            f"Job {job_id} cannot be run again: {done.why}.",
            hint=f"`asyncjobs status {job_id}` shows it; what has not ended needs no retry.",
        )
    if session.output.as_json:
        session.output.document({"jobId": job_id, "status": done.record["status"]["S"]})
    else:
        session.output.say(f"Job {job_id} is queued again; `asyncjobs status {job_id} --follow` shows how it goes.")


def _control(target: Target) -> JobControl:
    clients, names = target.clients, target.names
    try:
        url = clients.sqs.get_queue_url(QueueName=names.queue)["QueueUrl"]
    except clients.sqs.exceptions.QueueDoesNotExist:
        raise no_stack(target) from None
    # Only until a worker claims it: each of its writes says anew how long the record is kept.
    days = Config().retention.result_days
    return JobControl(clients.dynamodb, clients.sqs, clients.s3, table=names.table, queue_url=url, result_days=days)
