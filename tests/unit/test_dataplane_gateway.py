from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import urllib3

from asyncjobs.local.dataplane.backends import AwsServices, call_mock
from asyncjobs.local.dataplane.deployed import Deployed
from asyncjobs.local.dataplane.edge import Edge
from asyncjobs.local.dataplane.gateway import MAX_REQUEST_BYTES, Gateway
from asyncjobs.local.dataplane.integration import Integrations
from asyncjobs.local.dataplane.model import GatewayError, IntegrationAnswer, IntegrationRequest, Request, Response

SQS_URI = "arn:aws:apigateway:eu-west-1:sqs:path/123456789012/queue"


def integration(**fields: Any) -> dict[str, Any]:
    responses = {
        "200": {"statusCode": "200", "selectionPattern": "", "responseTemplates": {"application/json": "$input.body"}}
    }
    return {"type": "AWS", "uri": SQS_URI, "httpMethod": "POST", "integrationResponses": responses, **fields}


def stage(found: dict[str, Any] | None, **parts: Any) -> Deployed:
    resources = {"item": [{"path": "/jobs", "resourceMethods": {"POST": {"methodIntegration": found}}}]}
    everything = {
        "api": {"binaryMediaTypes": ["image/png"]},
        "resources": resources,
        "gatewayResponses": {},
        "validators": {},
    }
    return Deployed({}, everything | parts, {})


class Backend:
    def __init__(self, status: int = 200, body: str = '{"ok":1}', **headers: str) -> None:
        self.answer = IntegrationAnswer(status, headers, body.encode())
        self.asked: list[IntegrationRequest] = []

    def __call__(self, request: IntegrationRequest) -> IntegrationAnswer:
        self.asked.append(request)
        return self.answer


def ask(
    api: Deployed | None,
    backend: Callable[[IntegrationRequest], IntegrationAnswer],
    body: bytes = b"{}",
    path: str = "/jobs",
    **headers: str,
) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request("POST", "v1", path, {"q": "1"}, sent, body, "127.0.0.1", "request-id", 1_795_415_032_123)
    integrations = Integrations({"AWS": backend, "MOCK": call_mock})
    return Gateway("api", lambda name: api, Edge("test"), integrations).answer(request)


