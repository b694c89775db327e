"""Sessions of one account, made cheaply: most of an `up` against moto is reading models and making clients."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pytest

ACCOUNT, REGION = "123456789012", "eu-west-1"
_MODELS = botocore.loaders.create_loader()


def read_models_once(patch: pytest.MonkeyPatch) -> None:
    """All sessions of this process read AWS's models with one loader, which keeps them."""
    patch.setattr(botocore.session, "create_loader", lambda *_: _MODELS)


def session(region: str = REGION, keys: tuple[str, ...] = ("testing", "testing")) -> boto3.session.Session:
    """A session whose clients nobody else has hooks in, one of each kind: hooks come before the first call."""
    made = boto3.session.Session(*keys, region_name=region)
    make, clients, lock = made.client, dict[Any, Any](), threading.Lock()

    def client(service: str, **settings: Any) -> Any:
        # Our own clients all have one configuration, and those that only look have none.
        with lock:
            kind = (service, *sorted(settings))
            if kind not in clients:
                clients[kind] = make(service, **settings)  # type: ignore[call-overload]
            return clients[kind]

    made.client = client  # type: ignore[method-assign,assignment]
    return made


@cache
def plain_session(region: str = REGION) -> boto3.session.Session:
    """The session of whoever is neither killed nor refused nor watched, with its clients kept from test to test."""
    return session(region)
