"""API Gateway's own answers, as the API customises them."""

from __future__ import annotations

import json
import re
from typing import Any

from asyncjobs.local.dataplane.deployed import Deployed
from asyncjobs.local.dataplane.mapping import mapped
from asyncjobs.local.dataplane.model import GatewayError, Json, Request, Response
from asyncjobs.local.vtl import JavaMap

# Default status of each type ("Gateway response types for API Gateway"); the others are 4XX and 5XX by family.
_STATUS = {
    "API_CONFIGURATION_ERROR": 500,
    "BAD_REQUEST_PARAMETERS": 400,
    "INTEGRATION_FAILURE": 504,
    "INTEGRATION_TIMEOUT": 504,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    "MISSING_AUTHENTICATION_TOKEN": 403,
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "THROTTLED": 429,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "DEFAULT_5XX": 500,
}
_DEFAULT_TEMPLATE = '{"message":$context.error.messageString}'
_REFERENCE = re.compile(r"\$(?:\{context\.([\w.]+)\}|context\.([\w.]+))")


def gateway_response(error: GatewayError, request: Request, context: JavaMap, deployed: Deployed | None) -> Response:
    """The answer to a request that did not reach its integration or whose integration failed."""
    status = _STATUS[error.kind]
    customised = _customised(error.kind, status, deployed)
    context["error"] = JavaMap(message=error.message, messageString=json.dumps(error.message), responseType=error.kind)
    templates = customised.get("responseTemplates") or {"application/json": _DEFAULT_TEMPLATE}
    content_type, template = next(iter(templates.items()))
    headers = {"Content-Type": content_type} | mapped(
        customised.get("responseParameters"),
        "gatewayresponse.header.",
        request=request,
        route=None,
        context=context,
    )
    body = _REFERENCE.sub(lambda match: _lookup(context, match[1] or match[2]), template)
    return Response(int(customised.get("statusCode") or status), headers, body.encode())


def _customised(kind: str, status: int, deployed: Deployed | None) -> Json:
    if deployed is None:
        return {}
    family = "DEFAULT_5XX" if status >= 500 else "DEFAULT_4XX"
    return deployed.gateway_response(kind) or deployed.gateway_response(family) or {}


def _lookup(context: JavaMap, path: str) -> str:
    """Gateway response templates know simple references only; one that leads nowhere is empty."""
    value: Any = context
    for name in path.rstrip(".").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else str(value)
