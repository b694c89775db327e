from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.apigateway.models import APIGatewayBackend
from moto.sqs.models import Queue as MotoQueue

from asyncjobs.aws import Clients, Waiter
from asyncjobs.config import Config
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.context import Context
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.stack import stack_resources

REGION = "eu-west-1"
ACCOUNT = "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/asyncjobs@sha256:{'0' * 64}"


@pytest.fixture
def moto_takes_mock_integrations(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto's import of an OpenAPI document wants `uri` and `httpMethod` of MOCK integrations, which have neither."""
    original = APIGatewayBackend.put_integration

    def put_integration(self: Any, *args: Any, **settings: Any) -> Any:
        return original(self, *args, **{"uri": "", "integration_method": "", **settings})

    monkeypatch.setattr(APIGatewayBackend, "put_integration", put_integration)


@pytest.fixture
def moto_keeps_queue_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto forgets a queue's policy whenever any other attribute is set."""
    original = MotoQueue._set_attributes

    def set_attributes(self: Any, attributes: dict[str, Any], *args: Any) -> Any:
        kept = {"Policy": self.policy} if getattr(self, "policy", None) else {}
        return original(self, {**kept, **attributes}, *args)

    monkeypatch.setattr(MotoQueue, "_set_attributes", set_attributes)


@pytest.fixture
def clients(
    monkeypatch: pytest.MonkeyPatch, moto_takes_mock_integrations: None, moto_keeps_queue_policies: None
) -> Iterator[Clients]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # moto leaves a new service PENDING for ever otherwise.
    monkeypatch.setenv("MOTO_ECS_SERVICE_RUNNING", "1")
    with mock_aws():
        session = boto3.session.Session("testing", "testing", region_name=REGION)
        yield Clients(session)


@pytest.fixture
def make_context(clients: Clients) -> Callable[..., Context]:
    def make(stack: str = "demo", **sections: dict[str, Any]) -> Context:
        config = Config.model_validate({"worker": {"handler": "handler:handle"}, **sections})
        return Context(
            clients,
            Names(stack, ACCOUNT, REGION),
            Waiter(RecordingProgress(), sleep=lambda _: None),
            config,
            lambda api, stage: f"https://{api}.execute-api.{REGION}.amazonaws.com/{stage}",
            wait=False,
        )

    return make


@pytest.fixture
def make_stack(make_context: Callable[..., Context]) -> Callable[..., list[Resource]]:
    def make(stack: str = "demo", image: str = IMAGE, **sections: dict[str, Any]) -> list[Resource]:
        return stack_resources(make_context(stack, **sections), GivenImage(image, "x86_64"))

    return make
