"""The Python client of a stack's HTTP API: all it needs is a URL and, as a rule, a key.

client = JobsClient("https://abc.execute-api.eu-west-1.amazonaws.com/v1", "the key")
job_id = client.submit(b"some text", content_type="text/plain")
job = client.wait(job_id, timeout=300)
print(job["result"])
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.util import Retry, Timeout

from asyncjobs.errors import (
    ApiError,
    CredentialsError,
    JobEndedError,
    JobFailedError,
    NotFoundError,
    TimedOutError,
    UsageError,
)
from asyncjobs.jobs import ids

Job = dict[str, Any]
# Puts a payload into the stack's bucket and queues its job: the file, the job's id, the content type.
Upload = Callable[[Path, str, str], None]
TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})

# Every request is safe to repeat: a submission is a PUT under an id of our own, and a job is cancelled once.
_RETRIED = (429, 500, 502, 503, 504)
# Of SQS, for body and attributes together; what is bigger no API of ours takes.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LARGEST_MESSAGE = 1024 * 1024
_NAME_THE_STACK = (
    'Larger ones go into the stack\'s bucket: JobsClient(url, key, stack="…"), with AWS credentials of its account.'
)
_FIRST_POLL, _LONGEST_POLL = 0.2, 3.0  # seconds


class JobsClient:
    """Submits jobs and asks for them.

    Args:
        url: Where the API's stage answers, without a slash at the end.
        key: The API key; "" for an API without one.
        retries: How often a request is repeated when the network or the API fails.
        stack: The stack's name. Payloads that no message can carry go into its bucket, with AWS credentials and a
            region as boto3 finds them.
        fetch: Reads an object of S3, given its `bucket` and `key`; boto3 does by default.
        upload: Submits such a payload in another way.
        sleep, clock: Injected in tests.

    Raises (every method):
        ApiError: The API answered with an error, or cannot be reached.
        CredentialsError: 403: no key, or a wrong one.
        NotFoundError: 404: no such job.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        retries: int = 4,
        stack: str = "",
        fetch: Callable[[Mapping[str, str]], bytes] | None = None,
        upload: Upload | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(url, key)
        self._url = url.rstrip("/")
        self._headers = {"x-api-key": key} if key else {}
        self._fetch = fetch or _fetch_from_s3
        self._upload = upload or (partial(_upload_to, stack) if stack else None)
        self._sleep = sleep
        self._clock = clock
        self._pool = urllib3.PoolManager(
            timeout=Timeout(connect=10, read=35),  # the API itself gives up after 29 s
            retries=Retry(
                total=retries,
                status_forcelist=_RETRIED,
                allowed_methods=None,
                backoff_factor=0.3,
                backoff_jitter=0.3,
                raise_on_status=False,
            ),
        )

    def submit(self, payload: bytes | Path, *, content_type: str, job_id: str | None = None) -> str:
        """Submit a payload and return the job's id.

        Sent again under the same id it is the same job, so a repeat after a network failure cannot submit twice.

        Args:
            payload: Bytes, or a file that holds them. One that no message can carry goes into the stack's bucket.
            job_id: `<13-digit epoch milliseconds>-<1 to 64 of A-Za-z0-9._->`; one is minted when None.

        Raises:
            ApiError: Among others, with `status` 413: it is too large, and there is no `stack` or `upload`.
        """
        job_id = job_id or ids.mint()
        size = payload.stat().st_size if isinstance(payload, Path) else len(payload)
        refusal = _too_large(size)
        if size <= LARGEST_MESSAGE:
            body = payload.read_bytes() if isinstance(payload, Path) else payload
            try:
                answer = self._request("PUT", job_id, body=body, headers={"content-type": content_type})
                return str(answer["jobId"])
            except ApiError as error:
                # With the job's attributes, or as base64, it is larger than it looks.
                if error.status != 413:
                    raise
                refusal = error
        if self._upload is None:
            raise refusal
        self._submit_big(self._upload, payload, content_type, job_id)
        return job_id

    def _submit_big(self, upload: Upload, payload: bytes | Path, content_type: str, job_id: str) -> None:
        try:
            # The API knows which ids it would take.
            job = self.get(job_id)
        except NotFoundError as error:
            raise ApiError(
                f"The API does not take the job id {job_id}.",
                status=400,
                code="InvalidJobId",
                why="It is malformed, from the future, or older than the queue keeps messages.",
            ) from error
        if job["status"] != "QUEUED":
            return  # sent before, and a worker has its payload
        if isinstance(payload, Path):
            upload(payload, job_id, content_type)
            return
        from tempfile import NamedTemporaryFile

        with NamedTemporaryFile(prefix="asyncjobs-") as file:
            file.write(payload)
            file.flush()
            upload(Path(file.name), job_id, content_type)

    def get(self, job_id: str) -> Job:
        """The job, as in the API's answer."""
        return self._request("GET", job_id)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended, and return it; one that is cancelled already is returned as it is.

        One that is in the queue never starts. One that runs is ended by its worker within a heartbeat, some ten
        seconds, and what its handler returns by then is discarded.

        Raises:
            JobEndedError: It has succeeded or failed.
        """
        try:
            return self._request("DELETE", job_id)
        except ApiError as error:
            if error.code != "JobAlreadyEnded":
                raise
        # Perhaps by a first try of this very call, whose answer was lost.
        job = self.get(job_id)
        if job["status"] == "CANCELLED":
            return job
        raise JobEndedError(f"Job {job_id} cannot be cancelled any more: it is {job['status']}.")

    def follow(self, job_id: str, *, timeout: float | None = None) -> Iterator[Job]:
        """The job each time it has changed, until it has ended.

        Args:
            timeout: Seconds after which to give up; None waits for ever.

        Raises:
            TimedOutError: It had not ended by then.
        """
        deadline = None if timeout is None else self._clock() + timeout
        pause, last = _FIRST_POLL, None
        while True:
            job = self.get(job_id)
            if job != last:
                yield job
                pause, last = _FIRST_POLL, job
            if job["status"] in TERMINAL:
                return
            if deadline is not None and self._clock() + pause > deadline:
                raise TimedOutError(
                    f"Job {job_id} is still {job['status']} after {timeout:g} s.",
                    hint=f"It goes on; `asyncjobs status {job_id} --follow` waits for it again.",
                )
            self._sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL)

    def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """The job once it has ended, however it ended. See `follow` for the rest."""
        *_, job = self.follow(job_id, timeout=timeout)
        return job

    def result(self, job_id: str) -> Any:
        """The result of a job that succeeded: its JSON value, or the bytes of one that is kept in S3.

        Reading those takes AWS credentials of the stack's account, as boto3 finds them.

        Raises:
            JobFailedError: It failed or was cancelled, or has not ended; `wait` for it first.
        """
        job = self.get(job_id)
        if job["status"] != "SUCCEEDED":
            error = job.get("error", {})
            raise JobFailedError(f"Job {job_id} is {job['status']}.", why=str(error.get("message", "")))
        if "resultLocation" not in job:
            return job.get("result")
        return self._fetch(job["resultLocation"])

    def _request(
        self, method: str, job_id: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Job:
        url = f"{self._url}/jobs/{quote(job_id, safe='')}"
        try:
            answer = self._pool.request(method, url, body=body, headers={**self._headers, **(headers or {})})
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(
                f"The API at {self._url} cannot be reached.",
                status=0,
                why=_root_cause(error),
                hint="`asyncjobs info` shows the stack; on this machine, `asyncjobs up --local` starts it again.",
            ) from error
        document = _json(answer.data)
        if answer.status >= 400:
            raise _error(answer.status, document, job_id)
        if document is None or "jobId" not in document:
            raise ApiError(
                f"{self._url} does not answer like an asyncjobs API.",
                status=answer.status,
                hint="Check ASYNCJOBS_API_URL: it ends with the stage's name, as `asyncjobs info` shows it.",
            )
        return document


def _too_large(size: int) -> ApiError:
    return ApiError(
        f"The payload is too large for the API: {size:,} bytes.",
        status=413,
        code="PayloadTooLarge",
        why="A message takes 1 MiB.",
        hint=_NAME_THE_STACK,
    )


def _fetch_from_s3(location: Mapping[str, str]) -> bytes:
    # Imported here: most clients never need it, and it costs more time than everything else together.
    from asyncjobs.aws import connect, translated

    with translated(f"s3://{location['bucket']}/{location['key']}"):
        s3 = connect(region=None, profile=None).s3
        return s3.get_object(Bucket=location["bucket"], Key=location["key"])["Body"].read()


def _upload_to(stack: str, file: Path, job_id: str, content_type: str) -> None:
    from asyncjobs.aws import connect, translated
    from asyncjobs.jobs.uploads import Uploads
    from asyncjobs.names import Names

    clients = connect(region=None, profile=None)
    with translated(f"payload of {job_id}"):
        names = Names(stack, clients.sts.get_caller_identity()["Account"], clients.region)
        uploads = Uploads(clients.s3, clients.sqs, bucket=names.bucket, queue=names.queue, account=names.account)
        uploads.submit(file, job_id=job_id, content_type=content_type)


def _check(url: str, key: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{url!r} is no URL of an API.", hint="It looks like https://…/v1; see `asyncjobs info`.")
    if key and not (key.isascii() and key.isprintable()):
        raise UsageError("The API key holds characters that no key has.", hint="Check ASYNCJOBS_API_KEY.")


def _error(status: int, document: Job | None, job_id: str) -> Exception:
    said = document or {}
    code, message = str(said.get("error", "")), str(said.get("message", ""))
    if status == 403:
        return CredentialsError(
            "The API refused the key.",
            why=message,
            hint="Set ASYNCJOBS_API_KEY to what `asyncjobs info --show-key` prints.",
        )
    if status == 404 and code in ("JobNotFound", "InvalidJobId"):
        return NotFoundError(f"There is no job {job_id}.", why=message)
    hints = {
        413: _NAME_THE_STACK,
        415: "Name a type that the API takes with `--content-type`.",
        429: "Wait a little, or raise `rate`, `burst` or `quota` under [api] and run `asyncjobs up`.",
    }
    return ApiError(
        f"The API answered {status}{f' {code}' if code else ''}.",
        status=status,
        code=code,
        why=message,
        hint=hints.get(status, ""),
    )


def _json(data: bytes) -> Job | None:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _root_cause(error: urllib3.exceptions.HTTPError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).split(": ", 1)[-1]
