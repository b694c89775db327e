"""UpdateUsagePlan as AWS carries it out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from asyncjobs.local.usage_plans import PatchError, patched

PLAN: dict[str, Any] = {
    "id": "plan",
    "name": "plan",
    "apiStages": [{"apiId": "api", "stage": "prod"}],
    "throttle": {"rateLimit": 1.0, "burstLimit": 1},
    "quota": {},
}


def patch(op: str, path: str, value: str | None = None) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    result = patched(plan, [{"op": op, "path": path, "value": value}], lambda api, stage: stage in ("prod", "test"))
    assert plan == PLAN
    return result


@pytest.mark.parametrize(
    ("op", "path", "value", "changed"),
    [
        ("add", "/apiStages", "api:test", {"apiStages": [*PLAN["apiStages"], {"apiId": "api", "stage": "test"}]}),
        ("add", "/apiStages", "api:prod", {}),
        ("remove", "/apiStages", "api:prod", {"apiStages": []}),
        ("replace", "/throttle/rateLimit", "2.5", {"throttle": {"rateLimit": 2.5, "burstLimit": 1}}),
        ("replace", "/throttle/burstLimit", "7", {"throttle": {"rateLimit": 1.0, "burstLimit": 7}}),
        ("remove", "/throttle", None, {"throttle": {}}),
        ("add", "/quota/limit", "100", {"quota": {"limit": 100}}),
        ("replace", "/quota/period", "MONTH", {"quota": {"period": "MONTH"}}),
        ("remove", "/quota", None, {}),
        ("replace", "/name", "other", {"name": "other"}),
    ],
)
def test_operations(op: str, path: str, value: str | None, changed: dict[str, Any]) -> None:
    assert patch(op, path, value) == {**PLAN, **changed}


def test_limits_of_one_method() -> None:
    plan = patch("replace", "/apiStages/api:prod/throttle/~1jobs/POST/rateLimit", "5")
    assert plan["apiStages"] == [{"apiId": "api", "stage": "prod", "throttle": {"/jobs/POST": {"rateLimit": 5.0}}}]
    operations = [{"op": "remove", "path": "/apiStages/api:prod/throttle"}]
    assert patched(plan, operations, lambda *_: True)["apiStages"] == PLAN["apiStages"]


@pytest.mark.parametrize(
    ("op", "path", "value", "code"),
    [
        ("add", "/apiStages", "api:none", "NotFoundException"),
        ("remove", "/apiStages", "api:test", "NotFoundException"),
        ("add", "/apiStages", "api", "BadRequestException"),
        ("add", "/apiStages", None, "BadRequestException"),
        ("replace", "/apiStages", "api:prod", "BadRequestException"),
        ("replace", "/throttle/rateLimit", "much", "BadRequestException"),
        ("replace", "/throttle/rateLimit", "nan", "BadRequestException"),
        ("replace", "/throttle/burstLimit", "-1", "BadRequestException"),
        ("replace", "/quota/period", "YEAR", "BadRequestException"),
        ("replace", "/id", "other", "BadRequestException"),
        ("replace", "", "other", "BadRequestException"),
        ("test", "/name", "plan", "BadRequestException"),
    ],
)
def test_refused_operations(op: str, path: str, value: str | None, code: str) -> None:
    with pytest.raises(PatchError) as caught:
        patch(op, path, value)
    assert caught.value.code == code


@pytest.mark.parametrize("operations", [None, {}, ["x"], 1])
def test_no_operations(operations: object) -> None:
    with pytest.raises(PatchError):
        patched(PLAN, operations, lambda *_: True)
