"""Sessions of one account, made cheaply: most of the time of an `up` against moto goes into reading AWS's models."""

from __future__ import annotations

from functools import cache

import boto3
import botocore.loaders
import botocore.session

ACCOUNT, REGION = "123456789012", "eu-west-1"
_MODELS = botocore.loaders.create_loader()


def session(region: str = REGION, keys: tuple[str, ...] = ("testing", "testing")) -> boto3.session.Session:
    """A session whose clients nobody else has hooks in."""
    core = botocore.session.get_session()
    core.register_component("data_loader", _MODELS)
    return boto3.session.Session(*keys, region_name=region, botocore_session=core)


@cache
def onlooker(region: str = REGION) -> boto3.session.Session:
    """A session of nobody who is killed or refused, with its clients kept."""
    looks = session(region)
    looks.client = cache(looks.client)  # type: ignore[method-assign]
    return looks
