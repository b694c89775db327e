from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.worker.outcome import Failed, Succeeded, from_value, rejected


@pytest.mark.parametrize("value", [None, 0, "", "é\u2028☕", [1, 2.5, {"a": None}], {"words": 3}, True, "x" * 100_000])
def test_a_json_value_becomes_json_text(value: Any) -> None:
    outcome = from_value(value)
    assert isinstance(outcome, Succeeded)
    assert outcome.json_text is not None
    assert json.loads(outcome.json_text) == value
    assert outcome.content_type == "application/json"


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_stay_bytes(value: Any) -> None:
    assert from_value(value) == Succeeded(data=b"\x00\xff", content_type="application/octet-stream")


@pytest.mark.parametrize(
    ("name", "content_type"), [("a.csv", "text/csv"), ("a.pdf", "application/pdf"), ("a", "application/octet-stream")]
)
def test_a_path_becomes_a_file_of_its_kind(tmp_path: Path, name: str, content_type: str) -> None:
    file = tmp_path / name
    file.write_text("x")
    assert from_value(file) == Succeeded(file=file.resolve(), content_type=content_type)


def test_a_path_without_a_file_is_an_error(tmp_path: Path) -> None:
    outcome = from_value(tmp_path)
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.final) == ("InvalidResult", False)
    assert str(tmp_path) in outcome.message


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [{1, 2}, object(), float("nan"), [float("inf")], "\ud800", {(1, 2): 3}, endless(), {"a": b"x"}]
)
def test_what_json_cannot_hold_is_an_error_and_no_crash(value: Any) -> None:
    outcome = from_value(value)
    assert isinstance(outcome, Failed)
    assert (outcome.error_type, outcome.final) == ("InvalidResult", False)
    assert type(value).__name__ in outcome.message


def test_a_rejection_is_final() -> None:
    assert rejected("no such page") == Failed("Rejected", "no such page", final=True)
