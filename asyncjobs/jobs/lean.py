"""A lean asyncio client for services that speak AWS's JSON protocol, DynamoDB and SQS.

botocore builds, validates, signs and parses a call in about a millisecond of CPU, which is nine tenths of what a
worker's jobs would cost. Credentials, endpoints and errors stay botocore's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, ReadTimeoutError
from botocore.httpsession import get_cert_path

from asyncjobs.jobs.aws_errors import is_passing
from asyncjobs.jobs.http import Http, HttpError
from asyncjobs.jobs.signer import Credentials, Signer

TRIES = 4
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0  # without the time a long poll waits
LONGEST_PAUSE = 5.0
CREDENTIALS_SECONDS = 30.0  # between looks at whether botocore has fresher ones; it renews minutes before the end
# A batch is not sent again as a whole: who sends it falls back to single writes, and those are.
_ONCE = frozenset({"BatchExecuteStatement"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})


class CredentialSource:
    """botocore's credentials, asked in a thread, because it may have to call a metadata service for them."""

    def __init__(self, provider: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._clock = clock
        self._held: Credentials | None = None
        self._good_until = 0.0
        self._lock = asyncio.Lock()

    async def get(self) -> Credentials:
        """Raises NoCredentialsError, or what botocore raises when it cannot renew them."""
        if self._held is not None and self._clock() < self._good_until:
            return self._held
        async with self._lock:
            if self._held is None or self._clock() >= self._good_until:
                self._held = await asyncio.to_thread(self._ask)
                self._good_until = self._clock() + CREDENTIALS_SECONDS
            return self._held

    def forget(self) -> None:
        self._good_until = 0.0

    def _ask(self) -> Credentials:
        if self._provider is None:
            raise NoCredentialsError
        frozen = self._provider.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")


class LeanApi:
    """One service of one region.

    Args:
        service: Its name in signatures.
        target: The prefix of X-Amz-Target.
        sleep: Seconds between tries.
    """

    def __init__(
        self,
        http: Http,
        endpoint: str,
        service: str,
        region: str,
        target: str,
        credentials: CredentialSource,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._endpoint = endpoint
        self._server = http.server(endpoint)
        self._target = target
        self._signer = Signer(service, region)
        self._credentials = credentials
        self._sleep = sleep
        self._now = now

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        body = orjson.dumps(request, default=_base64)
        patience = READ_SECONDS + request.get("WaitTimeSeconds", 0)
        tries = 1 if operation in _ONCE else TRIES
        while True:
            try:
                return await self._try(operation, body, patience)
            except (ClientError, HTTPClientError) as error:
                tries -= 1
                if not tries or not is_passing(error):
                    raise
                if isinstance(error, ClientError) and error.response["Error"]["Code"] in _EXPIRED:
                    self._credentials.forget()
                # Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
                await self._sleep(random.uniform(0, min(LONGEST_PAUSE, 0.1 * 2.0 ** (TRIES - tries))))

    async def _try(self, operation: str, body: bytes, patience: float) -> dict[str, Any]:
        headers = {
            "Host": self._server.host,
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"{self._target}.{operation}",
        }
        credentials = await self._credentials.get()
        signed = self._signer.sign("POST", self._server.path, "", headers, body, credentials, now=self._now())
        try:
            async with asyncio.timeout(patience):
                status, received, content = await self._server.post(signed, body)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=self._endpoint, error=error) from error
        except HttpError as error:
            raise HTTPClientError(error=error) from error
        checksum = received.get("x-amz-crc32")
        if checksum is not None and checksum.isdecimal() and zlib.crc32(content) != int(checksum):
            raise HTTPClientError(error="the answer was damaged on its way")
        if status == 200:
            return _parse(content)
        raise _refusal(operation, status, received, content)


def open_http(ca_bundle: str | None = None) -> Http:
    """Connections to all services, kept alive.

    Args:
        ca_bundle: A file of certificates to trust instead of botocore's own.
    """
    return Http(ssl.create_default_context(cafile=ca_bundle or get_cert_path(True)), connect_seconds=CONNECT_SECONDS)


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")


def _parse(content: bytes) -> dict[str, Any]:
    try:
        # Looking for binary values costs a call for each object, so only where there may be one.
        with_bytes = b'"B"' in content
        answer: dict[str, Any] = (
            json.loads(content, object_hook=_with_bytes) if with_bytes else orjson.loads(content or b"{}")
        )
    except ValueError as error:
        raise HTTPClientError(error=f"an answer that is no JSON: {error}") from error
    return answer


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    if len(value) == 1 and isinstance(value.get("B"), str):
        return {"B": base64.b64decode(value["B"])}
    return value


def _refusal(operation: str, status: int, headers: Mapping[str, str], content: bytes) -> ClientError:
    try:
        body = _parse(content)
    except HTTPClientError:
        body = {}
    code = str(body.get("__type") or status).rsplit("#", 1)[-1]
    # SQS names its errors in two ways; botocore shows the older one, and so do we.
    code = headers.get("x-amzn-query-error", "").split(";")[0] or code
    message = body.get("message") or body.get("Message") or ""
    response: Any = {
        **body,
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)
