from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from apis import Hosts, boto_hosts, coalescing_hosts, lean_hosts
from fake_clock import FakeClock
from moto import mock_aws
from moto_mends import mend
from sessions import ACCOUNT, REGION, read_models_once, session
from strict import check_calls

from asyncjobs.aws import Clients, Waiter
from asyncjobs.config import Config
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.context import Context
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.stack import stack_resources

# moto makes 1,296 machine images at the start and end of each mock, half a second each time; nobody asks for one.
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/asyncjobs@sha256:{'0' * 64}"


@pytest.fixture(scope="session", autouse=True)
def _models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        read_models_once(patch)
        yield


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    mend(partial(monkeypatch.setattr, raising=False))
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # moto leaves a new service PENDING for ever otherwise.
    monkeypatch.setenv("MOTO_ECS_SERVICE_RUNNING", "1")
    with mock_aws():
        ours = session()
        check_calls(ours)
        yield Clients(ours)


@pytest.fixture(scope="module")
def lean() -> Iterator[Hosts]:
    with lean_hosts() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def coalescing() -> Iterator[Hosts]:
    pytest.importorskip("ministack", reason="the `local` extra is not installed")
    with coalescing_hosts() as hosts:
        yield hosts


@pytest.fixture(params=["boto3", "lean", "coalescing"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """SQS, DynamoDB and S3 with nothing in them, through either client; and with writes as PartiQL batches."""
    if request.param == "boto3":
        with boto_hosts(request.getfixturevalue("clients")) as hosts:
            yield hosts
    else:
        hosts = request.getfixturevalue(request.param)
        hosts.reset()
        yield hosts


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def make_context(clients: Clients, clock: FakeClock) -> Callable[..., Context]:
    def make(stack: str = "demo", *, tags: dict[str, str] | None = None, **sections: dict[str, Any]) -> Context:
        config = Config.model_validate(
            {"stack": {"tags": tags or {}}, "worker": {"handler": "handler:handle"}, **sections}
        )
        return Context(
            clients,
            Names(stack, ACCOUNT, REGION),
            Waiter(RecordingProgress(), clock.sleep, clock.now),
            config,
            lambda api, stage: f"https://{api}.execute-api.{REGION}.amazonaws.com/{stage}",
            wait=False,
            now=clock.now,
        )

    return make


@pytest.fixture
def make_stack(make_context: Callable[..., Context]) -> Callable[..., list[Resource]]:
    def make(stack: str = "demo", image: str = IMAGE, **sections: Any) -> list[Resource]:
        return stack_resources(make_context(stack, **sections), GivenImage(image, "x86_64"))

    return make
