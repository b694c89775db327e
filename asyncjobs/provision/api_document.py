"""The REST API as one OpenAPI document: what `import_rest_api` takes, and what `GET /openapi.json` shows.

`templates/api/openapi.json` is the skeleton, each mapping template a `.vtl` file beside it. Placeholders are
written `@@NAME@@`; `@@vtl:FILE@@` is a mapping template's text, `@@include:FILE@@` on a line of its own in a `.vtl`
file takes in one from `include/`, with what stands in brackets after its name for its `@@ROOT@@`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from asyncjobs.assets import read_template
from asyncjobs.errors import ConfigError
from asyncjobs.jobs.record import SHARDS
from asyncjobs.names import Names

TEXT_TYPES = (
    "application/json",
    "application/ld+json",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "text/plain",
    "text/csv",
    "text/html",
    "text/markdown",
    "text/tab-separated-values",
    "text/xml",
    "text/yaml",
)
BINARY_TYPES = (
    "application/octet-stream",
    "application/gzip",
    "application/msword",
    "application/pdf",
    "application/rtf",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/x-tar",
    "application/zip",
    "audio/mpeg",
    "audio/wav",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/tiff",
    "image/webp",
    "video/mp4",
)

# An id may be this much ahead of API Gateway's clock; clients mint ids with clocks of their own.
CLOCK_SKEW_SECONDS = 60

# API Gateway's limit for one mapping template ("Maximum size of a mapping template", 300 KB).
MAX_TEMPLATE_BYTES = 300 * 1024

_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.\-\[\]:]+")
_EXPOSED_HEADERS = "'Location,Retry-After,x-amzn-RequestId'"
_INCLUDE = re.compile(r"@@include:([a-z-]+\.vtl)(?:\((\w+)\))?@@")
_PLACEHOLDER = re.compile(r"@@([A-Z_]+)@@")

Document = dict[str, Any]


@dataclass(frozen=True)
class ApiSettings:
    """What `[api]` and `[retention]` of asyncjobs.toml say about the API.

    Args:
        auth: Who may call: holders of an API key, callers allowed by IAM, or everybody.
        stage: The deployment stage, first segment of every path.
        cors_origins: Origins whose pages may call, such as `https://app.example.com`, or `*`.
        queue_retention_seconds: How long the queue keeps messages; an id older than this is no longer QUEUED.
        result_seconds: How long a record is kept after its job's end.
        max_message_bytes: What SQS takes, body and attributes together.
    """

    auth: Literal["api-key", "iam", "none"] = "api-key"
    stage: str = "v1"
    cors_origins: tuple[str, ...] = ("*",)
    queue_retention_seconds: int = 4 * 24 * 3600
    result_seconds: int = 30 * 24 * 3600
    max_message_bytes: int = 1_048_576


def render(names: Names, settings: ApiSettings, page: str) -> Document:
    """The document for one `import_rest_api` call.

    Args:
        page: The HTML that `GET /` answers.

    Raises:
        ConfigError: An origin that is none, or a page too large for a mapping template.
    """
    _check_origins(settings.cors_origins)
    values = _values(names, settings)
    literals = {
        "PAGE": _set_header("Content-Security-Policy", content_security_policy(page)) + vtl_literal(page),
        "PUBLIC_DOCUMENT": vtl_literal(json.dumps(public_document(names, settings), separators=(",", ":"))),
    }
    document: Document = _fill(_skeleton(), values | literals)
    document.pop("components")
    document["x-amazon-apigateway-binary-media-types"] = list(BINARY_TYPES)
    schemes = _security_schemes(settings.auth)
    if schemes:
        document["components"] = {"securitySchemes": schemes}
    for operation in _operations(document):
        _complete_operation(operation, settings)
    for response in document["x-amazon-apigateway-gateway-responses"].values():
        _allow_origin_of_gateway_response(response, settings.cors_origins)
    return document


def public_document(names: Names, settings: ApiSettings) -> Document:
    """The OpenAPI 3 document for users of the API: nothing of AWS's extensions, accounts or roles."""
    document: Document = _without_extensions(_fill(_skeleton(), _values(names, settings)))
    document["servers"] = [{"url": f"/{settings.stage}"}]
    schemes = _without_extensions(_security_schemes(settings.auth))
    if schemes:
        document["components"]["securitySchemes"] = schemes
    for operation in _operations(document):
        _secure(operation, settings.auth)
    return document


