from __future__ import annotations

import json
import re
from typing import Any

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.names import Names
from asyncjobs.provision.api_document import (
    BINARY_TYPES,
    MAX_TEMPLATE_BYTES,
    TEXT_TYPES,
    ApiSettings,
    content_security_policy,
    public_document,
    render,
    vtl_literal,
)

NAMES = Names("demo", "123456789012", "eu-west-1")
DATA = [("/jobs", "post"), ("/jobs/{id}", "put"), ("/jobs/{id}", "get"), ("/jobs/{id}", "delete")]
OPEN = [("/", "get"), ("/openapi.json", "get"), ("/jobs", "options"), ("/jobs/{id}", "options")]


def document(page: str = "<p>hello</p>", **settings: Any) -> dict[str, Any]:
    return render(NAMES, ApiSettings(**settings), page)


def operations(rendered: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in rendered["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def integrations(rendered: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation["x-amazon-apigateway-integration"] for _, _, operation in operations(rendered)]


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in json.dumps(document())
    assert "@@" not in json.dumps(public_document(NAMES, ApiSettings()))


def test_no_integration_passes_a_body_through() -> None:
    assert {integration["passthroughBehavior"] for integration in integrations(document())} == {"never"}


def test_every_listed_type_has_a_template_and_no_other() -> None:
    for path, method in DATA[:2]:
        integration = document()["paths"][path][method]["x-amazon-apigateway-integration"]
        assert set(integration["requestTemplates"]) == {*TEXT_TYPES, *BINARY_TYPES}
        assert integration["contentHandling"] == "CONVERT_TO_TEXT"
    assert document()["x-amazon-apigateway-binary-media-types"] == list(BINARY_TYPES)
    assert not set(TEXT_TYPES) & set(BINARY_TYPES)


def test_only_a_2xx_of_the_queue_is_a_202() -> None:
    for path, method in DATA[:2]:
        responses = document()["paths"][path][method]["x-amazon-apigateway-integration"]["responses"]
        accepted = [pattern for pattern, response in responses.items() if response["statusCode"] == "202"]
        assert accepted == [r"2\d{2}"]
        assert responses["default"]["statusCode"] >= "500"
        for status in ("400", "403", "404", "413", "429", "499"):
            assert len([p for p in responses if p != "default" and re.fullmatch(p, status)]) == 1


def test_status_codes_of_one_integration_differ() -> None:
    # API Gateway keeps integration responses by status code: of two alike one is lost.
    for integration in integrations(document()):
        codes = [response["statusCode"] for response in integration["responses"].values()]
        assert len(codes) == len(set(codes))


def test_every_header_that_is_mapped_is_declared() -> None:
    for _, _, operation in operations(document(cors_origins=("https://a.example", "https://b.example"))):
        for response in operation["x-amazon-apigateway-integration"]["responses"].values():
            declared = set(operation["responses"][response["statusCode"]]["headers"])
            mapped = {name.removeprefix("method.response.header.") for name in response["responseParameters"]}
            assert mapped <= declared
            assert "Access-Control-Allow-Origin" in mapped


def test_no_response_is_decoded_as_binary() -> None:
    for integration in integrations(document()):
        assert {each["contentHandling"] for each in integration["responses"].values()} == {"CONVERT_TO_TEXT"}


@pytest.mark.parametrize(("auth", "security"), [("api-key", [{"apiKey": []}]), ("iam", [{"sigv4": []}]), ("none", [])])
def test_security(auth: str, security: list[Any]) -> None:
    rendered = document(auth=auth)
    for path, method in DATA:
        assert rendered["paths"][path][method]["security"] == security
    for path, method in OPEN:
        assert rendered["paths"][path][method]["security"] == []
    assert ("components" in rendered) is (auth != "none")


@pytest.mark.parametrize(("auth", "status"), [("api-key", "404"), ("none", "404"), ("iam", "403")])
def test_an_unknown_route(auth: str, status: str) -> None:
    responses = document(auth=auth)["x-amazon-apigateway-gateway-responses"]
    assert responses["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == status


def test_gateway_responses_are_errors_with_cors() -> None:
    for kind, response in document()["x-amazon-apigateway-gateway-responses"].items():
        template = response["responseTemplates"]["application/json"]
        body = json.loads(template.replace("$context.error.messageString", '"m"'))
        assert set(body) == {"error", "message"}, kind
        assert response["responseParameters"]["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"


def test_several_origins() -> None:
    rendered = document(cors_origins=("https://a.example", "https://b.example"))
    integration = rendered["paths"]["/jobs"]["options"]["x-amazon-apigateway-integration"]
    parameters = integration["responses"]["default"]["responseParameters"]
    assert parameters["method.response.header.Access-Control-Allow-Origin"] == "'https://a.example'"
    assert parameters["method.response.header.Vary"] == "'Origin'"
    gateway = rendered["x-amazon-apigateway-gateway-responses"]["THROTTLED"]["responseParameters"]
    assert gateway["gatewayresponse.header.Access-Control-Allow-Origin"] == "method.request.header.Origin"


@pytest.mark.parametrize("origins", [(), ("*", "https://a.example"), ("a.example",), ("https://a'b",), ("https://a/",)])
def test_origins_that_are_none(origins: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="cors_origins"):
        document(cors_origins=origins)


def test_a_page_too_large_for_a_template() -> None:
    with pytest.raises(ConfigError, match="too large"):
        document("x" * (MAX_TEMPLATE_BYTES + 1))


def test_the_role_and_the_arns_are_the_stacks() -> None:
    china = Names("demo", "123456789012", "cn-north-1")
    rendered = render(china, ApiSettings(), "")
    integration = rendered["paths"]["/jobs"]["post"]["x-amazon-apigateway-integration"]
    assert integration["uri"] == "arn:aws-cn:apigateway:cn-north-1:sqs:path/123456789012/asyncjobs-demo"
    assert integration["credentials"] == china.role_arn(china.api_role)


def test_the_public_document_tells_nothing_of_the_account() -> None:
    for auth in ("api-key", "iam", "none"):
        text = json.dumps(public_document(NAMES, ApiSettings(auth=auth, stage="prod")))
        assert not re.search(r"x-amazon|arn:aws|123456789012|eu-west-1|\.vtl", text)
        assert json.loads(text)["servers"] == [{"url": "/prod"}]


def test_the_public_document_is_open_api() -> None:
    public = public_document(NAMES, ApiSettings())
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(public))
    assert references
    for reference in references:
        node: Any = public
        for step in reference.split("/"):
            node = node[step]
    assert set(public["paths"]["/jobs"]["post"]["requestBody"]["content"]) == {*TEXT_TYPES, *BINARY_TYPES}


def test_the_page_runs_its_own_scripts_only() -> None:
    policy = content_security_policy("<script>a</script><SCRIPT type='module'>b\n</SCRIPT><script src='x'></script>")
    assert policy.count("'sha256-") == 2
    assert "'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='" in policy
    assert "connect-src 'self'" in policy


def test_a_literal_holds_no_directive() -> None:
    literal = vtl_literal("$x #if(\\$y)")
    assert literal.endswith("${E}${D}x ${H}if(${B}${D}y)")
