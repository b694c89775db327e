"""The signer against AWS's published examples, and against botocore's on requests nobody thought of.

The request of the examples, and what is to come of it, are those of AWS's Signature Version 4 test suite and of the
page "Create a signed AWS API request".
"""

from __future__ import annotations

import string
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.jobs.signer import Credentials, Signer, canonical_path, canonical_request

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HOST = {"Host": "example.amazonaws.com"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", **HOST}


def sign(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, credentials: Credentials = KEYS
) -> dict[str, str]:
    signer = Signer("service", "us-east-1")
    return signer.sign(method, path, query, headers, body, credentials, now=NOW.timestamp())


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        ("GET", "/", "", HOST, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/",
            "Param2=value2&Param1=value1",
            HOST,
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("POST", "/", "", HOST, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "/", "", FORM, b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ("GET", "/./", "", HOST, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "//", "", HOST, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/example/..",
            "",
            HOST,
            b"",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
    ],
    ids=[
        "get-vanilla",
        "get-vanilla-query-order-key-case",
        "post-vanilla",
        "post-x-www-form-urlencoded",
        "get-slash-dot-slash",
        "get-slash",
        "get-relative",
    ],
)
def test_the_published_signatures(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = sign(method, path, query, headers, body)
    names = "content-type;host;x-amz-date" if "Content-Type" in headers else "host;x-amz-date"
    assert signed["X-Amz-Date"] == "20150830T123600Z"
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_the_published_canonical_request() -> None:
    headers = {**HOST, "X-Amz-Date": "20150830T123600Z"}
    text, names = canonical_request("GET", "/", "Param2=value2&Param1=value1", headers, b"")
    assert names == "host;x-amz-date"
    assert text.splitlines() == [
        "GET",
        "/",
        "Param1=value1&Param2=value2",
        "host:example.amazonaws.com",
        "x-amz-date:20150830T123600Z",
        "",
        "host;x-amz-date",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ]


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("", "/"),
        ("/a/./b", "/a/b"),
        ("/a//b/", "/a/b/"),
        ("/a/../../b", "/b"),
        ("/ሴ", "/%E1%88%B4"),
        ("/a b", "/a%20b"),
    ],
)
def test_paths_are_put_into_one_form(path: str, canonical: str) -> None:
    assert canonical_path(path) == canonical


WORDS = st.text(string.ascii_letters + string.digits + "-._~", min_size=1, max_size=12)
PATHS = st.lists(st.sampled_from(["a", "b c", "é", "..", ".", "", "x~y", "%41"]), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)
QUERIES = st.lists(st.tuples(WORDS, WORDS), max_size=4).map(lambda pairs: "&".join(f"{a}={b}" for a, b in pairs))
HEADERS = st.dictionaries(
    WORDS.map(lambda word: f"X-{word.replace('~', '-')}".title()),
    st.text(string.ascii_letters + " ;,", max_size=20).map(str.strip),
    max_size=4,
)


@given(
    method=st.sampled_from(["GET", "POST", "PUT"]),
    path=PATHS,
    query=QUERIES,
    headers=HEADERS,
    body=st.binary(max_size=50),
    token=st.sampled_from(["", "session"]),
)
def test_it_signs_as_botocore_does(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes, token: str
) -> None:
    url = f"https://example.amazonaws.com{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    keys = BotoCredentials(KEYS.access_key, KEYS.secret_key, token or None)
    with patch.object(auth, "get_current_datetime", lambda remove_tzinfo=True: NOW.replace(tzinfo=None)):
        auth.SigV4Auth(keys, "service", "us-east-1").add_auth(request)
    ours = sign(method, path, query, {**HOST, **headers}, body, Credentials(KEYS.access_key, KEYS.secret_key, token))
    assert ours["Authorization"] == request.headers["Authorization"]
