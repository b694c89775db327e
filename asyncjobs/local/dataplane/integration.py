"""Carries out a method's integration: request template, call, response selection, response template."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from asyncjobs.local.dataplane.mapping import mapped, media_type, request_text, response_bytes
from asyncjobs.local.dataplane.model import (
    GatewayError,
    IntegrationAnswer,
    IntegrationRequest,
    Json,
    Request,
    Response,
    Route,
)
from asyncjobs.local.vtl import JavaMap, Parameters, render

log = logging.getLogger(__name__)

Backend = Callable[[IntegrationRequest], IntegrationAnswer]

_DEFAULT_TYPE = "application/json"
_DEFAULT_TIMEOUT_MS = 29_000


class Integrations:
    """Runs integrations against the backend of their type (`AWS`, `MOCK`)."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._backends = backends

    def run(self, request: Request, route: Route, context: JavaMap, binary_types: list[str]) -> Response:
        """The answer of the method's integration.

        Raises:
            GatewayError: API Gateway answers by itself.
        """
        integration: Json = route.method.get("methodIntegration") or {}
        backend = self._backends.get(integration.get("type", ""))
        if backend is None:
            raise GatewayError("API_CONFIGURATION_ERROR", f"No integration of type {integration.get('type')!r} here.")
        call = _integration_request(integration, request, route, context, binary_types)
        answer = backend(call)
        return _response(_select(integration, answer.status), answer, request, route, context, binary_types)


def _integration_request(
    integration: Json, request: Request, route: Route, context: JavaMap, binary_types: list[str]
) -> IntegrationRequest:
    template = _request_template(integration, request)
    text = request_text(request, binary_types, integration.get("contentHandling"))
    body = text if template is None else _rendered(template, text, request, route, context)
    headers = mapped(
        integration.get("requestParameters"),
        "integration.request.header.",
        request=request,
        route=route,
        context=context,
    )
    return IntegrationRequest(
        uri=integration.get("uri") or "",
        http_method=integration.get("httpMethod") or request.method,
        headers=headers | {name: str(value) for name, value in context["requestOverride"]["header"].items()},
        body=body,
        timeout=(integration.get("timeoutInMillis") or _DEFAULT_TIMEOUT_MS) / 1000,
    )


def _request_template(integration: Json, request: Request) -> str | None:
    """The template for the request's content type, None to pass the body through."""
    templates: Mapping[str, str] = integration.get("requestTemplates") or {}
    template = templates.get(media_type(request.headers.get("content-type") or _DEFAULT_TYPE))
    if template is not None:
        return template
    behavior = integration.get("passthroughBehavior") or "WHEN_NO_MATCH"
    if behavior == "NEVER" or (behavior == "WHEN_NO_TEMPLATES" and templates):
        raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type")
    return None


def _select(integration: Json, status: int) -> Json:
    """The integration response whose pattern is the status; one without a pattern is for all others."""
    responses = list((integration.get("integrationResponses") or {}).values())
    for response in responses:
        pattern = response.get("selectionPattern")
        if pattern and re.fullmatch(pattern, str(status)):
            return dict(response)
    default = next((response for response in responses if not response.get("selectionPattern")), None)
    if default is None:
        raise GatewayError("API_CONFIGURATION_ERROR", f"No integration response for status {status}.")
    return dict(default)


def _response(
    selected: Json,
    answer: IntegrationAnswer,
    request: Request,
    route: Route,
    context: JavaMap,
    binary_types: list[str],
) -> Response:
    text = answer.body.decode("utf-8", "replace")
    content_type, template = _response_template(selected, request)
    if template is not None:
        text = _rendered(template, text, request, route, context)
    headers = {"Content-Type": content_type} | mapped(
        selected.get("responseParameters"),
        "method.response.header.",
        request=request,
        route=route,
        context=context,
        integration_headers=answer.headers,
    )
    override: Mapping[str, Any] = context["responseOverride"]
    headers |= {name: str(value) for name, value in override["header"].items()}
    status = override.get("status")
    body = response_bytes(text, request.headers.get("accept", ""), binary_types, selected.get("contentHandling"))
    # API Gateway ignores a status that is not a number from 100 to 599.
    overridden = isinstance(status, int) and 100 <= status <= 599
    return Response(status if overridden and status else int(selected["statusCode"]), headers, body)


def _response_template(selected: Json, request: Request) -> tuple[str, str | None]:
    """The response template and its type: what the caller accepts, else JSON's, else the first."""
    templates: Mapping[str, str | None] = selected.get("responseTemplates") or {}
    if not templates:
        return _DEFAULT_TYPE, None
    accepted = media_type(request.headers.get("accept", "").partition(",")[0])
    for candidate in (accepted, _DEFAULT_TYPE, next(iter(templates))):
        if candidate in templates:
            return candidate, templates[candidate] or ""
    raise AssertionError("unreachable: the first template is a candidate")


def _rendered(template: str, text: str, request: Request, route: Route, context: JavaMap) -> str:
    parameters = Parameters(path=route.path_parameters, querystring=request.query, header=request.headers)
    try:
        return render(template, body=text, parameters=parameters, context=context)
    except Exception:
        # A template can fail in as many ways as there are methods to call from it; to a caller all are one.
        log.exception("mapping template of %s failed", route.resource_path)
        raise GatewayError("API_CONFIGURATION_ERROR", "Internal server error") from None
