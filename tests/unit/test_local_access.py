"""Who may use the engine's AWS endpoint: what requests present, and the key they must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.local.access import Signature, is_allowed, load_access_key, read_signature, refusal
from asyncjobs.local.paths import EnginePaths

KEY = "AKIAABCDEFGHIJKLMNOP"
V4 = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0"


def signature(authorization: str = "", query: str = "") -> Signature:
    headers = [(b"Authorization", authorization.encode())] if authorization else []
    return read_signature({"headers": headers, "query_string": query.encode()})


@pytest.mark.parametrize(
    ("authorization", "query", "expected"),
    [
        (V4, "", Signature(KEY, "eu-west-1", "sqs")),
        ("", f"X-Amz-Credential={KEY}%2F20260101%2Feu-west-1%2Fs3%2Faws4_request", Signature(KEY, "eu-west-1", "s3")),
        ("", f"X-Amz-Credential={KEY}/20260101/eu-west-1/s3/aws4_request&x=1", Signature(KEY, "eu-west-1", "s3")),
        (f"AWS {KEY}:signature", "", Signature(KEY, service="s3")),
        ("", f"AWSAccessKeyId={KEY}&Signature=0", Signature(KEY, service="s3")),
        ("AWS4-HMAC-SHA256 Credential=short", "", Signature("short")),
        ("Bearer token", "x=1", Signature()),
        ("", "", Signature()),
    ],
)
def test_what_a_request_presents(authorization: str, query: str, expected: Signature) -> None:
    assert signature(authorization, query) == expected


def test_only_the_whole_key_is_allowed() -> None:
    assert is_allowed(signature(V4), KEY)
    for other in ("", KEY[:-1], KEY + "A", KEY.lower(), "test", "\xff"):
        assert not is_allowed(Signature(other), KEY)


def test_a_refusal_tells_a_wrong_key_from_none() -> None:
    scope: dict[str, Any] = {"headers": []}
    assert json.loads(refusal(scope, Signature("x"))[1])["__type"] == "UnrecognizedClientException"
    assert json.loads(refusal(scope, Signature())[1])["__type"] == "MissingAuthenticationTokenException"
    assert b"<Code>AccessDenied</Code>" in refusal(scope, Signature(service="s3"))[1]


def test_the_key_is_random_private_and_kept(tmp_path: Path) -> None:
    paths = EnginePaths(tmp_path)
    key = load_access_key(paths)
    assert len(key) == 20
    assert load_access_key(paths) == key
    assert paths.credentials.stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert load_access_key(EnginePaths(tmp_path / "other")) != key


@pytest.mark.parametrize("damage", ["", "[]", '{"access_key": 1}', '{"access_key": "test"}', '{"access_key": ""}'])
def test_a_damaged_key_is_replaced(tmp_path: Path, damage: str) -> None:
    paths = EnginePaths(tmp_path)
    paths.credentials.write_text(damage)
    paths.credentials.chmod(0o600)
    assert len(load_access_key(paths)) == 20


def test_a_key_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    paths = EnginePaths(tmp_path)
    key = load_access_key(paths)
    paths.credentials.chmod(0o640)
    assert load_access_key(paths) != key
