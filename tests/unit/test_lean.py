"""The lean client against a server that answers what it is told."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest
from aiohttp import web
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, ReadTimeoutError

from asyncjobs.jobs import lean
from asyncjobs.jobs.lean import CredentialSource, LeanApi, open_http


class Frozen:
    access_key, secret_key, token = "key", "secret", "token"


class Provider:
    def __init__(self) -> None:
        self.asked = 0

    def get_frozen_credentials(self) -> type[Frozen]:
        self.asked += 1
        return Frozen


Answer = tuple[int, dict[str, str], bytes]
THROTTLED: Answer = (400, {}, b'{"__type":"com.amazonaws#ThrottlingException","message":"slow down"}')
BROKEN: Answer = (500, {}, b"<html>oh</html>")
GOOD: Answer = (200, {}, b'{"a":1}')


class Server:
    """Gives its answers in turn; None closes the connection."""

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.provider = Provider()
        self.sleeps: list[float] = []

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), json.loads(await request.read())))
        answer = self.answers.pop(0)
        if answer is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(status=answer[0], headers=answer[1], body=answer[2])

    async def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)

    def run(self, work: Callable[[LeanApi], Awaitable[Any]], provider: Any = ...) -> Any:
        async def run() -> Any:
            application = web.Application()
            application.router.add_post("/", self._answer)
            runner = web.AppRunner(application)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            source = CredentialSource(self.provider if provider is ... else provider)
            with closing(open_http()) as http:
                api = LeanApi(
                    http, f"http://127.0.0.1:{port}", "sqs", "eu-west-1", "AmazonSQS", source, sleep=self._sleep
                )
                try:
                    return await work(api)
                finally:
                    await runner.cleanup()

        return asyncio.run(run())

    def call(self, operation: str = "ReceiveMessage", **request: Any) -> Any:
        return self.run(lambda api: api.call(operation, request))


def test_a_call_and_its_answer() -> None:
    server = Server(GOOD)
    assert server.call(QueueUrl="é", Data=b"\x00\xff") == {"a": 1}
    ((headers, body),) = server.requests
    assert headers["X-Amz-Target"] == "AmazonSQS.ReceiveMessage"
    assert headers["Content-Type"] == "application/x-amz-json-1.0"
    assert headers["X-Amz-Security-Token"] == "token"
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target" in headers["Authorization"]
    assert body == {"QueueUrl": "é", "Data": "AP8="}


def test_binary_values_come_back_as_bytes() -> None:
    answer = b'{"Item":{"a":{"B":"AP8="},"b":{"M":{"B":{"S":"x"}}},"c":{"S":"\\"B\\":"}}}'
    assert Server((200, {}, answer)).call() == {
        "Item": {"a": {"B": b"\x00\xff"}, "b": {"M": {"B": {"S": "x"}}}, "c": {"S": '"B":'}}
    }


@pytest.mark.parametrize("trouble", [THROTTLED, BROKEN, (429, {}, b"{}"), None], ids=["throttled", "500", "429", "cut"])
def test_what_passes_is_tried_again(trouble: Answer | None) -> None:
    server = Server(trouble, trouble, GOOD)
    assert server.call() == {"a": 1}
    assert len(server.sleeps) == 2
    assert all(0 <= seconds <= lean.LONGEST_PAUSE for seconds in server.sleeps)


def test_trouble_that_stays_is_raised() -> None:
    server = Server(*[THROTTLED] * lean.TRIES)
    with pytest.raises(ClientError, match="slow down"):
        server.call()
    with pytest.raises(HTTPClientError):
        Server(*[None] * lean.TRIES).call()


def test_a_batch_is_not_sent_twice() -> None:
    server = Server(BROKEN, GOOD)
    with pytest.raises(ClientError):
        server.call("BatchExecuteStatement")
    assert len(server.requests) == 1


def test_a_refusal_looks_like_botocore_s() -> None:
    item = b'{"__type":"x#ConditionalCheckFailedException","Message":"no","Item":{"a":{"S":"b"}}}'
    with pytest.raises(ClientError) as caught:
        Server((400, {}, item)).call("UpdateItem")
    response: Any = caught.value.response
    assert response["Error"] == {"Code": "ConditionalCheckFailedException", "Message": "no"}
    assert (response["Item"], response["ResponseMetadata"]["HTTPStatusCode"]) == ({"a": {"S": "b"}}, 400)
    old = {"x-amzn-query-error": "AWS.SimpleQueueService.NonExistentQueue;Sender"}
    with pytest.raises(ClientError) as caught:
        Server((400, old, b'{"__type":"x#QueueDoesNotExist"}')).call()
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_credentials_that_have_expired_are_asked_for_again() -> None:
    server = Server((400, {}, b'{"__type":"x#ExpiredTokenException"}'), GOOD)
    assert server.call() == {"a": 1}
    assert server.provider.asked == 2


def test_credentials_are_not_asked_for_at_each_call() -> None:
    server = Server(GOOD, GOOD)

    async def twice(api: LeanApi) -> None:
        await api.call("A", {})
        await api.call("B", {})

    server.run(twice)
    assert server.provider.asked == 1


def test_without_credentials_nothing_is_sent() -> None:
    server = Server()
    with pytest.raises(NoCredentialsError):
        server.run(lambda api: api.call("A", {}), provider=None)


def test_a_damaged_answer_is_asked_for_again() -> None:
    good = {"x-amz-crc32": str(zlib.crc32(GOOD[2]))}
    assert Server((200, {"x-amz-crc32": "1"}, GOOD[2]), (200, good, GOOD[2])).call() == {"a": 1}


def test_an_answer_that_is_no_json_is_no_answer() -> None:
    assert Server((200, {}, b"<html>"), GOOD).call() == {"a": 1}


def test_a_server_that_does_not_answer_costs_no_more_than_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "READ_SECONDS", 0.01)

    class Silent(Server):
        async def _answer(self, request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.2)
            return web.Response()

    with pytest.raises(ReadTimeoutError):
        Silent().call("BatchExecuteStatement")
