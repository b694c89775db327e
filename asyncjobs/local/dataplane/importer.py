"""Imports an OpenAPI document into an emulated API Gateway by the calls that build an API piece by piece.

The emulator's own ImportRestApi ignores the document, and it has no PutRestApi. What is understood here is what API
Gateway's importer takes of OpenAPI 3: paths, methods, parameters, security, responses' headers, and the extensions for
integrations, request validators, gateway responses, binary media types and the API key source.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from asyncjobs.local.dataplane.model import Json

# Calls the control API with a method, a path and a document; raises ImportFailed when it refuses.
Call = Callable[[str, str, Json | None], Awaitable[Json]]

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
_EXTENSION = "x-amazon-apigateway-"


class ImportFailed(Exception):
    """The control API refused a step, or the document is not one that can be imported."""


class _Target(NamedTuple):
    call: Call
    base: str
    validators: Mapping[str, str]
    document: Json


async def import_document(call: Call, rest_api_id: str, document: Json) -> None:
    """Replaces all of the API by the document.

    Raises:
        ImportFailed: It cannot be imported; the API may be left in part.
    """
    if not isinstance(document.get("paths"), dict):
        raise ImportFailed("The document has no paths.")
    base = f"/restapis/{rest_api_id}"
    await _clear(call, base)
    await call("PATCH", base, {"patchOperations": _api_properties(document)})
    validators = {
        name: (await call("POST", f"{base}/requestvalidators", {"name": name, **validator}))["id"]
        for name, validator in document.get(f"{_EXTENSION}request-validators", {}).items()
    }
    for kind, response in document.get(f"{_EXTENSION}gateway-responses", {}).items():
        await call("PUT", f"{base}/gatewayresponses/{kind}", _gateway_response(response))
    target = _Target(call, base, validators, document)
    resources = {"/": await _root(call, base)}
    for path, item in document["paths"].items():
        resource = await _resource(target, resources, path)
        for method in _METHODS:
            if method in item:
                await _put_method(target, resource, method.upper(), item, item[method])


def _api_properties(document: Json) -> list[Json]:
    properties = {
        "name": document.get("info", {}).get("title"),
        "version": document.get("info", {}).get("version"),
        "binaryMediaTypes": document.get(f"{_EXTENSION}binary-media-types", []),
        "apiKeySource": document.get(f"{_EXTENSION}api-key-source", "HEADER"),
    }
    return [
        {"op": "replace", "path": f"/{name}", "value": value} for name, value in properties.items() if value is not None
    ]


async def _clear(call: Call, base: str) -> None:
    for resource in (await call("GET", f"{base}/resources?limit=500", None)).get("item") or []:
        if resource["path"] == "/":
            for method in list(resource.get("resourceMethods") or {}):
                await call("DELETE", f"{base}/resources/{resource['id']}/methods/{method}", None)
        else:
            await call("DELETE", f"{base}/resources/{resource['id']}", None)
    for validator in (await call("GET", f"{base}/requestvalidators?limit=500", None)).get("item") or []:
        await call("DELETE", f"{base}/requestvalidators/{validator['id']}", None)
    for response in (await call("GET", f"{base}/gatewayresponses", None)).get("item") or []:
        if not response.get("defaultResponse"):
            await call("DELETE", f"{base}/gatewayresponses/{response['responseType']}", None)


async def _root(call: Call, base: str) -> str:
    resources = (await call("GET", f"{base}/resources?limit=500", None)).get("item") or []
    root: str = next(resource["id"] for resource in resources if resource["path"] == "/")
    return root


async def _resource(target: _Target, resources: dict[str, str], path: str) -> str:
    """The resource's id; it and those above it are made if they are not there."""
    if path not in resources:
        parent, _, part = path.rpartition("/")
        above = await _resource(target, resources, parent or "/")
        made = await target.call("POST", f"{target.base}/resources/{above}", {"pathPart": part})
        resources[path] = made["id"]
    return resources[path]


async def _put_method(target: _Target, resource: str, method: str, item: Json, operation: Json) -> None:
    path = f"{target.base}/resources/{resource}/methods/{method}"
    await target.call("PUT", path, _method(target, item, operation))
    for status, response in operation.get("responses", {}).items():
        parameters = {f"method.response.header.{name}": False for name in response.get("headers", {})}
        await target.call("PUT", f"{path}/responses/{status}", {"responseParameters": parameters})
    integration = operation.get(f"{_EXTENSION}integration")
    if integration is None:
        raise ImportFailed(f"{method} has no {_EXTENSION}integration.")
    await target.call("PUT", f"{path}/integration", _integration(integration))
    for pattern, response in integration.get("responses", {}).items():
        document = _integration_response(pattern, response)
        await target.call("PUT", f"{path}/integration/responses/{quote(str(response['statusCode']))}", document)


def _method(target: _Target, item: Json, operation: Json) -> Json:
    document = target.document
    validator = operation.get(f"{_EXTENSION}request-validator", document.get(f"{_EXTENSION}request-validator"))
    parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
    places = {"path": "path", "query": "querystring", "header": "header"}
    return {
        **_security(document, operation.get("security", document.get("security")) or []),
        "operationName": operation.get("operationId", ""),
        "requestValidatorId": target.validators.get(validator) if validator else None,
        "requestParameters": {
            f"method.request.{places[each['in']]}.{each['name']}": bool(each.get("required"))
            for each in parameters
            if each["in"] in places
        },
    }


def _security(document: Json, requirements: list[Json]) -> Json:
    schemes = document.get("components", {}).get("securitySchemes", {})
    named = [schemes.get(name, {}) for requirement in requirements for name in requirement]
    signed = any(scheme.get(f"{_EXTENSION}authtype") == "awsSigv4" for scheme in named)
    keyed = any(scheme.get("type") == "apiKey" and scheme.get("name", "").lower() == "x-api-key" for scheme in named)
    return {"authorizationType": "AWS_IAM" if signed else "NONE", "apiKeyRequired": keyed}


def _integration(extension: Json) -> Json:
    copied = (
        "uri",
        "httpMethod",
        "credentials",
        "requestParameters",
        "requestTemplates",
        "contentHandling",
        "timeoutInMillis",
    )
    return {
        "type": extension["type"].upper(),
        "passthroughBehavior": extension.get("passthroughBehavior", "WHEN_NO_MATCH").upper(),
        **{name: extension[name] for name in copied if name in extension},
    }


def _integration_response(pattern: str, extension: Json) -> Json:
    copied = ("responseParameters", "responseTemplates", "contentHandling")
    return {
        "selectionPattern": "" if pattern == "default" else pattern,
        **{name: extension[name] for name in copied if name in extension},
    }


def _gateway_response(extension: Json) -> Json:
    response: dict[str, Any] = {
        name: extension[name] for name in ("responseParameters", "responseTemplates") if name in extension
    }
    if "statusCode" in extension:
        response["statusCode"] = str(extension["statusCode"])
    return response
