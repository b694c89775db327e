"""A Docker engine that answers as it is told: what cannot be caused for real is said by its API."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]


@dataclass
class Seen:
    """A request: its method, path without the version, query and the login that came with it."""

    method: str
    path: str
    query: dict[str, str]
    login: dict[str, str] = field(default_factory=dict)


class FakeEngine:
    """Answers by the first pattern that matches "METHOD /path"; a list answers a POST as a stream of lines."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[Seen], Answer]] = {}
        self.seen: list[Seen] = []
        self.version: dict[str, Any] = {"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Arch": "amd64", "Os": "linux"}
        self.address = ""

    def answer(self, seen: Seen) -> Answer:
        if seen.path == "/version":
            return 200, self.version
        self.seen.append(seen)
        for pattern, given in self.answers.items():
            if re.fullmatch(pattern, f"{seen.method} {seen.path}"):
                return given(seen) if callable(given) else given
        return 404, {"message": f"no such thing: {seen.method} {seen.path}"}

    def calls(self, method: str, path: str = "") -> list[Seen]:
        return [one for one in self.seen if one.method == method and path in one.path]


@contextmanager
def fake_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            self._read_body()
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            login = self.headers.get("x-registry-auth")
            path = re.sub(r"^/v1\.\d+", "", unquote(parts.path))
            seen = Seen(self.command, path, query, json.loads(base64.urlsafe_b64decode(login)) if login else {})
            status, content = engine.answer(seen)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            streams = isinstance(content, list) and self.command == "POST"
            for line in [*(content if streams else [content]), None]:
                data = b"" if line is None else json.dumps(line).encode() + b"\r\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

        do_GET = do_POST = do_DELETE = _handle

        def _read_body(self) -> None:
            if self.headers.get("transfer-encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()
            else:
                self.rfile.read(int(self.headers.get("content-length") or 0))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        engine.address = f"tcp://127.0.0.1:{server.server_port}"
        yield engine
        server.shutdown()
        thread.join()
