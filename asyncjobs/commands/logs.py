"""`asyncjobs logs`: what the workers printed, all of it or of one job."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from asyncjobs.aws import Clients, translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import existing_target
from asyncjobs.console.output import clean
from asyncjobs.errors import NotFoundError, UsageError
from asyncjobs.jobs import ids

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_POLL_SECONDS = 1.0
# Events may become readable a little late and out of order: each look starts before the last one ended.
_OVERLAP_MS = 10_000


def run(session: Session, *, job_id: str | None, follow: bool, since: str) -> None:
    """Print log lines, oldest first; with `follow` until interrupted.

    Raises:
        NotFoundError: There is no such stack.
        UsageError: `since` or the job id makes no sense.
    """
    seconds = parse_since(since)
    if job_id is not None and not ids.is_well_formed(job_id):
        raise UsageError(f"{job_id} is no job id.", hint="`asyncjobs submit` prints the id of what it submitted.")
    target = existing_target(session)
    start = max(0, int((time.time() - seconds) * 1000))
    if job_id is not None:
        start = ids.submitted_ms(job_id)  # a job's lines cannot be older than the job, whatever `since` says
    reader = LogReader(target.clients, target.names.log_group, job_id)
    with translated(f"log group {target.names.log_group}"):
        while True:
            for event in reader.read(start):
                line = event if session.output.as_json else readable(event)
                if line is not None:
                    session.output.data(line)
            if not follow:
                return
            start = max(start, reader.latest - _OVERLAP_MS)
            time.sleep(_POLL_SECONDS)


def parse_since(text: str) -> int:
    """ "90s", "10m", "2h", "1d" in seconds."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if match is None:
        raise UsageError(f"--since {text} is no length of time.", hint="For example 90s, 10m, 2h or 1d.")
    return int(match[1]) * _UNITS[match[2]]


class LogReader:
    """Reads new events of a log group, each once."""

    def __init__(self, clients: Clients, group: str, job_id: str | None) -> None:
        self._logs = clients.logs
        self._group = group
        self._job_id = job_id
        self._seen: set[str] = set()
        self.latest = 0

    def read(self, start_ms: int) -> list[str]:
        """The lines since `start_ms` that were not returned before."""
        extra: dict[str, Any] = {}
        if self._job_id is not None:
            extra["filterPattern"] = f'{{ $.jobId = "{self._job_id}" }}'
        try:
            pages = list(
                self._logs.get_paginator("filter_log_events").paginate(
                    logGroupName=self._group, startTime=start_ms, **extra
                )
            )
        except self._logs.exceptions.ResourceNotFoundException:
            raise NotFoundError(
                f"There is no log group {self._group}.", hint="Bring the stack up with `asyncjobs up`."
            ) from None
        new = [event for page in pages for event in page["events"] if event["eventId"] not in self._seen]
        self._seen.update(event["eventId"] for event in new)
        self.latest = max([self.latest, *(event["timestamp"] for event in new)])
        return [event["message"] for event in sorted(new, key=lambda one: one["timestamp"]) if self._wanted(event)]

    def _wanted(self, event: Any) -> bool:
        return self._job_id is None or _parsed(event["message"]).get("jobId") == self._job_id


def readable(line: str) -> str | None:
    """A worker's JSON line for people; any other line as it is; None for metrics, which are for CloudWatch."""
    event = _parsed(line)
    if "_aws" in event:
        return None
    if "message" not in event:
        return clean(line.rstrip("\n"))
    parts = [event.get("time", ""), event.get("level", ""), event.get("jobId", ""), event["message"]]
    return clean("  ".join(str(part) for part in parts if part))


def _parsed(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
