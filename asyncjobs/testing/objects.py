"""The bucket in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from botocore.exceptions import ClientError

from asyncjobs.jobs.leases import Lease, Location, NewJob, Result, payload_prefix
from asyncjobs.jobs.queue import Message
from asyncjobs.jobs.record import PAYLOAD_IN_RECORD
from asyncjobs.worker.job import PAYLOAD_FILE, PAYLOAD_IN_MEMORY
from asyncjobs.worker.outcome import Succeeded


class InMemoryObjects:
    """An ObjectStore that keeps big payloads, and all results that are not JSON, in `kept`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def keep_payload(self, message: Message) -> NewJob:
        if isinstance(message.payload, Location):
            return NewJob(message.job_id, message.content_type, message.payload)
        data = message.payload.encode() if isinstance(message.payload, str) else message.payload
        if len(data) <= PAYLOAD_IN_RECORD:
            return NewJob(message.job_id, message.content_type, message.payload)
        key = payload_prefix(message.job_id) + hashlib.sha256(data).hexdigest()
        self.kept[key] = data
        return NewJob(message.job_id, message.content_type, Location("bucket", key))

    async def read_payload(self, payload: str | bytes | Location, make_directory: Callable[[], Path]) -> bytes | Path:
        if isinstance(payload, Location):
            if payload.key not in self.kept:
                raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "there is none"}}, "GetObject")
            data = self.kept[payload.key]
            if len(data) <= PAYLOAD_IN_MEMORY:
                return data
            file = make_directory() / PAYLOAD_FILE
            file.write_bytes(data)
            return file
        return payload.encode() if isinstance(payload, str) else payload

    async def keep_result(self, lease: Lease, outcome: Succeeded) -> Result:
        if outcome.json_text is not None:
            return Result(json_text=outcome.json_text)
        key = f"results/{lease.job_id}/{lease.generation}-{lease.token}"
        self.kept[key] = outcome.file.read_bytes() if outcome.file else outcome.data or b""
        return Result(location=Location("bucket", key))
