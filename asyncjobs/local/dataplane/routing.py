"""Finds the method a request leads to."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from asyncjobs.local.dataplane.model import Json, Route


def find_route(resources: Sequence[Json], method: str, path: str) -> Route | None:
    """The route, None when no resource has such a path, or the one that has it has no such method.

    A fixed segment goes before a `{variable}`, and both before a greedy `{variable+}`.
    """
    segments = [segment for segment in path.split("/") if segment]
    matches = []
    for resource in resources:
        parameters = _match([part for part in resource["path"].split("/") if part], segments)
        methods = resource.get("resourceMethods") or {}
        deployed = methods.get(method) or methods.get("ANY")
        if parameters is not None and deployed:
            matches.append((_rank(resource["path"]), Route(resource["path"], deployed, parameters)))
    return min(matches, key=lambda match: match[0])[1] if matches else None


def _match(parts: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for index, part in enumerate(parts):
        if part.startswith("{") and part.endswith("+}"):
            rest = segments[index:]
            return parameters | {part[1:-2]: unquote("/".join(rest))} if rest else None
        if index >= len(segments):
            return None
        if part.startswith("{"):
            parameters[part[1:-1]] = unquote(segments[index])
        elif part != unquote(segments[index]):
            return None
    return parameters if len(parts) == len(segments) else None


def _rank(path: str) -> list[int]:
    return [2 if part.endswith("+}") else 1 if part.startswith("{") else 0 for part in path.split("/") if part]
