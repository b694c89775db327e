"""The role that ECS itself works with: an account's first use of ECS makes it, and fails until it is there.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import ClientError

from asyncjobs.aws import has_code
from asyncjobs.provision.context import Context

T = TypeVar("T")

_is_missing = has_code("InvalidParameterException", "ClientException", message="service linked role")


def with_service_linked_role(context: Context, step: str, call: Callable[[], T]) -> T:
    """Call ECS, which on an account's first use refuses until its service-linked role is there: make that role."""

    def wrapped() -> T:
        try:
            return call()
        except ClientError as error:
            if _is_missing(error):
                _make_service_linked_role(context)
            raise

    return context.waiter.retry(
        wrapped,
        step=step,
        on=_is_missing,
        reason="ECS's own role is being created in this account",
        timeout=120,
    )


def _make_service_linked_role(context: Context) -> None:
    iam = context.clients.iam
    try:
        iam.create_service_linked_role(AWSServiceName="ecs.amazonaws.com")
    except iam.exceptions.InvalidInputException:
        return  # it has been created meanwhile
