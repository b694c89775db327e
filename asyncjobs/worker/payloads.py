"""Payloads and results that are too big for the record: objects in the stack's bucket."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from asyncjobs.jobs.leases import Lease, Location, NewJob, Result, payload_prefix
from asyncjobs.jobs.queue import Message
from asyncjobs.jobs.record import PAYLOAD_IN_RECORD, RESULT_IN_RECORD
from asyncjobs.jobs.uploads import CONNECTIONS, TRANSFER
from asyncjobs.worker.job import PAYLOAD_FILE, PAYLOAD_IN_MEMORY
from asyncjobs.worker.outcome import Succeeded

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


T = TypeVar("T")
_AT_ONCE = 8
MOST_CONNECTIONS = _AT_ONCE * CONNECTIONS
_ONE_PUT = 8 * 1024 * 1024  # bytes; more goes in parts, and beyond 5 GB it must


class ObjectStore(Protocol):
    async def keep_payload(self, message: Message) -> NewJob: ...

    async def read_payload(
        self, payload: str | bytes | Location, make_directory: Callable[[], Path]
    ) -> bytes | Path: ...

    async def keep_result(self, lease: Lease, outcome: Succeeded) -> Result: ...


class S3ObjectStore:
    """Keeps small things in the record and big ones in a bucket.

    Args:
        make_client: Called when the first big thing comes: a client takes 10 MB, and many a worker needs none.
    """

    def __init__(self, make_client: Callable[[], S3Client], bucket: str) -> None:
        self._make_client = make_client
        self._bucket = bucket
        self._made: S3Client | None = None
        self._lock = threading.Lock()
        # Threads of its own: a slow upload must not keep what the leases need from the loop's.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3")

    @property
    def _client(self) -> S3Client:
        with self._lock:
            if self._made is None:
                self._made = self._make_client()
            return self._made

    async def keep_payload(self, message: Message) -> NewJob:
        """The job to claim: with its payload, or with where that now is.

        The object is there before the claim points at it. Its key carries its content: a duplicate message writes the
        same bytes again, and one with another payload does not touch them.
        """
        if isinstance(message.payload, Location):
            return NewJob(message.job_id, message.content_type, message.payload)
        data = message.payload.encode() if isinstance(message.payload, str) else message.payload
        if len(data) <= PAYLOAD_IN_RECORD:
            return NewJob(message.job_id, message.content_type, message.payload)
        location = Location(self._bucket, payload_prefix(message.job_id) + hashlib.sha256(data).hexdigest())
        await self._put(location, data, message.content_type)
        return NewJob(message.job_id, message.content_type, location)

    async def read_payload(self, payload: str | bytes | Location, make_directory: Callable[[], Path]) -> bytes | Path:
        """The payload, as a file in the folder if it is a big one.

        Raises:
            ClientError, BotoCoreError, Boto3Error: It is not there, or cannot be read.
            OSError: The file cannot be written.
        """
        if isinstance(payload, Location):
            return await self._in_thread(self._read, payload, make_directory)
        return payload.encode() if isinstance(payload, str) else payload

    async def keep_result(self, lease: Lease, outcome: Succeeded) -> Result:
        """The result as the record holds it.

        The key carries the fencing token, so a worker that lost its lease cannot touch the winner's object; what it
        leaves behind expires with the bucket's lifecycle.
        """
        if outcome.json_text is not None and len(outcome.json_text.encode()) <= RESULT_IN_RECORD:
            return Result(json_text=outcome.json_text)
        location = Location(self._bucket, f"results/{lease.job_id}/{lease.generation}-{lease.token}")
        if outcome.file is not None:
            await self._in_thread(self._upload, outcome.file, location, outcome.content_type)
        else:
            data = outcome.data if outcome.data is not None else (outcome.json_text or "null").encode()
            await self._put(location, data, outcome.content_type)
        return Result(location=location)

    async def _put(self, location: Location, data: bytes, content_type: str) -> None:
        def put() -> None:
            at, extra = (location.bucket, location.key), {"ContentType": content_type}
            if len(data) > _ONE_PUT:
                self._client.upload_fileobj(BytesIO(data), *at, ExtraArgs=extra, Config=TRANSFER)
            else:
                self._client.put_object(Bucket=location.bucket, Key=location.key, Body=data, ContentType=content_type)

        await self._in_thread(put)

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def _upload(self, file: Path, location: Location, content_type: str) -> None:
        # Streams, in parts where the file is big.
        settings = {"ContentType": content_type}
        self._client.upload_file(str(file), location.bucket, location.key, ExtraArgs=settings, Config=TRANSFER)

    def _read(self, location: Location, make_directory: Callable[[], Path]) -> bytes | Path:
        answer = self._client.get_object(Bucket=location.bucket, Key=location.key)
        with closing(answer["Body"]) as body:
            if answer["ContentLength"] <= PAYLOAD_IN_MEMORY:
                return body.read()
        # Asked for anew, because this way it comes in parts, each of which is tried again by itself.
        file = make_directory() / PAYLOAD_FILE
        self._client.download_file(location.bucket, location.key, str(file), Config=TRANSFER)
        return file
