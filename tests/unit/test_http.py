"""The worker's HTTP client against a server that says, byte for byte, what it is told."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from asyncjobs.jobs.http import Answer, Http, HttpError, Server

GOOD = b"HTTP/1.1 200 OK\r\nX-One: a\r\nContent-Length: 2\r\n\r\nhi"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi"


class Wire:
    """Gives its answers in turn, each in single bytes; then the connection is closed if `cut`."""

    def __init__(self, *answers: bytes, cut: bool = False) -> None:
        self.answers = list(answers)
        self.cut = cut
        self.requests: list[bytes] = []
        self.connections = 0
        self.silent = False
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.requests.append(head + await reader.readexactly(length))
            for byte in b"" if self.silent else self.answers.pop(0):
                writer.write(bytes([byte]))
                await writer.drain()
            if self.cut:
                break
        writer.close()

    def run(
        self,
        work: Callable[[Server], Awaitable[Any]],
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
        keep_seconds: float = 15,
    ) -> Any:
        """Args: tls: The server's context and the client's."""

        async def run() -> Any:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls and tls[0])
            port = server.sockets[0].getsockname()[1]
            trusted = tls[1] if tls else ssl.create_default_context()
            try:
                with closing(Http(trusted, connect_seconds=5, keep_seconds=keep_seconds)) as client:
                    return await work(client.server(f"{'https' if tls else 'http'}://localhost:{port}/path"))
            finally:
                for writer in self._writers:
                    writer.close()
                server.close()
                await asyncio.sleep(0.01)  # for the transports to be closed

        return asyncio.run(run())


async def twice(server: Server) -> list[Answer]:
    return [await server.post({"Host": "x"}, b"one"), await server.post({"Host": "x"}, b"two")]


def test_calls_share_a_connection() -> None:
    wire = Wire(GOOD, CHUNKED)
    assert wire.run(twice) == [
        (200, {"x-one": "a", "content-length": "2"}, b"hi"),
        (500, {"transfer-encoding": "chunked"}, b"hi"),
    ]
    assert wire.requests[0] == b"POST /path HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
    assert wire.connections == 1


def test_calls_at_the_same_time_have_connections_of_their_own() -> None:
    wire = Wire(GOOD, GOOD)

    async def both(server: Server) -> None:
        await asyncio.gather(server.post({}, b"one"), server.post({}, b"two"))

    wire.run(both)
    assert wire.connections == 2


@pytest.mark.parametrize(("answer", "cut"), [(LAST, False), (GOOD, True)], ids=["announced", "sudden"])
def test_a_connection_that_was_closed_is_not_used_again(answer: bytes, cut: bool) -> None:
    wire = Wire(answer, answer, cut=cut)

    async def apart(server: Server) -> None:
        for _ in range(2):
            assert (await server.post({}, b"")).content == b"hi"
            await asyncio.sleep(0.01)

    wire.run(apart)
    assert wire.connections == 2


def test_one_that_was_idle_too_long_is_not_used_again() -> None:
    wire = Wire(GOOD, GOOD)
    wire.run(twice, keep_seconds=-1)
    assert wire.connections == 2


@pytest.mark.parametrize("answer", [HALF, b"", b"SSH-2.0\r\n\r\n"], ids=["half", "nothing", "no-http"])
def test_an_answer_that_is_none_is_an_error(answer: bytes) -> None:
    with pytest.raises(HttpError):
        Wire(answer, cut=True).run(lambda server: server.post({}, b""))


def test_what_is_given_up_is_not_the_next_call_s_answer() -> None:
    wire = Wire(GOOD)
    wire.silent = True

    async def give_up(server: Server) -> Answer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await server.post({}, b"slow")
        wire.silent = False
        return await server.post({}, b"next")

    assert wire.run(give_up).content == b"hi"
    assert wire.connections == 2


def test_no_server_is_an_error() -> None:
    async def call() -> None:
        with closing(Http(ssl.create_default_context(), connect_seconds=5)) as client:
            await client.server("http://127.0.0.1:1").post({}, b"")

    with pytest.raises(HttpError, match="no connection"):
        asyncio.run(call())


def certificate(directory: Path) -> Path:
    """For localhost, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = directory / "localhost.pem"
    file.write_bytes(secret + made.public_bytes(pem))
    return file


def test_https_takes_only_who_is_trusted(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    wire = Wire(GOOD, GOOD)
    answers = wire.run(twice, (serving, ssl.create_default_context(cafile=str(file))))
    assert ([answer.content for answer in answers], wire.connections) == ([b"hi", b"hi"], 1)
    with pytest.raises(HttpError, match="CERTIFICATE_VERIFY_FAILED"):
        Wire().run(twice, (serving, ssl.create_default_context()))
