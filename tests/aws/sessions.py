"""Sessions of one account, made cheaply: most of an `up` against moto is reading models and making clients."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.client import ClientCreator
from botocore.errorfactory import ClientExceptionsFactory

ACCOUNT, REGION = "123456789012", "eu-west-1"
_MODELS = botocore.loaders.create_loader()


def read_models_once(patch: pytest.MonkeyPatch) -> None:
    """All sessions of this process have AWS's models of one loader, which keeps them, and what is made of them."""
    patch.setattr(botocore.session, "create_loader", lambda *_: _MODELS)
    # A service's model, the class of its clients and its exceptions: none of them knows of a session or of a call.
    _once(patch, ClientCreator, "_load_service_model")
    _once(patch, ClientCreator, "_create_client_class")
    _once(patch, ClientExceptionsFactory, "_create_client_exceptions")


def _once(patch: pytest.MonkeyPatch, owner: type, method: str) -> None:
    """Have the method called once for each first argument."""
    original, lock, kept = getattr(owner, method), threading.RLock(), dict[Any, Any]()

    def call(self: Any, first: Any, *args: Any, **settings: Any) -> Any:
        with lock:
            if first not in kept:
                kept[first] = original(self, first, *args, **settings)
            return kept[first]

    patch.setattr(owner, method, call)


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
