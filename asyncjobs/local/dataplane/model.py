"""What passes between the parts of the data plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A caller's request.

    Args:
        stage: The path's first segment.
        path: The rest of the path, percent-encoded as sent, starting with `/`.
        headers: By lower-case name; of a repeated one the last.
        time_ms: When it came, in epoch milliseconds.
    """

    method: str
    stage: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    source_ip: str
    request_id: str
    time_ms: int


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Route:
    """The method a request leads to.

    Args:
        resource_path: Such as `/jobs/{id}`.
        method: The deployed method, with its integration.
        path_parameters: By name, percent-decoded.
    """

    resource_path: str
    method: Json
    path_parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IntegrationRequest:
    """What an integration is asked.

    Args:
        uri: The integration's, such as `arn:aws:apigateway:eu-west-1:sqs:path/123456789012/queue`.
        timeout: Seconds.
    """

    uri: str
    http_method: str
    headers: Mapping[str, str]
    body: str
    timeout: float


@dataclass(frozen=True)
class IntegrationAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class GatewayError(Exception):
    """API Gateway answers by itself.

    Args:
        kind: The gateway response type, such as `INVALID_API_KEY`.
        message: What `$context.error.message` says.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