def mapping_template(name: str, values: Mapping[str, str | int]) -> str:
    """One mapping template as API Gateway gets it: includes taken in, placeholders filled, on a single line.

    A single line, because what Velocity does with line ends and indentation around directives differs between its
    versions, and a line end inside a form-urlencoded body would become part of a parameter.
    """
    return _substitute(_folded(name), values)


@cache  # one template stands at many content types
def _folded(name: str) -> str:
    lines = (line.strip() for line in _included(read_template(f"api/{name}")).splitlines())
    kept = (line for line in lines if line and not line.startswith("##"))
    # `#else` before a word would read as another directive's name.
    return "".join(re.sub(r"^#(else|end)\Z", r"#{\1}", line) for line in kept)


def vtl_literal(text: str) -> str:
    """A mapping template that prints `text` unchanged, whatever it holds.

    `$` and `#` start references and directives, and a backslash before them takes their meaning away and vanishes, so
    all three are printed from variables. The empty `${E}` keeps Velocity from swallowing a line end after them.
    """
    # '\' alone would be a backslash before the closing quote to some parsers, hence the blank and trim().
    prelude = r"#set($D='$')#set($H='#')#set($B='\ ')#set($B=$B.trim())#set($E='')${E}"
    escapes = {"$": "${D}", "#": "${H}", "\\": "${B}"}
    template = prelude + re.sub(r"[$#\\]", lambda match: escapes[match[0]], text)
    size = len(template.encode())
    if size > MAX_TEMPLATE_BYTES:
        raise ConfigError(
            "A page of the API is too large.",
            why=f"It makes a mapping template of {size} bytes, and API Gateway takes {MAX_TEMPLATE_BYTES}.",
            hint="Make the page smaller.",
        )
    return template


def content_security_policy(page: str) -> str:
    """The policy `page` is served with: its own inline scripts by hash, its styles, and requests to this API only."""
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", page, re.DOTALL | re.IGNORECASE)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts if script]
    script_src = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {script_src}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _skeleton() -> Document:
    document: Document = json.loads(read_template("api/openapi.json"))
    return document


def _included(text: str) -> str:
    def take_in(match: re.Match[str]) -> str:
        return _included(read_template(f"api/include/{match[1]}").replace("@@ROOT@@", match[2] or ""))

    return _INCLUDE.sub(take_in, text)


def _substitute(text: str, values: Mapping[str, str | int]) -> str:
    return _PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)


def _values(names: Names, settings: ApiSettings) -> dict[str, str | int]:
    # API Gateway's answer to an unsigned request and to an unknown path is the same one, so with IAM it cannot be 404.
    signed = settings.auth == "iam"
    return {
        "PARTITION": names.partition,
        "REGION": names.region,
        "ACCOUNT": names.account,
        "QUEUE": names.queue,
        "TABLE": names.table,
        "ROLE_ARN": names.role_arn(names.api_role),
        "API_NAME": names.rest_api,
        "CLOCK_SKEW_SECONDS": CLOCK_SKEW_SECONDS,
        "CLOCK_SKEW_MS": CLOCK_SKEW_SECONDS * 1000,
        "RETENTION_SECONDS": settings.queue_retention_seconds,
        "RETENTION_MS": settings.queue_retention_seconds * 1000,
        "RESULT_SECONDS": settings.result_seconds,
        "SHARDS": SHARDS,
        "MAX_MESSAGE_BYTES": settings.max_message_bytes,
        "NO_ROUTE_STATUS": "403" if signed else "404",
        "NO_ROUTE_CODE": "Forbidden" if signed else "NotFound",
        "NO_ROUTE_MESSAGE": "The request is not signed, or there is nothing at this path."
        if signed
        else "There is nothing at this path for this method. GET /openapi.json lists what there is.",
    }


def _fill(node: Any, values: Mapping[str, str | int]) -> Any:
    """The skeleton with every placeholder replaced, and the entries for content types written out."""
    if isinstance(node, dict):
        filled: Document = {}
        for key, value in node.items():
            keys = {"@@TEXT_TYPES@@": TEXT_TYPES, "@@BINARY_TYPES@@": BINARY_TYPES}.get(key, (key,))
            filled |= {each: _fill(value, values) for each in keys}
        return filled
    if isinstance(node, list):
        return [_fill(each, values) for each in node]
    if not isinstance(node, str):
        return node
    template = re.fullmatch(r"@@vtl:(.+)@@", node)
    if template:
        return mapping_template(template[1], values)
    return _PLACEHOLDER.sub(lambda match: str(values.get(match[1], match[0])), node)


