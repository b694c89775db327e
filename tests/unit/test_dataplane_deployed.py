from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.local.dataplane.control import ControlApi
from asyncjobs.local.dataplane.deployed import Deployments
from asyncjobs.local.dataplane.hooks import RestApiHooks
from asyncjobs.local.dataplane.model import IntegrationAnswer
from asyncjobs.local.dataplane.snapshots import PARTS, Snapshots
from asyncjobs.local.dataplane.sqs_rules import message_bytes, sqs_refuses


class ControlHttp:
    """Serves documents of the control API by path."""

    def __init__(self, documents: dict[str, Any]) -> None:
        self.documents = documents
        self.asked: list[str] = []

    def send(
        self, service: str, method: str, path: str, *, headers: Any, body: bytes = b"", timeout: float
    ) -> IntegrationAnswer:
        self.asked.append(path)
        found = self.documents.get(path, self.documents.get(path.partition("?")[0]))
        if isinstance(found, int):
            return IntegrationAnswer(found, {}, b"{}")
        return IntegrationAnswer(404 if found is None else 200, {}, json.dumps(found or {}).encode())


def documents() -> dict[str, Any]:
    return {
        "/restapis/abc/stages/v1": {"deploymentId": "d1"},
        "/restapis/abc": {"binaryMediaTypes": ["image/png"]},
        "/restapis/abc/resources": {"item": [{"path": "/"}]},
        "/restapis/abc/gatewayresponses": {"item": [{"responseType": "THROTTLED"}]},
        "/restapis/abc/requestvalidators": {"item": []},
        "/usageplans": {"item": [{"id": "ours", "apiStages": [{"apiId": "abc", "stage": "v1"}]}, {"id": "other"}]},
        "/usageplans/ours/keys": {"item": [{"id": "k1"}, {"id": "k2"}, {"id": "gone"}]},
        "/apikeys": {
            "item": [{"id": "k1", "value": "one", "enabled": True}, {"id": "k2", "value": "two", "enabled": False}]
        },
    }


def deployments(http: ControlHttp, state_dir: Path, clock: Any = lambda: 0.0, max_age: float = 0.0) -> Deployments:
    control = ControlApi(http)  # type: ignore[arg-type]
    return Deployments(control, Snapshots(state_dir), "abc", clock=clock, max_age=max_age)


class TestDeployments:
    def test_a_stage_with_its_keys(self, tmp_path: Path) -> None:
        deployed = deployments(ControlHttp(documents()), tmp_path).current("v1")
        assert deployed is not None
        assert {value: (key, plan["id"]) for value, (key, plan) in deployed.plans.items()} == {"one": ("k1", "ours")}
        assert deployed.binary_media_types == ["image/png"]
        assert deployed.resources == [{"path": "/"}]
        assert deployed.gateway_response("THROTTLED") == {"responseType": "THROTTLED"}
        assert deployed.gateway_response("OTHER") is None

    @pytest.mark.parametrize("stage", [None, {"stageName": "v1"}])
    def test_a_stage_without_a_deployment_is_none(self, tmp_path: Path, stage: Any) -> None:
        found = documents() | {"/restapis/abc/stages/v1": stage}
        assert deployments(ControlHttp(found), tmp_path).current("v1") is None

    def test_a_change_shows_with_the_next_deployment_also_after_a_restart(self, tmp_path: Path) -> None:
        http = ControlHttp(documents())
        for _ in range(2):
            deployed = deployments(http, tmp_path).current("v1")
            assert deployed is not None
            assert deployed.resources == [{"path": "/"}]
            http.documents["/restapis/abc/resources"] = {"item": [{"path": "/changed"}]}
        http.documents["/restapis/abc/stages/v1"] = {"deploymentId": "d2"}
        deployed = deployments(http, tmp_path).current("v1")
        assert deployed is not None
        assert deployed.resources == [{"path": "/changed"}]

    def test_it_is_read_again_when_it_is_old(self, tmp_path: Path) -> None:
        http = ControlHttp(documents())
        now = [0.0]
        stages = deployments(http, tmp_path, lambda: now[0], max_age=1.0)
        stages.current("v1")
        asked = len(http.asked)
        now[0] = 0.9
        stages.current("v1")
        assert len(http.asked) == asked
        now[0] = 1.0
        stages.current("v1")
        assert len(http.asked) > asked

    def test_pages_are_followed(self) -> None:
        http = ControlHttp(
            {
                "/apikeys?limit=500": {"item": [{"id": "1"}], "position": "p"},
                "/apikeys?limit=500&position=p": {"item": [{"id": "2"}]},
            }
        )
        assert [key["id"] for key in ControlApi(http).items("/apikeys")] == ["1", "2"]  # type: ignore[arg-type]

    def test_a_failing_control_api_is_an_error(self) -> None:
        with pytest.raises(RuntimeError, match="500"):
            ControlApi(ControlHttp({"/x": 500})).get("/x")  # type: ignore[arg-type]


