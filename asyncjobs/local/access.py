"""Who may use the AWS endpoint: whoever signs with the access key of this engine, which only its owner can read.

On 127.0.0.1 every user of the machine can connect, and RunTask runs programs as the engine's owner. Signatures in
headers are not verified, so the access key id itself is the secret: random, in a file of mode 0600, and handed to tasks
in their environment. A request without it is refused before anything looks at it, in the words AWS has for that.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from asyncjobs.aws import LOCAL_SECRET_KEY
from asyncjobs.local.guard import header
from asyncjobs.local.ministack_app import DEFAULT_REGION, Scope
from asyncjobs.local.paths import EnginePaths, read_json, write_json

_WELL_FORMED = re.compile(r"AKIA[A-Z2-7]{16}")
_CREDENTIAL = re.compile(r"Credential=([^,\s]+)")


@dataclass(frozen=True)
class Endpoint:
    """Where this engine's AWS clients connect, and what they sign with."""

    url: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False, default=LOCAL_SECRET_KEY)

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port


@dataclass(frozen=True)
class Signature:
    """What a request says about who signed it, and for what. Empty where it says nothing."""

    access_key: str = ""
    region: str = DEFAULT_REGION
    service: str = ""


def load_access_key(paths: EnginePaths) -> str:
    """The engine's access key id; a new one when there is none, or when others could have read it.

    It outlives the engine, so that clients with a long life go on working after a restart.
    """
    stored = read_json(paths.credentials)
    key = stored.get("access_key") if isinstance(stored, dict) else None
    if isinstance(key, str) and _WELL_FORMED.fullmatch(key) and paths.credentials.stat().st_mode & 0o077 == 0:
        return key
    # Not twelve digits: ministack would take those for an account.
    key = "AKIA" + base64.b32encode(secrets.token_bytes(10)).decode()
    write_json(paths.credentials, {"access_key": key})
    return key


def read_signature(scope: Scope) -> Signature:
    """From the Authorization header, else from a presigned URL; version 4, else version 2."""
    authorization = header(scope, b"authorization")
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    match = _CREDENTIAL.search(authorization)
    credential = match[1] if match else query.get("X-Amz-Credential", [""])[0]
    if credential:
        parts = [*credential.split("/"), "", "", ""]
        return Signature(parts[0], parts[2] or DEFAULT_REGION, parts[3])
    if authorization.startswith("AWS "):
        return Signature(authorization.removeprefix("AWS ").partition(":")[0], service="s3")
    if "AWSAccessKeyId" in query:
        return Signature(query["AWSAccessKeyId"][0], service="s3")
    return Signature()


def is_allowed(signature: Signature, access_key: str) -> bool:
    return hmac.compare_digest(signature.access_key.encode(), access_key.encode())


def refusal(scope: Scope, signature: Signature) -> tuple[str, bytes]:
    """Content type and body of the 403 for a request without the key, in the protocol of the service it is for."""
    signed = bool(signature.access_key)
    message = "The security token included in the request is invalid." if signed else "Missing Authentication Token"
    if signature.service == "s3":
        code, message = ("InvalidAccessKeyId", message) if signed else ("AccessDenied", "Access Denied")
        return "application/xml", f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    if header(scope, b"content-type").startswith("application/x-www-form-urlencoded"):
        code = "InvalidClientTokenId" if signed else "MissingAuthenticationToken"
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        return "text/xml", f"<ErrorResponse>{error}</ErrorResponse>".encode()
    code = "UnrecognizedClientException" if signed else "MissingAuthenticationTokenException"
    if header(scope, b"smithy-protocol") == "rpc-v2-cbor":
        return "application/cbor", b"\xa2" + b"".join(map(_cbor_text, ("__type", code, "message", message)))
    return "application/json", json.dumps({"__type": code, "message": message}).encode()


def _cbor_text(text: str) -> bytes:
    """A text of less than 256 bytes."""
    return bytes((0x78, len(text))) + text.encode()
