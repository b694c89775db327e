"""The registry's HTTP API, as far as pushing and pulling images needs it.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md; where ECR differs, ECR's way.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs

from asyncjobs.local.guard import header
from asyncjobs.local.ministack_app import Receive, Scope, Send
from asyncjobs.local.registry.blobs import DIGEST, BlobStore, DigestMismatchError
from asyncjobs.local.registry.ecr import USER, Answer, referenced_blobs

_LARGEST_MANIFEST = 4 * 1024 * 1024
_READ_BYTES = 256 * 1024
_PATH = re.compile(
    r"/v2/(?P<name>[^?#]+?)/(?:manifests/(?P<manifest>[^/]+)|blobs/uploads/(?P<upload>[^/]*)|blobs/(?P<blob>[^/]+)"
    r"|tags/(?P<tags>list))\Z"
)


FileAnswer = tuple[int, dict[str, str], Path]


class Images(Protocol):
    """Where manifests and tags are."""

    def has(self, repository: str) -> bool: ...
    def put_manifest(self, repository: str, reference: str, content_type: str, manifest: bytes) -> Answer: ...
    def manifest(self, repository: str, reference: str) -> Answer: ...
    def delete_manifest(self, repository: str, reference: str) -> Answer: ...
    def tags(self, repository: str) -> Answer: ...


class Registry:
    """ASGI application for /v2/.

    Args:
        password: What clients must send, with the user name AWS.
        changed: Called when images have changed.
    """

    def __init__(self, images: Images, blobs: BlobStore, password: str, changed: Callable[[], None]) -> None:
        self._images = images
        self._blobs = blobs
        self._authorization = b"Basic " + base64.b64encode(f"{USER}:{password}".encode())
        self._changed = changed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except ConnectionError:
            return
        await _send(send, answer, content=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | FileAnswer:
        path = scope["path"]
        if not hmac.compare_digest(header(scope, b"authorization").encode(), self._authorization):
            return _error(401, "UNAUTHORIZED", "Not Authorized")
        if path in ("/v2", "/v2/"):
            return 200, {"Content-Type": "application/json"}, b"{}"
        match = _PATH.match(path)
        if match is None:
            return _error(404, "UNSUPPORTED", f"There is nothing at {path}.")
        name = match["name"]
        if not self._images.has(name):
            return _error(404, "NAME_UNKNOWN", f"The repository with name '{name}' does not exist")
        if match["upload"] is not None:
            return await self._upload(scope, name, match["upload"], receive)
        if match["manifest"]:
            return await self._manifest(scope, name, match["manifest"], receive)
        if scope["method"] not in ("GET", "HEAD"):
            return _error(405, "UNSUPPORTED", "The operation is unsupported.")
        return self._blob(name, match["blob"]) if match["blob"] else self._images.tags(name)

    async def _manifest(self, scope: Scope, name: str, reference: str, receive: Receive) -> Answer:
        method = scope["method"]
        if method in ("GET", "HEAD"):
            return self._images.manifest(name, reference)
        if method == "PUT":
            answer = await self._put_manifest(scope, name, reference, receive)
        elif method == "DELETE":
            answer = self._images.delete_manifest(name, reference)
        else:
            return _error(405, "UNSUPPORTED", "The operation is unsupported.")
        self._changed()
        return answer

    async def _put_manifest(self, scope: Scope, name: str, reference: str, receive: Receive) -> Answer:
        manifest = b""
        async for chunk in _chunks(receive):
            manifest += chunk
            if len(manifest) > _LARGEST_MANIFEST:
                return _error(413, "SIZE_INVALID", "A manifest may have 4 MiB.")
        try:
            missing = [digest for digest in referenced_blobs(manifest) if self._blobs.find(name, digest) is None]
        except ValueError as error:
            return _error(400, "MANIFEST_INVALID", str(error))
        if missing:
            return _error(400, "MANIFEST_BLOB_UNKNOWN", f"Layers with digests {missing} do not exist.")
        return self._images.put_manifest(name, reference, header(scope, b"content-type"), manifest)

    async def _upload(self, scope: Scope, name: str, upload: str, receive: Receive) -> Answer:
        """POST begins an upload, PATCH adds to it, PUT ends it; POST with a digest does all at once."""
        method = scope["method"]
        query = {key: values[0] for key, values in parse_qs(scope.get("query_string", b"").decode("latin-1")).items()}
        digest = query.get("digest", "")
        if method == "POST" and not upload:
            if self._blobs.mount(query.get("mount", ""), query.get("from", ""), name):
                return _created(name, query["mount"])
            upload = self._blobs.begin(name)
        elif self._blobs.received(name, upload) is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", f"There is no upload {upload}.")
        if method == "GET":
            return self._progress(204, name, upload)
        if method == "DELETE":
            self._blobs.cancel(upload)
            return 204, {}, b""
        async for chunk in _chunks(receive):
            # On the event loop: a chunk is small, and hashing it costs less than handing it to a thread.
            self._blobs.append(upload, chunk)
        if method == "PATCH" or (method == "POST" and not digest):
            return self._progress(202, name, upload)
        if not DIGEST.match(digest):
            return _error(400, "DIGEST_INVALID", "A digest is sha256: and 64 hexadecimal digits.")
        try:
            self._blobs.finish(upload, digest)
        except DigestMismatchError:
            return _error(400, "DIGEST_INVALID", f"The content that was uploaded has not the digest {digest}.")
        return _created(name, digest)

    def _progress(self, status: int, name: str, upload: str) -> Answer:
        size = self._blobs.received(name, upload) or 0
        location = f"/v2/{name}/blobs/uploads/{upload}"
        return status, {"Location": location, "Range": f"0-{max(0, size - 1)}", "Docker-Upload-UUID": upload}, b""

    def _blob(self, name: str, digest: str) -> Answer | FileAnswer:
        file = self._blobs.find(name, digest)
        if file is None:
            return _error(404, "BLOB_UNKNOWN", f"The repository has no blob {digest}.")
        return 200, {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}, file


def _created(name: str, digest: str) -> Answer:
    return 201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}, b""


def _error(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    headers = {"Content-Type": "application/json"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="asyncjobs",service="ecr.amazonaws.com"'
    return status, headers, body


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """The request's body, piece by piece.

    Raises:
        ConnectionError: The client went away before its end: what is there must not count as the whole.
    """
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the client disconnected")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _send(send: Send, answer: Answer | FileAnswer, *, content: bool) -> None:
    status, headers, body = answer
    length = body.stat().st_size if isinstance(body, Path) else len(body)
    whole = {"Content-Length": str(length), "Docker-Distribution-Api-Version": "registry/2.0", **headers}
    if status == 204:
        del whole["Content-Length"]
    encoded = [(name.lower().encode(), value.encode()) for name, value in whole.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    if content and isinstance(body, Path):
        with body.open("rb") as stream:
            while chunk := stream.read(_READ_BYTES):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": body if content and isinstance(body, bytes) else b""})