class TestIntegration:
    def test_the_template_of_the_content_type_is_used(self) -> None:
        backend = Backend()
        templates = {"text/plain": "text: $input.body", "application/json": "json: $input.body"}
        api = stage(integration(requestTemplates=templates, requestParameters={
            "integration.request.header.Content-Type": "'text/x'",
            "integration.request.header.X-Origin": "method.request.header.Origin",
            "integration.request.header.X-Query": "method.request.querystring.q",
            "integration.request.header.X-Id": "context.requestId",
            "integration.request.header.X-None": "method.request.header.None",
        }))  # fmt: skip
        ask(api, backend, b"a", content_type="Text/Plain; charset=utf-8", origin="o")
        ask(api, backend, b"b")
        assert [asked.body for asked in backend.asked] == ["text: a", "json: b"]
        assert backend.asked[0].headers == {
            "Content-Type": "text/x",
            "X-Origin": "o",
            "X-Query": "1",
            "X-Id": "request-id",
        }

    @pytest.mark.parametrize(
        ("behavior", "templates", "status"),
        [
            ("NEVER", {"application/json": "x"}, 415),
            ("NEVER", {}, 415),
            ("WHEN_NO_TEMPLATES", {"application/json": "x"}, 415),
            ("WHEN_NO_TEMPLATES", {}, 200),
            ("WHEN_NO_MATCH", {"application/json": "x"}, 200),
        ],
    )
    def test_passthrough(self, behavior: str, templates: dict[str, str], status: int) -> None:
        backend = Backend()
        api = stage(integration(passthroughBehavior=behavior, requestTemplates=templates))
        assert ask(api, backend, b"as is", content_type="text/csv").status == status
        assert [asked.body for asked in backend.asked] == (["as is"] if status == 200 else [])

    def test_binary_bodies_become_base64_and_other_bytes_replacement_characters(self) -> None:
        backend = Backend()
        templates = {"image/png": "$input.body", "text/plain": "$input.body"}
        api = stage(integration(requestTemplates=templates, contentHandling="CONVERT_TO_TEXT"))
        ask(api, backend, b"\xff\x00", content_type="image/png")
        ask(api, backend, b"a\xff", content_type="text/plain")
        assert [asked.body for asked in backend.asked] == ["/wA=", "a\ufffd"]

    @pytest.mark.parametrize(("status", "expected"), [(200, 202), (299, 202), (404, 400), (500, 502), (2000, 502)])
    def test_responses_are_selected_by_the_whole_status(self, status: int, expected: int) -> None:
        responses = {
            "202": {"statusCode": "202", "selectionPattern": r"2\d{2}"},
            "400": {"statusCode": "400", "selectionPattern": r"4\d{2}"},
            "502": {"statusCode": "502", "selectionPattern": ""},
        }
        assert ask(stage(integration(integrationResponses=responses)), Backend(status)).status == expected

    def test_without_a_response_for_the_status_it_is_a_configuration_error(self) -> None:
        responses = {"202": {"statusCode": "202", "selectionPattern": r"2\d{2}"}}
        assert ask(stage(integration(integrationResponses=responses)), Backend(500)).status == 500

    def test_overrides_and_mapped_headers(self) -> None:
        template = "#set($context.responseOverride.status = 404)#set($context.responseOverride.header.X-A = 'over')body"
        parameters = {
            "method.response.header.X-A": "'a'",
            "method.response.header.X-B": "integration.response.header.Etag",
        }
        response = {"statusCode": "200", "responseTemplates": {"text/html": template}, "responseParameters": parameters}
        answer = ask(stage(integration(integrationResponses={"200": response})), Backend(etag="e"))
        assert (answer.status, answer.body) == (404, b"body")
        assert answer.headers == {
            "Content-Type": "text/html",
            "X-A": "over",
            "X-B": "e",
            "x-amzn-RequestId": "request-id",
        }

    @pytest.mark.parametrize("status", ["'x'", "99", "600"])
    def test_a_status_that_is_none_is_ignored(self, status: str) -> None:
        template = f"#set($context.responseOverride.status = {status})"
        response = {"statusCode": "201", "responseTemplates": {"application/json": template}}
        assert ask(stage(integration(integrationResponses={"201": response})), Backend()).status == 201

    @pytest.mark.parametrize(
        ("handling", "accept", "body", "expected"),
        [
            (None, "text/html, image/png", "aGk=", b"aGk="),
            (None, "image/png", "aGk=", b"hi"),
            ("CONVERT_TO_TEXT", "image/png", "aGk=", b"aGk="),
            ("CONVERT_TO_BINARY", "", "aGk=", b"hi"),
        ],
    )
    def test_answers_to_callers_who_accept_binary(
        self, handling: str | None, accept: str, body: str, expected: bytes
    ) -> None:
        response = {"statusCode": "200", "contentHandling": handling}
        api = stage(integration(integrationResponses={"200": response}))
        assert ask(api, Backend(body=body), accept=accept).body == expected

    def test_text_that_is_no_base64_is_a_configuration_error(self) -> None:
        api = stage(integration(integrationResponses={"200": {"statusCode": "200"}}))
        assert ask(api, Backend(body="{}"), accept="image/png").status == 500

    def test_a_broken_template_is_no_traceback(self) -> None:
        api = stage(integration(requestTemplates={"application/json": "$input.path('$..[')"}))
        assert ask(api, Backend()).status == 500

    def test_a_broken_backend_is_no_traceback(self) -> None:
        def broken(request: IntegrationRequest) -> IntegrationAnswer:
            raise ZeroDivisionError

        answer = ask(stage(integration()), broken)
        assert (answer.status, json.loads(answer.body)["error"]) == (500, "InternalError")

    @pytest.mark.parametrize(
        "found", [None, {"type": "HTTP"}, {"type": "MOCK", "requestTemplates": {"application/json": "no"}}]
    )
    def test_what_does_not_run_here(self, found: dict[str, Any] | None) -> None:
        assert ask(stage(found), Backend()).status == 500

    def test_a_mock(self) -> None:
        response = {"204": {"statusCode": "204", "selectionPattern": "204"}}
        templates = {"application/json": '{"statusCode": 204}'}
        mock = {"type": "MOCK", "requestTemplates": templates, "integrationResponses": response}
        assert ask(stage(mock), Backend()).status == 204


class TestOwnAnswers:
    def test_no_such_stage_or_route(self) -> None:
        assert ask(None, Backend()).status == 403
        assert json.loads(ask(stage(integration()), Backend(), path="/x").body) == {
            "message": "Missing Authentication Token"
        }

    def test_a_body_over_the_limit(self) -> None:
        assert ask(stage(integration()), Backend(), b"x" * (MAX_REQUEST_BYTES + 1)).status == 413
        assert ask(stage(integration()), Backend(), b"x" * MAX_REQUEST_BYTES).status == 200

    @pytest.mark.parametrize("kind", ["MISSING_AUTHENTICATION_TOKEN", "DEFAULT_4XX"])
    def test_customised(self, kind: str) -> None:
        template = '{"e":"${context.error.responseType}","m":$context.error.messageString$context.no.x}'
        custom = {
            "responseType": kind,
            "statusCode": "404",
            "responseParameters": {
                "gatewayresponse.header.X-Origin": "method.request.header.Origin",
                "gatewayresponse.header.X-Path": "context.path",
            },
            "responseTemplates": {"application/json": template},
        }
        answer = ask(stage(integration(), gatewayResponses={"item": [custom]}), Backend(), path="/x", origin="o")
        assert answer.status == 404
        assert json.loads(answer.body) == {"e": "MISSING_AUTHENTICATION_TOKEN", "m": "Missing Authentication Token"}
        assert (answer.headers["X-Origin"], answer.headers["X-Path"]) == ("o", "/v1/x")


