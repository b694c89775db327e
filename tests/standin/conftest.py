"""The stand-in is compiled where rustc is; without it these tests are skipped."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from worker_bench import standin

ONCE = Config(retries={"total_max_attempts": 1})


@pytest.fixture(scope="session")
def program() -> Path:
    if not standin.has_compiler():
        pytest.skip("rustc, which compiles the stand-in, is not here")
    return standin.build()


@pytest.fixture
def server(program: Path) -> Iterator[standin.Standin]:
    with standin.running() as server:
        yield server


@pytest.fixture
def client(server: standin.Standin) -> Any:
    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=server.url,
            region_name=standin.REGION,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=ONCE,
        )

    return make
