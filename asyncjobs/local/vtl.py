"""Renders API Gateway mapping templates: Velocity through airspeed, with `$input`, `$util`, `$context` as the API
Gateway developer guide defines them ("Mapping template reference").

airspeed runs Velocity on Python values, so the Java methods that templates call on strings, numbers and maps are
supplied here, with Java's meaning where Python's differs.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import airspeed
from airspeed.operators import __additional_methods__ as java_methods

# In java.util.regex a replacement names groups as $1, in Python as \1 (\g<1> before a digit).
_JAVA_GROUP = re.compile(r"\\?\$(\d)|\\\\")


def _replace_all(text: str, pattern: str, replacement: str) -> str:
    return re.sub(pattern, _JAVA_GROUP.sub(lambda m: rf"\g<{m[1]}>" if m[1] else r"\\", replacement), text)


def _compare(text: str, other: str) -> int:
    return (text > other) - (text < other)


java_methods[str].update(
    {
        "compareTo": _compare,
        "equals": lambda text, other: text == other,
        "equalsIgnoreCase": lambda text, other: text.lower() == other.lower(),
        "indexOf": lambda text, part: text.find(part),
        "isEmpty": lambda text: text == "",
        "endsWith": lambda text, suffix: text.endswith(suffix),
        "matches": lambda text, pattern: re.fullmatch(pattern, text) is not None,
        "replaceAll": _replace_all,
        "toLowerCase": lambda text: text.lower(),
        "toString": lambda text: text,
        "toUpperCase": lambda text: text.upper(),
        "trim": lambda text: text.strip("".join(map(chr, range(33)))),
    }
)
java_methods[int] = {
    "longValue": lambda number: number,
    "parseInt": lambda _, text: int(text),
    "parseLong": lambda _, text: int(text),
    "toString": str,
}


class JavaMap(dict[str, Any]):
    """A map as templates see it: `$map.key` and `$map.get("key")`, and a key called `get` hides no method."""

    _METHODS = frozenset({"get", "keySet", "containsKey", "put", "size", "isEmpty"})

    def __getitem__(self, key: str) -> Any:
        if key in self._METHODS:
            raise KeyError(key)
        return super().__getitem__(key)

    def keySet(self) -> list[str]:
        return list(self)

    def containsKey(self, key: str) -> bool:
        return key in self

    def put(self, key: str, value: Any) -> Any:
        previous = self.get(key)
        self[key] = value
        return previous

    def size(self) -> int:
        return len(self)

    def isEmpty(self) -> bool:
        return not self


def java_value(value: Any) -> Any:
    """`value` with every dict in it a JavaMap."""
    if isinstance(value, Mapping):
        return JavaMap((key, java_value(each)) for key, each in value.items())
    return [java_value(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Parameters:
    """A request's parameters by place. Of a repeated header or query parameter API Gateway keeps the last."""

    path: Mapping[str, str] = field(default_factory=dict)
    querystring: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, str] = field(default_factory=dict)


class Input:
    """`$input`: the payload, a request's or an integration's answer, and the request's parameters."""

    def __init__(self, body: str, parameters: Parameters) -> None:
        # API Gateway hands an absent body to templates as an empty JSON object.
        self.body = body or "{}"
        self._parameters = parameters

    def params(self, name: str | None = None) -> Any:
        places = {
            "path": JavaMap(self._parameters.path),
            "querystring": JavaMap(self._parameters.querystring),
            "header": JavaMap(self._parameters.header),
        }
        if name is None:
            return JavaMap(places)
        return next((place.get(name) for place in places.values() if name in place), "")

    def path(self, expression: str) -> Any:
        value = _json_path(json.loads(self.body), expression)
        return "" if value is None else java_value(value)

    def json(self, expression: str) -> str:
        value = _json_path(json.loads(self.body), expression)
        return '""' if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Util:
    """`$util`."""

    def urlEncode(self, text: str) -> str:
        # java.net.URLEncoder leaves * as it is and encodes ~; Python does the opposite.
        return quote_plus(text, safe="*").replace("~", "%7E")

    def urlDecode(self, text: str) -> str:
        return unquote_plus(text)

    def base64Encode(self, text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    def base64Decode(self, text: str) -> str:
        return base64.b64decode(text).decode(errors="replace")

    def parseJson(self, text: str) -> Any:
        return java_value(json.loads(text))

    def escapeJavaScript(self, text: str) -> str:
        return json.dumps(text)[1:-1].replace("'", "\\'").replace("/", "\\/")


def render(
    template: str,
    *,
    body: str,
    parameters: Parameters,
    context: JavaMap,
    stage_variables: Mapping[str, str] | None = None,
) -> str:
    """The template's text. What it sets in `context` (such as `responseOverride.status`) stays there.

    Raises:
        Exception: Whatever a broken template makes airspeed or a called method raise.
    """
    namespace = {
        "input": Input(body, parameters),
        "util": Util(),
        "context": context,
        "stageVariables": JavaMap(stage_variables or {}),
    }
    text: str = _compiled(template).merge(namespace)
    return text


@lru_cache(maxsize=256)
def _compiled(template: str) -> airspeed.Template:
    compiled = airspeed.Template(template)
    compiled.ensure_compiled()
    return compiled


_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]|\['([^']*)'\]")


def _json_path(value: Any, expression: str) -> Any:
    """The value at a JSONPath without wildcards or filters, None when there is none."""
    if not expression.startswith("$"):
        expression = f"$.{expression}"
    position = 1
    while position < len(expression):
        step = _STEP.match(expression, position)
        if step is None:
            raise ValueError(f"JSONPath not understood: {expression}")
        position = step.end()
        name, index, quoted = step.groups()
        if index is not None:
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
        else:
            value = value.get(name or quoted) if isinstance(value, dict) else None
    return value