def _operations(document: Document) -> list[Document]:
    return [
        operation for path in document["paths"].values() for method, operation in path.items() if method != "parameters"
    ]


def _security_schemes(auth: str) -> Document:
    if auth == "api-key":
        return {"apiKey": {"type": "apiKey", "name": "x-api-key", "in": "header"}}
    if auth == "iam":
        scheme = {"type": "apiKey", "name": "Authorization", "in": "header"}
        return {"sigv4": scheme | {"x-amazon-apigateway-authtype": "awsSigv4"}}
    return {}


def _secure(operation: Document, auth: str) -> None:
    scheme = {"api-key": "apiKey", "iam": "sigv4"}.get(auth)
    operation.setdefault("security", [{scheme: []}] if scheme else [])


def _complete_operation(operation: Document, settings: ApiSettings) -> None:
    """What every operation needs alike: security, CORS, text answers, and each header it sends declared.

    Bodies are left out: API Gateway would make a model of each, and nothing here validates against one.
    """
    _secure(operation, settings.auth)
    operation.pop("requestBody", None)
    answers = operation["x-amazon-apigateway-integration"]["responses"].values()
    for answer in answers:
        # Without this, a caller's `Accept: image/png` has API Gateway decode our JSON as base64.
        answer["contentHandling"] = "CONVERT_TO_TEXT"
        parameters = answer.setdefault("responseParameters", {})
        parameters |= {f"method.response.header.{name}": value for name, value in _cors(settings.cors_origins).items()}
        answer["responseTemplates"] = {
            media_type: _origin_template(settings.cors_origins) + template
            for media_type, template in answer["responseTemplates"].items()
        }
    declared = {parameter.rsplit(".", 1)[1] for answer in answers for parameter in answer["responseParameters"]}
    for response in operation["responses"].values():
        response.pop("content", None)
        headers = declared | set(response.get("headers", ()))
        response["headers"] = {name: {"schema": {"type": "string"}} for name in sorted(headers)}


def _check_origins(origins: tuple[str, ...]) -> None:
    bad = [origin for origin in origins if not _ORIGIN.fullmatch(origin)]
    if bad or not origins or ("*" in origins and len(origins) > 1):
        raise ConfigError(
            f"api.cors_origins: {', '.join(bad or origins) or 'nothing'} cannot be used.",
            why="Each is a scheme and host such as https://app.example.com, or the list is a single *.",
        )


def _cors(origins: tuple[str, ...]) -> dict[str, str]:
    headers = {"Access-Control-Allow-Origin": f"'{origins[0]}'", "Access-Control-Expose-Headers": _EXPOSED_HEADERS}
    return headers if len(origins) == 1 else headers | {"Vary": "'Origin'"}


def _origin_template(origins: tuple[str, ...]) -> str:
    """Puts the caller's origin in place of the first allowed one, if it is among several allowed."""
    if len(origins) == 1:
        return ""
    allowed = " || ".join(f"$caller == '{origin}'" for origin in origins)
    return (
        "#foreach($header in $input.params().header.keySet())#set($lowerHeader = $header.toLowerCase())"
        "#if($lowerHeader == 'origin')"
        '#set($caller = "$!input.params().header.get($header)")'
        f"#if({allowed})#set($context.responseOverride.header.Access-Control-Allow-Origin = $caller)#{{end}}"
        "#{end}#{end}"
    )


def _allow_origin_of_gateway_response(response: Document, origins: tuple[str, ...]) -> None:
    """Gateway responses have no logic to pick an origin with; with several, the caller's own is echoed.

    That opens nothing: these answers hold a code and a fixed sentence, and no credentials travel with CORS here.
    """
    headers = _cors(origins)
    if len(origins) > 1:
        headers["Access-Control-Allow-Origin"] = "method.request.header.Origin"
    parameters = response.setdefault("responseParameters", {})
    parameters |= {f"gatewayresponse.header.{name}": value for name, value in headers.items()}


def _set_header(name: str, value: str) -> str:
    return f'#set($context.responseOverride.header.{name} = "{value}")'


def _without_extensions(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_extensions(value) for key, value in node.items() if not key.startswith("x-amazon-")}
    return [_without_extensions(each) for each in node] if isinstance(node, list) else node
