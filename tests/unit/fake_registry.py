"""A registry in this process that behaves as ECR, Docker Hub and others do, at the worst."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LOGIN = ("AWS", "secret")


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@dataclass
class Fault:
    """Args:
    status: What to answer; 0 closes the connection without a word.
    after: With 0, closes it when the request's body has been taken, and its work done.
    """

    method: str
    part: str
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: bool = False


@dataclass
class FakeRegistry:
    """Args:
    auth: "" for none, "basic" or "bearer".
    created: What the start of an upload is answered with: ECR's 201, or 202 as the specification has it.
    relative: Whether `Location` is a path.
    mounts: Whether it takes blobs from other repositories.
    redirects: Whether blobs are given by another host.
    most_uploads: More at once are refused with 429.
    """

    auth: str = ""
    created: int = 202
    relative: bool = True
    mounts: bool = False
    redirects: bool = False
    most_uploads: int = 4
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    manifests: dict[str, dict[str, tuple[bytes, str]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    authorizations: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    host: str = ""
    other_host: str = ""
    uploading: int = 0
    most_seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def repository(self, name: str) -> tuple[dict[str, bytes], dict[str, tuple[bytes, str]]]:
        return self.blobs.setdefault(name, {}), self.manifests.setdefault(name, {})

    def add_blob(self, name: str, content: bytes) -> str:
        self.repository(name)[0][digest_of(content)] = content
        return digest_of(content)

    def add_manifest(self, name: str, tag: str, document: object, media_type: str) -> str:
        content = json.dumps(document).encode()
        for version in (tag, digest_of(content)):
            self.repository(name)[1][version] = content, media_type
        return digest_of(content)

    def count(self, method: str, part: str = "") -> int:
        return sum(one == method and part in path for one, path in self.requests)

    @property
    def methods(self) -> Counter[str]:
        return Counter(method for method, _ in self.requests)

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.part in path and fault.times:
                    fault.times -= 1
                    return fault
        return None

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        with self.lock:
            self.uploading += 1
            self.most_seen = max(self.most_seen, self.uploading)
            allowed = self.uploading <= self.most_uploads
        try:
            yield allowed
        finally:
            with self.lock:
                self.uploading -= 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: FakeRegistry
    other = False

    def handle_any(self) -> None:
        registry, method = self.registry, self.command
        registry.requests.append((method, self.path))
        registry.authorizations.append((self.headers["host"], self.path, self.headers.get("authorization", "")))
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fault = registry.fault(method, self.path)
        if fault and not fault.after:
            self.fail(fault)
            return
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if self.other:
            self.from_elsewhere(path)
        elif path == "/token":
            self.token(query)
        elif not self.allowed():
            self.challenge(path)
        else:
            self.dispatch(method, path.removeprefix("/v2/"), query, body, silent=fault is not None)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any

    def fail(self, fault: Fault) -> None:
        if fault.status == 0:
            self.close_connection = True
            return
        self.answer(fault.status, fault.body, fault.headers)

    def from_elsewhere(self, path: str) -> None:
        """Where blobs are redirected to: S3 refuses a request that is authorised twice."""
        if self.headers.get("authorization"):
            self.answer(400, b"Only one auth mechanism allowed")
            return
        self.answer(200, next(blobs[path[1:]] for blobs in self.registry.blobs.values() if path[1:] in blobs))

    def token(self, query: dict[str, list[str]]) -> None:
        if query.get("service") != ["fake"] or not query.get("scope"):
            self.answer(400)
            return
        self.registry.tokens.append(f"token-{len(self.registry.tokens)}")
        self.answer(200, json.dumps({"token": self.registry.tokens[-1]}).encode())

    def allowed(self) -> bool:
        basic = "Basic " + b64encode(":".join(LOGIN).encode()).decode()
        bearer = {f"Bearer {token}" for token in self.registry.tokens}
        return (
            not self.registry.auth
            or self.headers.get("authorization") in {"basic": {basic}, "bearer": bearer}[self.registry.auth]
        )

    def challenge(self, path: str) -> None:
        scope = f'scope="repository:{path.split("/")[2]}:pull"'
        bearer = f'Bearer realm="http://{self.registry.host}/token",service="fake",{scope}'
        asked = bearer if self.registry.auth == "bearer" else 'Basic realm="https://fake/"'
        self.answer(401, error("UNAUTHORIZED", "authentication required"), {"www-authenticate": asked})

    def dispatch(self, method: str, path: str, query: dict[str, list[str]], body: bytes, *, silent: bool) -> None:
        name, kind, rest = next(
            (path.split(f"/{kind}/", 1)[0], kind, path.split(f"/{kind}/", 1)[1])
            for kind in ("blobs", "manifests")
            if f"/{kind}/" in path
        )
        respond: Callable[..., None] = self.quiet if silent else self.answer
        if kind == "manifests":
            self.manifest(method, name, rest, body, respond)
        elif rest.startswith("uploads/"):
            self.upload(method, name, query, body, respond)
        else:
            self.blob(name, rest)

    def quiet(self, *_: object) -> None:
        """The work is done, and the answer gets lost."""
        self.close_connection = True

    def manifest(self, method: str, name: str, version: str, body: bytes, respond: Callable[..., None]) -> None:
        manifests = self.registry.repository(name)[1]
        if method == "PUT":
            known = manifests.get(version)
            if known:
                message = (
                    f"The image tag '{version}' already exists in the '{name}' repository and cannot be overwritten"
                )
                respond(400, error("TAG_INVALID", f"{message} because the repository is immutable."))
                return
            missing = self.missing(name, json.loads(body))
            if missing:
                respond(404, error("BLOB_UNKNOWN", missing))
                return
            for each in (version, digest_of(body)):
                manifests[each] = body, self.headers["content-type"]
            respond(201)
        elif version in manifests:
            content, media_type = manifests[version]
            respond(200, content, {"content-type": media_type, "docker-content-digest": digest_of(content)})
        else:
            respond(404, error("MANIFEST_UNKNOWN", "Requested image not found"))

    def missing(self, name: str, manifest: dict[str, object]) -> str:
        blobs = self.registry.repository(name)[0]
        wanted = [manifest["config"], *manifest["layers"]]  # type: ignore[misc]
        return next((one["digest"] for one in wanted if one["digest"] not in blobs), "")

    def upload(
        self, method: str, name: str, query: dict[str, list[str]], body: bytes, respond: Callable[..., None]
    ) -> None:
        blobs = self.registry.repository(name)[0]
        base = "" if self.registry.relative else f"http://{self.registry.host}"
        if method == "POST":
            mount = query.get("mount", [""])[0]
            source = self.registry.repository(query.get("from", [""])[0])[0]
            if self.registry.mounts and mount in source:
                blobs[mount] = source[mount]
                respond(201, b"", {"location": f"{base}/v2/{name}/blobs/{mount}"})
            else:
                respond(self.registry.created, b"", {"location": f"{base}/v2/{name}/blobs/uploads/1?_state=x"})
        elif method == "PUT":
            with self.registry.one_more() as allowed:
                digest = query["digest"][0]
                if not allowed:
                    respond(429, error("TOOMANYREQUESTS", "Rate exceeded"))
                elif digest_of(body) != digest:
                    respond(400, error("DIGEST_INVALID", digest))
                else:
                    blobs[digest] = body
                    respond(201, b"", {"location": f"{base}/v2/{name}/blobs/{digest}"})
        else:
            # ECR answers that it has taken each chunk, and keeps the last.
            respond(201, b"", {"location": self.path})

    def blob(self, name: str, digest: str) -> None:
        content = self.registry.repository(name)[0].get(digest)
        if content is None:
            self.answer(404, error("BLOB_UNKNOWN", digest))
        elif self.registry.redirects and self.command == "GET":
            self.answer(307, b"", {"location": f"http://{self.registry.other_host}/{digest}"})
        else:
            self.answer(200, content)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(registry: FakeRegistry) -> Iterator[FakeRegistry]:
    own = type("Own", (Handler,), {"registry": registry})
    elsewhere = type("Elsewhere", (Handler,), {"registry": registry, "other": True})
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), own) as server,
        ThreadingHTTPServer(("127.0.0.1", 0), elsewhere) as other,
    ):
        threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in (server, other)]
        for thread in threads:
            thread.start()
        registry.host = f"127.0.0.1:{server.server_port}"
        registry.other_host = f"127.0.0.1:{other.server_port}"
        try:
            yield registry
        finally:
            for each in (server, other):
                each.shutdown()
            for thread in threads:
                thread.join()
