"""Engines for tests: made so that none is left, and spoken to over HTTP and with boto3."""

from __future__ import annotations

import atexit
import functools
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psutil
from botocore.config import Config

from asyncjobs.local.control import EngineInfo, LocalEngine
from asyncjobs.local.paths import import_paths

T = TypeVar("T")
REGION = "us-east-1"
# Reads state directories until this process has ended, however that was, and then stops their engines.
_REAPER = """
import sys
from pathlib import Path
from asyncjobs.local.control import LocalEngine
from asyncjobs.progress import NullProgress
for line in sys.stdin.readlines():
    LocalEngine(Path(line.rstrip())).stop(NullProgress())
"""


def engine_in(state_dir: Path) -> LocalEngine:
    """An engine that is stopped at the latest when the tests end, also when they are killed."""
    stdin = _reaper().stdin
    assert stdin is not None
    stdin.write(f"{state_dir}\n")
    stdin.flush()
    return LocalEngine(state_dir)


@functools.cache
def _reaper() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _REAPER],
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(import_paths())},
    )
    atexit.register(process.communicate)
    return process


class Aws:
    """Clients of one engine."""

    def __init__(self, info: EngineInfo, access_key: str | None = None) -> None:
        self._endpoint = info.endpoint_url
        self._key = info.access_key if access_key is None else access_key

    def __getattr__(self, service: str) -> Any:
        client = boto3.client(
            service.replace("_", "-"),  # type: ignore[call-overload]
            endpoint_url=self._endpoint,
            region_name=REGION,
            aws_access_key_id=self._key,
            aws_secret_access_key="any",
            config=Config(retries={"max_attempts": 1}, read_timeout=20),
        )
        setattr(self, service, client)
        return client


def until(condition: Callable[[], T], seconds: float = 15.0) -> T:
    """Poll until the condition holds, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.03)
    return value


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def request(info: EngineInfo, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", info.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
