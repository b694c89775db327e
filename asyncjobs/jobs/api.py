"""The AWS calls of a worker's hot path: one protocol, which boto3 and a lean client answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from botocore import xform_name


class Api(Protocol):
    """One service."""

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call an operation by its name in the service's model, such as "UpdateItem"; binary values are bytes.

        Raises:
            ClientError: The service refused, or failed again and again.
            BotoCoreError: It could not be reached, or there are no credentials.
        """


class BotoApi:
    """boto3 in threads: what the lean client is measured against, and what there is to fall back on."""

    def __init__(self, client: Any, threads: Executor | None = None) -> None:
        self._client = client
        self._threads = threads

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        method = partial(getattr(self._client, xform_name(operation)), **request)
        answer: dict[str, Any] = await asyncio.get_running_loop().run_in_executor(self._threads, method)
        return answer
