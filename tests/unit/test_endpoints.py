"""The short way to an endpoint leads where botocore's own does."""

from __future__ import annotations

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import NoRegionError

from asyncjobs.jobs.endpoints import endpoint_of


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.mark.parametrize("service", ["sqs", "dynamodb"])
@pytest.mark.parametrize(
    ("region", "env"),
    [
        ("eu-west-1", {}),
        ("us-gov-west-1", {}),
        ("ap-southeast-7", {}),
        ("cn-north-1", {}),
        ("us-iso-east-1", {}),
        ("eu-west-1", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("eu-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        ("eu-west-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}),
        ("eu-west-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:1"}),
        ("eu-west-1", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}),
    ],
)
def test_it_is_botocore_s(monkeypatch: pytest.MonkeyPatch, service: str, region: str, env: dict[str, str]) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    client = botocore.session.get_session().create_client(service)
    expected = client.meta.endpoint_url, region
    client.close()
    assert endpoint_of(botocore.session.get_session(), service, Config()) == expected


def test_without_a_region_there_is_none() -> None:
    with pytest.raises(NoRegionError):
        endpoint_of(botocore.session.get_session(), "sqs", Config())
