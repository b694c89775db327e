from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config as BotoConfig
from deployed_api import REGION, free_port, wait_for_port
from projects import Stack, family, make_stack


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="session")
def aws_endpoint(state_dir: Path) -> Iterator[str]:
    """The emulated AWS services, in a process of their own."""
    pytest.importorskip("ministack", reason="the `local` extra is not installed")
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("emulator.py")), str(port), str(state_dir)]
    with subprocess.Popen(command, cwd=state_dir) as process:
        try:
            wait_for_port(port, lambda: process.poll() is None)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def aws(aws_endpoint: str) -> Iterator[Callable[[str], Any]]:
    """boto3 clients of the emulated services, by service name."""
    with contextlib.ExitStack() as clients:

        def client(service: str) -> Any:
            made = boto3.client(
                service,
                endpoint_url=aws_endpoint,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=BotoConfig(retries={"max_attempts": 1}),
            )
            clients.callback(made.close)
            return made

        yield client


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One that is up, for the tests of one file."""
    base = tmp_path_factory.mktemp("journey")
    stack = make_stack(base / "project", base / "state", "journey")
    stack.came_up = stack.json("up", "--local")
    yield stack
    stack.run("down", "--yes")
    assert family(stack.state) == []


@pytest.fixture(scope="module")
def http() -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(retries=False)
    yield pool
    pool.clear()


@pytest.fixture(scope="module")
def info(stack: Stack) -> Any:
    """With the key. It asks all of AWS's services, which takes a process a second."""
    return stack.json("info", "--show-key")


@pytest.fixture(scope="module")
def api(info: Any) -> tuple[str, dict[str, str]]:
    return info["apiUrl"], {"x-api-key": info["apiKey"]}
