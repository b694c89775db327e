"""Payloads that no message can carry: into the stack's bucket first, then a message that points at them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig

from asyncjobs.errors import NotFoundError, UsageError
from asyncjobs.jobs import ids
from asyncjobs.jobs.leases import payload_prefix
from asyncjobs.jobs.queue import NO_BODY

CONNECTIONS = 4  # of one transfer
# In parts, and never much of it in memory: parts that arrive faster than the disk takes them would fill 250 MB with
# boto3's own setting.
TRANSFER = TransferConfig(max_concurrency=CONNECTIONS, max_io_queue=16)


class Uploads:
    """Submits big payloads to one stack.

    Args:
        s3, sqs: boto3's clients.
        account: Whose the bucket is; another account's of that name gets nothing.
    """

    def __init__(self, s3: Any, sqs: Any, *, bucket: str, queue: str, account: str) -> None:
        self._s3 = s3
        self._sqs = sqs
        self._bucket = bucket
        self._queue = queue
        self._account = account

    def submit(
        self, file: Path, *, job_id: str, content_type: str, on_sent: Callable[[int], None] = lambda _: None
    ) -> None:
        """Upload a file and queue its job; done again under the same id it is the same job.

        The object's key carries its content, so that a second submission cannot change the payload of the first. An
        object whose message is never sent expires with the bucket's lifecycle.

        Args:
            job_id: Well formed, and of a time that the API would take.
            on_sent: Called by several threads with how many bytes more have been sent.

        Raises:
            NotFoundError: There is no such queue.
            UsageError: The file was written to meanwhile.
            ClientError, BotoCoreError, Boto3Error: AWS refused, or cannot be reached.
        """
        try:
            url = self._sqs.get_queue_url(QueueName=self._queue)["QueueUrl"]
        except self._sqs.exceptions.QueueDoesNotExist:
            raise NotFoundError(
                f"There is no queue {self._queue} in account {self._account}, so no such stack either.",
                hint="Bring it up with `asyncjobs up`, or name another stack or region.",
            ) from None
        before = file.stat()
        with file.open("rb") as content:
            key = payload_prefix(job_id) + hashlib.file_digest(content, "sha256").hexdigest()
        settings = {"ContentType": content_type, "ExpectedBucketOwner": self._account}
        self._s3.upload_file(str(file), self._bucket, key, ExtraArgs=settings, Config=TRANSFER, Callback=on_sent)
        after = file.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UsageError(f"{file} was written to while it was read.", hint="Submit it when it is complete.")
        attributes = {
            "jobId": ("String", job_id),
            "contentType": ("String", content_type),
            "submittedAt": ("Number", str(ids.submitted_ms(job_id))),
            "payloadKey": ("String", key),
        }
        self._sqs.send_message(
            QueueUrl=url,
            MessageBody=NO_BODY,
            MessageAttributes={
                name: {"DataType": kind, "StringValue": value} for name, (kind, value) in attributes.items()
            },
        )
