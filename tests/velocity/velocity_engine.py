"""Apache Velocity 1.7 with API Gateway's objects, as its developer guide defines them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import java_class
import jpype

JARS = tuple(Path("/usr/share/java", name) for name in ("velocity.jar", "commons-collections3.jar", "commons-lang.jar"))

_STRING = "Ljava/lang/String;"
_OBJECT = "Ljava/lang/Object;"
_INTERFACES = {
    "gateway/Input": {
        "getBody": [f"(){_STRING}"],
        "path": [f"({_STRING}){_OBJECT}"],
        "json": [f"({_STRING}){_STRING}"],
        "params": [f"(){_OBJECT}", f"({_STRING}){_OBJECT}"],
    },
    "gateway/Util": {"urlEncode": [f"({_STRING}){_STRING}"]},
}


class Velocity:
    """The engine, in a Java virtual machine of this process (there can be one only)."""

    def __init__(self) -> None:
        classes = Path(tempfile.mkdtemp(prefix="gateway-interfaces-"))
        (classes / "gateway").mkdir()
        for name, methods in _INTERFACES.items():
            (classes / f"{name}.class").write_bytes(java_class.interface(name, methods))
        jpype.startJVM(classpath=[str(classes), *map(str, JARS)])
        self._engine = jpype.JClass("org.apache.velocity.app.VelocityEngine")()
        self._engine.setProperty("runtime.log.logsystem.class", "org.apache.velocity.runtime.log.NullLogChute")
        self._engine.init()

    def render(
        self, template: str, body: str, parameters: Mapping[str, Mapping[str, str]], context: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """The text, and what the template set in `$context.responseOverride`."""
        java_context = to_java(context)
        names = jpype.JClass("org.apache.velocity.VelocityContext")()
        names.put("input", jpype.JProxy("gateway.Input", inst=_Input(body, parameters)))
        names.put("util", jpype.JProxy("gateway.Util", inst=_Util()))
        names.put("context", java_context)
        writer = jpype.JClass("java.io.StringWriter")()
        self._engine.evaluate(names, writer, "template", template)
        override = java_context.get("responseOverride")
        return str(writer.toString()), _to_python(override)


class _Input:
    """`$input`. `path` gives Java values; a path that leads nowhere is an empty string, an absent body `{}`."""

    def __init__(self, body: str, parameters: Mapping[str, Mapping[str, str]]) -> None:
        self._body = body or "{}"
        self._parameters = parameters

    def getBody(self) -> str:
        return self._body

    def path(self, expression: str) -> Any:
        return to_java(self._find(str(expression)))

    def json(self, expression: str) -> str:
        return json.dumps(self._find(str(expression)), ensure_ascii=False, separators=(",", ":"))

    def params(self, name: str | None = None) -> Any:
        if name is None:
            return to_java(self._parameters)
        places = (self._parameters[place] for place in ("path", "querystring", "header"))
        return next((place[str(name)] for place in places if str(name) in place), "")

    def _find(self, expression: str) -> Any:
        value = json.loads(self._body)
        for step in expression.split(".")[1:]:
            if not isinstance(value, dict) or step not in value:
                return ""
            value = value[step]
        return value


class _Util:
    def urlEncode(self, text: str) -> Any:
        return jpype.JClass("java.net.URLEncoder").encode(text, "UTF-8")


def to_java(value: Any) -> Any:
    if isinstance(value, Mapping):
        java_map = jpype.JClass("java.util.LinkedHashMap")()
        for key, each in value.items():
            java_map.put(key, to_java(each))
        return java_map
    if isinstance(value, list):
        java_list = jpype.JClass("java.util.ArrayList")()
        for each in value:
            java_list.add(to_java(each))
        return java_list
    if isinstance(value, int) and not isinstance(value, bool):
        return jpype.JClass("java.lang.Long")(value)
    return jpype.JString(value) if isinstance(value, str) else value


def _to_python(value: Any) -> Any:
    if isinstance(value, jpype.JClass("java.util.Map")):
        return {str(entry.getKey()): _to_python(entry.getValue()) for entry in value.entrySet()}
    return int(value) if isinstance(value, jpype.JClass("java.lang.Number")) else str(value)
