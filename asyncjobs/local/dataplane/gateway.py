"""Answers one request from start to end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from asyncjobs.local.dataplane.deployed import Deployed
from asyncjobs.local.dataplane.edge import Edge
from asyncjobs.local.dataplane.gateway_responses import gateway_response
from asyncjobs.local.dataplane.integration import Integrations
from asyncjobs.local.dataplane.model import GatewayError, Request, Response
from asyncjobs.local.dataplane.routing import find_route
from asyncjobs.local.vtl import JavaMap

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 10 * 1024 * 1024


class Gateway:
    """The stages of one REST API.

    Args:
        deployed: What a stage serves, None for one there is not.
    """

    def __init__(
        self, rest_api_id: str, deployed: Callable[[str], Deployed | None], edge: Edge, integrations: Integrations
    ) -> None:
        self._rest_api_id = rest_api_id
        self._deployed = deployed
        self._edge = edge
        self._integrations = integrations

    def answer(self, request: Request) -> Response:
        """The response. Nothing that goes wrong on the way gets out as an exception."""
        try:
            response = self._answer(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            body = {"error": "InternalError", "message": "The local API failed; the engine's log says why."}
            response = Response(500, {"Content-Type": "application/json"}, json.dumps(body).encode())
        headers = {**response.headers, "x-amzn-RequestId": request.request_id}
        return Response(response.status, headers, response.body)

    def _answer(self, request: Request) -> Response:
        deployed = self._deployed(request.stage)
        context = self._context(request)
        try:
            if deployed is None:
                # AWS says no more than this about a stage that does not exist.
                raise GatewayError("MISSING_AUTHENTICATION_TOKEN", "Forbidden")
            if len(request.body) > MAX_REQUEST_BYTES:
                raise GatewayError("REQUEST_TOO_LARGE", "Request Too Long")
            route = find_route(deployed.resources, request.method, request.path)
            if route is None:
                raise GatewayError("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
            context["resourcePath"] = route.resource_path
            context["identity"]["apiKeyId"] = self._edge.admit(request, route, deployed)
            return self._integrations.run(request, route, context, deployed.binary_media_types)
        except GatewayError as error:
            log.info("%s %s: %s: %s", request.method, request.path, error.kind, error.message)
            return gateway_response(error, request, context, deployed)

    def _context(self, request: Request) -> JavaMap:
        moment = datetime.fromtimestamp(request.time_ms / 1000, UTC)
        return JavaMap(
            apiId=self._rest_api_id,
            stage=request.stage,
            path=f"/{request.stage}{request.path}",
            httpMethod=request.method,
            protocol="HTTP/1.1",
            requestId=request.request_id,
            extendedRequestId=request.request_id,
            requestTime=moment.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            requestTimeEpoch=request.time_ms,
            domainName=request.headers.get("host", ""),
            identity=JavaMap(sourceIp=request.source_ip, userAgent=request.headers.get("user-agent", "")),
            responseOverride=JavaMap(header=JavaMap()),
            requestOverride=JavaMap(header=JavaMap(), path=JavaMap(), querystring=JavaMap()),
        )
