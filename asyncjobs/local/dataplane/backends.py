"""The services an integration can call: SQS (query protocol), DynamoDB (JSON 1.0) and MOCK."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

import urllib3

from asyncjobs.local.dataplane.http import SignedHttp
from asyncjobs.local.dataplane.model import GatewayError, IntegrationAnswer, IntegrationRequest
from asyncjobs.local.dataplane.sqs_rules import MAX_MESSAGE_BYTES, message_bytes, sqs_refuses

_URI = re.compile(r"arn:[^:]+:apigateway:[^:]+:([^:]+):(path|action)/(.+)")
_DYNAMODB_TARGET = "DynamoDB_20120810"


def call_mock(request: IntegrationRequest) -> IntegrationAnswer:
    """MOCK calls nothing: the request template says which status it would have answered."""
    try:
        status = int(json.loads(request.body)["statusCode"])
    except (ValueError, KeyError, TypeError):
        raise GatewayError("API_CONFIGURATION_ERROR", "A mock's request template gives no statusCode.") from None
    return IntegrationAnswer(status, {}, b"")


class AwsServices:
    """`aws` integrations."""

    def __init__(self, http: SignedHttp) -> None:
        self._http = http

    def __call__(self, request: IntegrationRequest) -> IntegrationAnswer:
        uri = _URI.fullmatch(request.uri)
        service, kind, target = uri.groups() if uri else ("", "", "")
        try:
            if (service, kind) == ("sqs", "path"):
                return self._sqs(request, target)
            if (service, kind) == ("dynamodb", "action"):
                return self._dynamodb(request, target)
        except urllib3.exceptions.TimeoutError:
            raise GatewayError("INTEGRATION_TIMEOUT", "Endpoint request timed out") from None
        except urllib3.exceptions.HTTPError:
            raise GatewayError("INTEGRATION_FAILURE", "The integration could not be reached.") from None
        raise GatewayError("API_CONFIGURATION_ERROR", f"Not an integration that runs here: {request.uri}")

    def _sqs(self, request: IntegrationRequest, queue: str) -> IntegrationAnswer:
        refusal = _sqs_refusal(request.body)
        if refusal is not None:
            return refusal
        answer = self._http.send(
            "sqs",
            request.http_method,
            f"/{queue}",
            headers=request.headers,
            body=request.body.encode(),
            timeout=request.timeout,
        )
        # API Gateway asks SQS for JSON; emulators answer the query protocol in XML only.
        if answer.body.lstrip().startswith(b"<"):
            body = json.dumps(_xml_as_json(answer.body)).encode()
            return IntegrationAnswer(answer.status, {"content-type": "application/json"}, body)
        return answer

    def _dynamodb(self, request: IntegrationRequest, action: str) -> IntegrationAnswer:
        headers = {**request.headers, "X-Amz-Target": f"{_DYNAMODB_TARGET}.{action}"}
        return self._http.send(
            "dynamodb",
            request.http_method,
            "/",
            headers=headers,
            body=request.body.encode(),
            timeout=request.timeout,
        )


def _sqs_refusal(body: str) -> IntegrationAnswer | None:
    """What SQS refuses whatever the queue, and an emulator may let pass."""
    values = {name: each[-1] for name, each in parse_qs(body, keep_blank_values=True).items()}
    if values.get("Action") != "SendMessage":
        return None
    attributes: dict[str, tuple[str, str]] = {}
    number = 1
    while (name := values.get(f"MessageAttribute.{number}.Name")) is not None:
        prefix = f"MessageAttribute.{number}.Value"
        attributes[name] = values.get(f"{prefix}.DataType", ""), values.get(f"{prefix}.StringValue", "")
        number += 1
    message = values.get("MessageBody", "")
    if any(map(sqs_refuses, (message, *(value for _, value in attributes.values())))):
        return _sqs_error("InvalidMessageContents", "The message contains characters outside the allowed set.")
    if message_bytes(message, attributes) > MAX_MESSAGE_BYTES:
        reason = f"Reason: Message must be shorter than {MAX_MESSAGE_BYTES} bytes."
        return _sqs_error("InvalidParameterValue", f"One or more parameters are invalid. {reason}")
    return None


def _sqs_error(code: str, message: str) -> IntegrationAnswer:
    body = {"Error": {"Code": code, "Message": message, "Type": "Sender"}}
    return IntegrationAnswer(400, {"content-type": "application/json"}, json.dumps(body).encode())


def _xml_as_json(document: bytes) -> dict[str, Any]:
    root = ElementTree.fromstring(document)
    content = _element(root)
    # An error is not wrapped in its element's name.
    return content if _local_name(root) == "ErrorResponse" else {_local_name(root): content}


def _element(element: ElementTree.Element) -> Any:
    children = list(element)
    return {_local_name(child): _element(child) for child in children} if children else element.text or ""


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
