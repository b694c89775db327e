"""The AWS of a test behind each of the two clients of the hot path: boto3's in this process, the lean one by HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from asyncjobs.aws import Clients
from asyncjobs.jobs.api import Api, BotoApi
from asyncjobs.jobs.lean import CredentialSource, LeanApi, open_http

REGION = "eu-west-1"


@dataclass(frozen=True)
class Hosts:
    """Plain boto3 clients to look with, the APIs under test, and the loop they run in."""

    sqs: Any
    dynamodb: Any
    s3: Any
    sqs_api: Api
    dynamodb_api: Api
    loop: asyncio.AbstractEventLoop
    reset_path: str = "/moto-api/reset"
    coalesce: int = 0

    def reset(self) -> None:
        """Forget everything: the server lives longer than a test."""
        url = self.sqs.meta.endpoint_url
        with urllib.request.urlopen(urllib.request.Request(f"{url}{self.reset_path}", method="POST"), timeout=30):
            pass


class Waiting:
    """Every coroutine of an object as a call that waits for it."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: self._loop.run_until_complete(call(*args, **kwargs))


@contextmanager
def boto_hosts(clients: Clients) -> Iterator[Hosts]:
    loop = asyncio.new_event_loop()
    yield Hosts(clients.sqs, clients.dynamodb, clients.s3, BotoApi(clients.sqs), BotoApi(clients.dynamodb), loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@contextmanager
def lean_hosts() -> Iterator[Hosts]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    with hosts_at("http://{}:{}".format(*server.get_host_and_port())) as hosts:
        yield hosts
    server.stop()


@contextmanager
def coalescing_hosts() -> Iterator[Hosts]:
    """On ministack, which knows BatchExecuteStatement; moto does not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"BIND_HOST": "127.0.0.1", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "PERSIST_STATE": "0"}
    command = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "ministack.app:app"]
    env = {**os.environ, **settings, "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING"}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_port(port, process)
            with hosts_at(f"http://127.0.0.1:{port}", reset_path="/_ministack/reset", coalesce=1) as hosts:
                yield hosts
        finally:
            process.terminate()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError("the emulator did not start")


@contextmanager
def hosts_at(url: str, **more: Any) -> Iterator[Hosts]:
    session = boto3.session.Session("testing", "testing", region_name=REGION)
    sqs, dynamodb, s3 = (session.client(name, endpoint_url=url) for name in ("sqs", "dynamodb", "s3"))  # type: ignore[call-overload]
    loop = asyncio.new_event_loop()
    http = open_http()
    credentials = CredentialSource(session.get_credentials())
    yield Hosts(
        sqs,
        dynamodb,
        s3,
        LeanApi(http, url, "sqs", REGION, "AmazonSQS", credentials),
        LeanApi(http, url, "dynamodb", REGION, "DynamoDB_20120810", credentials),
        loop,
        **more,
    )
    http.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    for client in (sqs, dynamodb, s3):
        client.close()
