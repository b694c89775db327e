"""Parameter mappings (`'literal'`, `method.request.header.Origin`, `context.requestId`, ...) and content conversion.

Source: "Parameter mapping source reference" and "Content type conversions in API Gateway" of the developer guide.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from asyncjobs.local.dataplane.model import GatewayError, Request, Route
from asyncjobs.local.vtl import JavaMap


def media_type(header: str) -> str:
    """The type without its parameters: templates and binary types are chosen by it."""
    return header.partition(";")[0].strip().lower()


def is_binary(header: str, binary_types: Sequence[str]) -> bool:
    found = media_type(header)
    return any(each in ("*/*", found) for each in binary_types)


def request_text(request: Request, binary_types: Sequence[str], handling: str | None) -> str:
    """The body as templates see it: text, or base64 of a binary type that is converted to text."""
    if is_binary(request.headers.get("content-type", ""), binary_types) and handling == "CONVERT_TO_TEXT":
        return base64.b64encode(request.body).decode()
    # API Gateway reads any other body as UTF-8 and puts U+FFFD where it is not.
    return request.body.decode("utf-8", "replace")


def response_bytes(text: str, accept: str, binary_types: Sequence[str], handling: str | None) -> bytes:
    """The answer's bytes: from base64 if the mapping says so, or says nothing and the caller accepts binary first."""
    first = accept.partition(",")[0]
    decode = handling == "CONVERT_TO_BINARY" or (handling is None and is_binary(first, binary_types))
    if not decode:
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise GatewayError("API_CONFIGURATION_ERROR", "Unable to base64 decode the body.") from None


def mapped(
    mappings: Mapping[str, str] | None,
    prefix: str,
    *,
    request: Request,
    route: Route | None,
    context: JavaMap,
    integration_headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The values of those mappings whose destination starts with `prefix`, by the rest of its name."""
    found: dict[str, str] = {}
    for destination, source in (mappings or {}).items():
        if destination.startswith(prefix):
            value = _value(source, request, route, context, integration_headers or {})
            if value is not None:
                found[destination.removeprefix(prefix)] = value
    return found


def _value(
    source: str, request: Request, route: Route | None, context: JavaMap, integration_headers: Mapping[str, str]
) -> str | None:
    if source.startswith("'") and source.endswith("'"):
        return source[1:-1]
    root, _, rest = source.partition(".")
    if root == "context":
        value: Any = context
        for name in rest.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return None if value is None else str(value)
    place, _, name = rest.removeprefix("request.").removeprefix("response.").partition(".")
    if root == "integration":
        return integration_headers.get(name.lower())
    places: dict[str, Mapping[str, str]] = {
        "header": request.headers,
        "querystring": request.query,
        "path": route.path_parameters if route else {},
    }
    return places.get(place, {}).get(name.lower() if place == "header" else name)
