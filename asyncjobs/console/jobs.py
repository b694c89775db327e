"""How a job looks to a person."""

from __future__ import annotations

import json
from typing import Any

from asyncjobs.console.output import clean
from asyncjobs.errors import JobFailedError

Job = dict[str, Any]


def summary(job: Job) -> str:
    """A block of lines with everything known of the job."""
    lines = [("job", job["jobId"]), ("status", _status(job))]
    for label, key in (("submitted", "submittedAt"), ("started", "startedAt"), ("finished", "finishedAt")):
        if key in job:
            lines.append((label, job[key]))
    if "progress" in job and job["status"] == "RUNNING":
        lines.append(("progress", _progress(job["progress"])))
    if "error" in job:
        lines.append(("error", f"{job['error'].get('type', '')}: {job['error'].get('message', '')}"))
    if "resultLocation" in job:
        location = job["resultLocation"]
        lines.append(("result", f"s3://{location['bucket']}/{location['key']} (`asyncjobs result {job['jobId']}`)"))
    if "result" in job:
        lines.append(("result", pretty(job["result"])))
    return clean("\n".join(f"{label:<10} {value}" for label, value in lines))


def change(job: Job) -> str:
    """One line for what is new: the state, or how far it is."""
    if job["status"] == "RUNNING" and "progress" in job:
        return clean(f"RUNNING  {_progress(job['progress'])}")
    text = _status(job)
    if "error" in job:
        text += f"  {job['error'].get('type', '')}: {job['error'].get('message', '')}"
    return clean(text)


def failure(job: Job, what: str) -> JobFailedError:
    """The error a command ends with when this job failed or was cancelled."""
    error = job.get("error", {})
    return JobFailedError(
        what,
        why=f"{error.get('type', '')}: {error.get('message', '')}".strip(": "),
        hint=f"`asyncjobs logs {job['jobId']}` shows what it printed.",
    )


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _status(job: Job) -> str:
    attempts = f" (attempt {job['attempt']} of {job['maxAttempts']})" if job.get("attempt") else ""
    return f"{job['status']}{attempts}"


def _progress(progress: Job) -> str:
    percent = f"{float(progress.get('fraction', 0)) * 100:.0f} %"
    message = progress.get("message", "")
    return f"{percent}  {message}".rstrip()
