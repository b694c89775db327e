"""AWS Signature Version 4, for requests whose body is at hand.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. botocore's own signer does
the same in ten times the time, most of it spent on objects that a worker's calls do not need.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    """Args: token: Of temporary credentials; "" for lasting ones."""

    access_key: str
    secret_key: str
    token: str = ""


class Signer:
    """Signs requests to one service of one region."""

    def __init__(self, service: str, region: str) -> None:
        self._service = service
        self._region = region

    def sign(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        credentials: Credentials,
        *,
        now: float,
    ) -> dict[str, str]:
        """The given headers and those that make the request a signed one.

        Args:
            query: Encoded already, as it will be sent.
            headers: All of them are signed; `host` must be among them.
            now: Epoch seconds.
        """
        time = _amz_time(int(now))
        signed = {**headers, "X-Amz-Date": time}
        if credentials.token:
            signed["X-Amz-Security-Token"] = credentials.token
        canonical, names = canonical_request(method, path, query, signed, body)
        scope = f"{time[:8]}/{self._region}/{self._service}/aws4_request"
        to_sign = f"{_ALGORITHM}\n{time}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = _signing_key(credentials.secret_key, time[:8], self._region, self._service)
        # A copy of a hash that has the key already; hmac.digest would let another thread have the interpreter.
        hashed = key.copy()
        hashed.update(to_sign.encode())
        signature = hashed.hexdigest()
        signed["Authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return signed


def canonical_request(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """The canonical request, and the names of the signed headers."""
    lines = sorted([_header(name, value) for name, value in headers.items()])
    names = ";".join([name for name, _ in lines])
    parts = (
        method,
        canonical_path(path),
        canonical_query(query),
        *[f"{name}:{value}" for name, value in lines],
        "",
        names,
        hashlib.sha256(body).hexdigest(),
    )
    return "\n".join(parts), names


# A worker's calls have few headers, and all but the time are the same again and again.
@lru_cache(maxsize=64)
def _header(name: str, value: str) -> tuple[str, str]:
    """Runs of spaces within a value count as one."""
    return name.lower(), " ".join(value.split())


@lru_cache(maxsize=8)
def canonical_path(path: str) -> str:
    """Without `.`, `..` and empty segments, then encoded; a slash at the end stays."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    end = "/" if path.endswith("/") and kept else ""
    return quote(f"/{'/'.join(kept)}{end}", safe="/~")


def canonical_query(query: str) -> str:
    """Sorted by name, then by value."""
    if not query:
        return ""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in sorted((name, value) for name, _, value in pairs))


@lru_cache(maxsize=8)
def _signing_key(secret_key: str, date: str, region: str, service: str) -> hmac.HMAC:
    """A hash to copy, with the key in it. Good for a day, so it is derived once."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")


@lru_cache(maxsize=8)
def _amz_time(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
