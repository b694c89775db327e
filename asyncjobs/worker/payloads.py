"""Payloads and results that are too big for the record: objects in the stack's bucket."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from asyncjobs.jobs.queue import Message
from asyncjobs.jobs.record import PAYLOAD_IN_RECORD, RESULT_IN_RECORD
from asyncjobs.jobs.store import Lease, Location, NewJob, Result
from asyncjobs.worker.outcome import Succeeded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectStore(Protocol):
    def keep_payload(self, message: Message) -> NewJob: ...

    def read_payload(self, payload: str | bytes | Location) -> bytes: ...

    def keep_result(self, lease: Lease, outcome: Succeeded) -> Result: ...


class S3ObjectStore:
    """Keeps small things in the record and big ones in a bucket."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def keep_payload(self, message: Message) -> NewJob:
        """The job to claim: with its payload, or with where that now is.

        The object is there before the claim points at it. Its key carries its content: a duplicate message writes the
        same bytes again, and one with another payload does not touch them.
        """
        data = message.payload.encode() if isinstance(message.payload, str) else message.payload
        if len(data) <= PAYLOAD_IN_RECORD:
            return NewJob(message.job_id, message.content_type, message.payload)
        location = Location(self._bucket, f"payloads/{message.job_id}/{hashlib.sha256(data).hexdigest()}")
        self._client.put_object(Bucket=self._bucket, Key=location.key, Body=data, ContentType=message.content_type)
        return NewJob(message.job_id, message.content_type, location)

    def read_payload(self, payload: str | bytes | Location) -> bytes:
        if isinstance(payload, Location):
            answer = self._client.get_object(Bucket=payload.bucket, Key=payload.key)
            with closing(answer["Body"]) as body:
                return body.read()
        return payload.encode() if isinstance(payload, str) else payload

    def keep_result(self, lease: Lease, outcome: Succeeded) -> Result:
        """The result as the record holds it.

        The key carries the fencing token, so a worker that lost its lease cannot touch the winner's object; what it
        leaves behind expires with the bucket's lifecycle.
        """
        if outcome.json_text is not None and len(outcome.json_text.encode()) <= RESULT_IN_RECORD:
            return Result(json_text=outcome.json_text)
        location = Location(self._bucket, f"results/{lease.job_id}/{lease.generation}-{lease.token}")
        settings = {"ContentType": outcome.content_type}
        if outcome.file is not None:
            # Streams, in parts where the file is big.
            self._client.upload_file(str(outcome.file), location.bucket, location.key, ExtraArgs=settings)
        else:
            data = outcome.data if outcome.data is not None else (outcome.json_text or "null").encode()
            self._client.put_object(
                Bucket=location.bucket, Key=location.key, Body=data, ContentType=outcome.content_type
            )
        return Result(location=location)
