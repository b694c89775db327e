"""Checks every call's parameters against all that AWS's own service models say of them.

botocore checks types, required members and smallest sizes, and leaves patterns, enumerations and largest sizes to
AWS; moto checks few of them. What only AWS would refuse is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.model import OperationModel, Shape

# The models write patterns in Java's form; Python has no word for these. All of them occur within brackets only.
_JAVA_CLASSES = {
    r"\p{L}": "a-zA-Z\u00c0-\u024f",
    r"\p{Z}": r"\s",
    r"\p{N}": "0-9",
    r"\p{P}": r"!-/:-@\[-`{-~",
    r"\p{M}": "",
    r"\p{S}": "",
}


class RefusedError(AssertionError):
    """AWS would refuse this call."""


def check_calls(session: boto3.session.Session) -> None:
    """Check every call of the clients that `session` makes from now on."""
    session.events.register("provide-client-params.*.*", _check)


def _check(params: dict[str, Any], model: OperationModel, **_: Any) -> None:
    problems = [] if model.input_shape is None else list(_structure(params, model.input_shape, model.name))
    if problems:
        raise RefusedError("; ".join(problems))


def _problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if value is None:
        return
    if shape.type_name == "structure":
        yield from _structure(value, shape, path)
    elif shape.type_name == "list":
        yield from _size(len(value), shape, path)
        for index, item in enumerate(value):
            yield from _problems(item, shape.member, f"{path}[{index}]")  # type: ignore[attr-defined]
    elif shape.type_name == "map":
        yield from _size(len(value), shape, path)
        for key, item in value.items():
            yield from _problems(key, shape.key, f"{path}.{key}")  # type: ignore[attr-defined]
            yield from _problems(item, shape.value, f"{path}.{key}")  # type: ignore[attr-defined]
    elif shape.type_name == "string":
        if isinstance(value, dict):  # a CopySource: botocore makes one text of its parts later
            value = f"{value['Bucket']}/{value['Key']}"
        yield from _text(value, shape, path)
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _size(value, shape, path)


def _structure(value: dict[str, Any], shape: Any, path: str) -> Iterator[str]:
    for name, item in value.items():
        if name in shape.members:
            yield from _problems(item, shape.members[name], f"{path}.{name}")


def _text(value: str, shape: Any, path: str) -> Iterator[str]:
    yield from _size(len(value), shape, path)
    if shape.enum and value not in shape.enum:
        yield f"{path} = {value!r}: one of {', '.join(shape.enum)}"
    pattern = shape.metadata.get("pattern")
    if pattern:
        for java, python in _JAVA_CLASSES.items():
            pattern = pattern.replace(java, python)
        try:
            compiled = re.compile(pattern)
        except re.error:
            return  # a form that only Java has
        # AWS's services match the whole, whether or not the pattern says so.
        if not compiled.fullmatch(value):
            yield f"{path} = {value!r}: must match {pattern}"


def _size(size: float, shape: Shape, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if (least is not None and size < float(least)) or (most is not None and size > float(most)):
        yield f"{path}: {size}, allowed {least} to {most}"