class Http:
    """Stands in for SignedHttp."""

    def __init__(self, answer: IntegrationAnswer | Exception) -> None:
        self.answer = answer
        self.sent: list[tuple[Any, ...]] = []

    def send(
        self, service: str, method: str, path: str, *, headers: Any, body: bytes = b"", timeout: float
    ) -> IntegrationAnswer:
        self.sent.append((service, method, path, dict(headers), body, timeout))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def service_call(uri: str, body: str = "Action=SendMessage&MessageBody=x") -> IntegrationRequest:
    return IntegrationRequest(uri, "POST", {"Content-Type": "t"}, body, 29.0)


class TestServices:
    def test_sqs_answers_become_json(self) -> None:
        xml = (
            b'<?xml version="1.0"?><SendMessageResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/">'
            b"<SendMessageResult><MessageId>m</MessageId></SendMessageResult></SendMessageResponse>"
        )
        http = Http(IntegrationAnswer(200, {}, xml))
        answer = AwsServices(http)(service_call(SQS_URI))  # type: ignore[arg-type]
        assert json.loads(answer.body) == {"SendMessageResponse": {"SendMessageResult": {"MessageId": "m"}}}
        body = b"Action=SendMessage&MessageBody=x"
        assert http.sent == [("sqs", "POST", "/123456789012/queue", {"Content-Type": "t"}, body, 29.0)]

    def test_sqs_errors_become_json(self) -> None:
        xml = (
            b"<ErrorResponse><Error><Code>C</Code><Message>M</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        )
        answer = AwsServices(Http(IntegrationAnswer(400, {}, xml)))(service_call(SQS_URI))  # type: ignore[arg-type]
        assert (answer.status, json.loads(answer.body)) == (
            400,
            {"Error": {"Code": "C", "Message": "M"}, "RequestId": "r"},
        )

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ("%00", "InvalidMessageContents"),
            ("%EF%BF%BF", "InvalidMessageContents"),
            ("x" * 1_048_570, "InvalidParameterValue"),
        ],
    )
    def test_what_sqs_refuses_is_not_sent(self, message: str, code: str) -> None:
        http = Http(IntegrationAnswer(200, {}, b""))
        body = f"Action=SendMessage&MessageBody={message}&MessageAttribute.1.Name=n&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v"  # noqa: E501
        answer = AwsServices(http)(service_call(SQS_URI, body))  # type: ignore[arg-type]
        assert (answer.status, json.loads(answer.body)["Error"]["Code"]) == (400, code)
        assert http.sent == []

    def test_dynamodb(self) -> None:
        http = Http(IntegrationAnswer(200, {}, b"{}"))
        uri = "arn:aws:apigateway:eu-west-1:dynamodb:action/GetItem"
        assert AwsServices(http)(service_call(uri, "{}")).body == b"{}"  # type: ignore[arg-type]
        assert http.sent[0][3]["X-Amz-Target"] == "DynamoDB_20120810.GetItem"

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            (urllib3.exceptions.ReadTimeoutError(None, "", "slow"), "INTEGRATION_TIMEOUT"),  # type: ignore[arg-type]
            (urllib3.exceptions.ProtocolError("gone"), "INTEGRATION_FAILURE"),
        ],
    )
    def test_no_answer(self, failure: Exception, kind: str) -> None:
        with pytest.raises(GatewayError) as raised:
            AwsServices(Http(failure))(service_call(SQS_URI))  # type: ignore[arg-type]
        assert raised.value.kind == kind

    @pytest.mark.parametrize("uri", ["", "arn:aws:apigateway:eu-west-1:s3:path/x", "http://x"])
    def test_other_services_do_not_run_here(self, uri: str) -> None:
        with pytest.raises(GatewayError) as raised:
            AwsServices(Http(IntegrationAnswer(200, {}, b"")))(service_call(uri))  # type: ignore[arg-type]
        assert raised.value.kind == "API_CONFIGURATION_ERROR"
