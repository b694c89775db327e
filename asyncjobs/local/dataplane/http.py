"""Signed calls to the emulated AWS services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from asyncjobs.local.dataplane.model import IntegrationAnswer


class SignedHttp:
    """A connection pool that signs what it sends.

    Args:
        endpoint_url: Where all services are.
        access_key: Emulators tell accounts apart by it.
    """

    def __init__(self, endpoint_url: str, *, region: str, access_key: str = "test", secret_key: str = "test") -> None:
        self._endpoint = endpoint_url.rstrip("/")
        self._region = region
        self._credentials = Credentials(access_key, secret_key)
        self._pool = urllib3.PoolManager(maxsize=64, retries=False)

    def send(
        self, service: str, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b"", timeout: float
    ) -> IntegrationAnswer:
        """The answer, whatever its status.

        Raises:
            urllib3.exceptions.HTTPError: No answer, or none in time.
        """
        request = AWSRequest(method=method, url=self._endpoint + path, data=body, headers=dict(headers))
        SigV4Auth(self._credentials, service, self._region).add_auth(request)
        prepared: Any = request.prepare()
        answer = self._pool.request(
            method, prepared.url, headers=dict(prepared.headers.items()), body=body, timeout=timeout
        )
        return IntegrationAnswer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.data)
