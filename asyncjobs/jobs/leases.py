"""A job as a worker has it: claimed under a lease, and what may come of a claim."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Location:
    """An object in S3."""

    bucket: str
    key: str


def payload_prefix(job_id: str) -> str:
    """Where in the bucket a job's payloads are.

    The rest of a key is the payload's SHA-256, so that no object is ever overwritten with another content.
    """
    return f"payloads/{job_id}/"


@dataclass(slots=True)
class NewJob:
    """What was submitted, as a message or the record has it.

    Args:
        payload: Text or bytes small enough for the record, or where the payload is.
    """

    job_id: str
    content_type: str
    payload: str | bytes | Location


@dataclass(slots=True)
class Lease:
    """A worker's right to a job.

    Args:
        token: The fencing token; fresh at each claim.
        attempt: Counts from 1.
    """

    job_id: str
    token: str
    attempt: int
    generation: int


@dataclass(slots=True)
class Claimed:
    """The job is ours to run.

    Args:
        job: As its record has it: what came with its first message, whatever later ones of the same id say.
    """

    lease: Lease
    job: NewJob


@dataclass(frozen=True)
class AlreadyEnded:
    """Nothing to do: the message is a duplicate of a job that has ended."""

    status: str


@dataclass(frozen=True)
class Busy:
    """Another worker holds the lease until this epoch time in milliseconds."""

    until_ms: int


Claim = Claimed | AlreadyEnded | Busy


class LeaseLostError(Exception):
    """The record no longer carries our token: another worker has the job, or it was cancelled."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the lease is lost; the job is {status}")
        self.status = status


@dataclass(slots=True)
class Result:
    """A handler's result: JSON text in the record, or where it is."""

    json_text: str | None = None
    location: Location | None = None


class JobStore(Protocol):
    """Every method that takes a lease raises LeaseLostError when that is no longer ours."""

    async def claim(self, job: NewJob, *, generation: int = 1, likely_new: bool = False) -> Claim: ...

    def heartbeat(self, lease: Lease) -> Awaitable[None]: ...

    def progress(self, lease: Lease, fraction: float, message: str) -> Awaitable[None]: ...

    def succeed(self, lease: Lease, result: Result, message: str = "") -> Awaitable[None]: ...

    def fail(self, lease: Lease, error_type: str, message: str) -> Awaitable[None]: ...

    def retry_later(self, lease: Lease, error_type: str, message: str) -> Awaitable[None]: ...

    def hand_back(self, lease: Lease) -> Awaitable[None]: ...

    async def lose(self, job: NewJob, *, generation: int = 1) -> AlreadyEnded | Busy: ...