class TestSnapshots:
    def test_kept_loaded_forgotten(self, tmp_path: Path) -> None:
        Snapshots(tmp_path).keep("abc", "d1", {"api": {}})
        snapshots = Snapshots(tmp_path)
        assert snapshots.load("abc", "d1") == {"api": {}}
        assert snapshots.load("abc", "d2") is None
        snapshots.forget("abc")
        assert snapshots.load("abc", "d1") is None
        snapshots.forget("abc")

    @pytest.mark.parametrize("bad", ["..", "a/b", ""])
    def test_only_ids_become_paths(self, tmp_path: Path, bad: str) -> None:
        with pytest.raises(ValueError, match="id"):
            Snapshots(tmp_path).keep("abc", bad, {})


class Emulator:
    """An ASGI application that records what it is asked and answers from a list."""

    def __init__(self, answers: dict[tuple[str, str], tuple[int, Any]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.asked.append((scope["method"], scope["path"], message["body"]))
        status, document = self.answers.get((scope["method"], scope["path"]), (404, {}))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})


def call(app: RestApiHooks, method: str, target: str, body: bytes = b"") -> tuple[int, Any]:
    path, _, query = target.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": []}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


class TestHooks:
    def test_a_deployment_is_copied_as_it_was_then(self, tmp_path: Path) -> None:
        parts = {name: {"part": name} for name in PARTS}
        reads: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", path.format(id="abc").partition("?")[0]): (200, parts[name]) for name, path in PARTS.items()
        }
        emulator = Emulator(reads | {("POST", "/restapis/abc/deployments"): (201, {"id": "d1"})})
        app = RestApiHooks(emulator, tmp_path)
        assert call(app, "POST", "/restapis/abc/deployments", b'{"description":"x"}') == (201, {"id": "d1"})
        assert emulator.asked[-1] == ("POST", "/restapis/abc/deployments", b'{"description":"x"}')
        assert Snapshots(tmp_path).load("abc", "d1") == parts

    def test_a_deployment_that_failed_is_not(self, tmp_path: Path) -> None:
        assert call(RestApiHooks(Emulator({}), tmp_path), "POST", "/restapis/abc/deployments") == (404, {})
        assert list(tmp_path.rglob("*.json")) == []

    def test_a_deleted_api_is_forgotten(self, tmp_path: Path) -> None:
        Snapshots(tmp_path).keep("abc", "d1", {})
        emulator = Emulator({("DELETE", "/restapis/abc"): (202, {})})
        assert call(RestApiHooks(emulator, tmp_path), "DELETE", "/restapis/abc") == (202, {})
        assert Snapshots(tmp_path).load("abc", "d1") is None

    @pytest.mark.parametrize(
        ("method", "target"),
        [("GET", "/restapis"), ("POST", "/restapis"), ("GET", "/restapis/abc"), ("POST", "/queue")],
    )
    def test_all_else_goes_through(self, tmp_path: Path, method: str, target: str) -> None:
        emulator = Emulator({(method, target): (200, {"untouched": True})})
        assert call(RestApiHooks(emulator, tmp_path), method, target, b"body") == (200, {"untouched": True})
        assert emulator.asked == [(method, target, b"body")]

    def test_what_cannot_be_imported(self, tmp_path: Path) -> None:
        emulator = Emulator({("GET", "/restapis/abc"): (200, {"id": "abc"})})
        app = RestApiHooks(emulator, tmp_path)
        assert call(app, "PUT", "/restapis/abc?mode=merge")[0] == 400
        assert call(app, "PUT", "/restapis/abc?mode=overwrite", b"not json")[0] == 400
        assert call(app, "PUT", "/restapis/other?mode=overwrite", b"{}")[0] == 404


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("plain \t\r\n \u0085 \u2028 \ufffd \ud7ff \ue000 😀", False),
        ("\x00", True),
        ("a\x0b", True),
        ("\x1f", True),
        ("\ud800", True),
        ("\ufffe", True),
        ("\uffff", True),
    ],
)
def test_the_characters_sqs_takes(text: str, refused: bool) -> None:
    assert sqs_refuses(text) is refused


def test_sqs_counts_names_types_and_values() -> None:
    assert message_bytes("é", {"name": ("String", "😀")}) == 2 + 4 + 6 + 4
