"""The bucket in memory."""

from __future__ import annotations

import hashlib

from botocore.exceptions import ClientError

from asyncjobs.jobs.leases import Lease, Location, NewJob, Result
from asyncjobs.jobs.queue import Message
from asyncjobs.jobs.record import PAYLOAD_IN_RECORD
from asyncjobs.worker.outcome import Succeeded


class InMemoryObjects:
    """An ObjectStore that keeps big payloads, and all results that are not JSON, in `kept`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def keep_payload(self, message: Message) -> NewJob:
        data = message.payload.encode() if isinstance(message.payload, str) else message.payload
        if len(data) <= PAYLOAD_IN_RECORD:
            return NewJob(message.job_id, message.content_type, message.payload)
        key = f"payloads/{message.job_id}/{hashlib.sha256(data).hexdigest()}"
        self.kept[key] = data
        return NewJob(message.job_id, message.content_type, Location("bucket", key))

    async def read_payload(self, payload: str | bytes | Location) -> bytes:
        if isinstance(payload, Location):
            if payload.key not in self.kept:
                raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "there is none"}}, "GetObject")
            return self.kept[payload.key]
        return payload.encode() if isinstance(payload, str) else payload

    async def keep_result(self, lease: Lease, outcome: Succeeded) -> Result:
        if outcome.json_text is not None:
            return Result(json_text=outcome.json_text)
        key = f"results/{lease.job_id}/{lease.generation}-{lease.token}"
        self.kept[key] = outcome.file.read_bytes() if outcome.file else outcome.data or b""
        return Result(location=Location("bucket", key))
