"""UpdateUsagePlan, whose patch the emulator takes literally: a stage stays the text "API:STAGE", a limit stays text.

https://docs.aws.amazon.com/apigateway/latest/api/patch-operations.html
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Plan = dict[str, Any]

_TEXTS = ("name", "description", "productCode")
_LIMITS: dict[str, dict[str, Callable[[str], Any]]] = {
    "throttle": {"rateLimit": float, "burstLimit": int},
    "quota": {"limit": int, "offset": int, "period": str},
}
_PERIODS = ("DAY", "WEEK", "MONTH")


class PatchError(Exception):
    """The patch is refused as a whole.

    Args:
        code: `BadRequestException` or `NotFoundException`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def patched(plan: Plan, operations: object, stage_exists: Callable[[str, str], bool]) -> Plan:
    """The plan after all operations.

    Args:
        stage_exists: Whether there is (REST API id, stage).

    Raises:
        PatchError: An operation cannot be carried out; then none is.
    """
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise _bad("Invalid patch operations specified")
    result = copy.deepcopy(plan)
    for operation in operations:
        kind, path, value = (str(operation.get(name) or "") for name in ("op", "path", "value"))
        if kind not in ("add", "replace", "remove"):
            raise _bad(f"Invalid patch operation specified: {kind!r}. Must be one of: [add, remove, replace]")
        _apply(result, kind, path.split("/")[1:], value, stage_exists)
    return result


def _apply(plan: Plan, kind: str, path: Sequence[str], value: str, stage_exists: Callable[[str, str], bool]) -> None:
    match path:
        case ["apiStages"] if kind != "replace":
            _patch_stages(plan, kind, value, stage_exists)
        case ["apiStages", place, "throttle", *method]:
            _patch_method(_stage(plan, _unescaped(place)), kind, [_unescaped(part) for part in method], value)
        case [name] if name in _TEXTS and kind == "replace":
            plan[name] = value
        case [name] if name in _LIMITS and kind == "remove":
            plan[name] = {}
        case [name, limit] if limit in _LIMITS.get(name, ()):
            _patch_limit(plan, kind, name, limit, value)
        case _:
            raise _bad(f"Invalid patch path '/{'/'.join(path)}' for the operation {kind}")


def _patch_stages(plan: Plan, kind: str, value: str, stage_exists: Callable[[str, str], bool]) -> None:
    api, _, stage = value.partition(":")
    if not api or not stage:
        raise _bad("Invalid API stage specified: it must be API:STAGE")
    if kind == "remove":
        plan["apiStages"].remove(_stage(plan, value))
        return
    if not stage_exists(api, stage):
        raise PatchError("NotFoundException", f"API Stage not found: {value}")
    if not any(_is_at(each, value) for each in plan["apiStages"]):
        plan["apiStages"].append({"apiId": api, "stage": stage})


def _patch_method(stage: dict[str, Any], kind: str, path: Sequence[str], value: str) -> None:
    """`/throttle` (remove) or `/throttle/RESOURCE/METHOD[/LIMIT]`, with the resource's slashes as `~1`."""
    throttle: dict[str, Any] = stage.setdefault("throttle", {})
    match path:
        case [] if kind == "remove":
            throttle.clear()
        case [resource, method] if kind == "remove":
            throttle.pop(f"{resource}/{method}", None)
        case [resource, method, limit] if limit in _LIMITS["throttle"] and kind != "remove":
            throttle.setdefault(f"{resource}/{method}", {})[limit] = _number("throttle", limit, value)
        case _:
            raise _bad(f"Invalid patch path for the operation {kind}")
    if not throttle:
        del stage["throttle"]


def _patch_limit(plan: Plan, kind: str, name: str, limit: str, value: str) -> None:
    settings = plan[name] = dict(plan.get(name) or {})
    if kind == "remove":
        settings.pop(limit, None)
    else:
        settings[limit] = _number(name, limit, value)


def _number(name: str, limit: str, value: str) -> Any:
    try:
        parsed = _LIMITS[name][limit](value)
    except ValueError:
        raise _bad(f"Invalid value for /{name}/{limit}: {value!r}") from None
    if limit == "period":
        if parsed not in _PERIODS:
            raise _bad(f"Invalid quota period specified: must be one of {', '.join(_PERIODS)}")
    elif not 0 <= parsed < 2**31:
        raise _bad(f"Invalid value for /{name}/{limit}: {value!r}")
    return parsed


def _stage(plan: Plan, place: str) -> dict[str, Any]:
    for each in plan["apiStages"]:
        if _is_at(each, place):
            found: dict[str, Any] = each
            return found
    raise PatchError("NotFoundException", f"API Stage not found: {place}")


def _is_at(stage: Mapping[str, Any], place: str) -> bool:
    return f"{stage.get('apiId')}:{stage.get('stage')}" == place


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _bad(message: str) -> PatchError:
    return PatchError("BadRequestException", message)
