"""The registry of the emulated ECR, request by request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ministack", reason="the `local` extra is not installed")

from asyncjobs.local.registry.app import Registry
from asyncjobs.local.registry.blobs import BlobStore
from asyncjobs.local.registry.ecr import Answer, referenced_blobs

NAME = "asyncjobs-demo"
LAYER = b"a layer" * 1000
DIGEST = "sha256:" + hashlib.sha256(LAYER).hexdigest()
LOGIN = (b"authorization", b"Basic " + base64.b64encode(b"AWS:secret"))


class Images:
    """Two repositories, and what was put into them."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}

    def has(self, repository: str) -> bool:
        return repository in (NAME, "team/other")

    def put_manifest(self, repository: str, reference: str, content_type: str, manifest: bytes) -> Answer:
        self.manifests[reference] = manifest
        return 201, {"Docker-Content-Digest": reference}, b""

    def manifest(self, repository: str, reference: str) -> Answer:
        manifest = self.manifests[reference]
        return 200, {"Content-Type": "application/json", "Content-Length": str(len(manifest))}, manifest

    def delete_manifest(self, repository: str, reference: str) -> Answer:
        del self.manifests[reference]
        return 202, {}, b""

    def tags(self, repository: str) -> Answer:
        return 200, {}, json.dumps(list(self.manifests)).encode()


class Client:
    """Sends requests; a body in pieces, None among them for a connection that breaks off."""

    def __init__(self, root: Path) -> None:
        self.images = Images()
        self.blobs = BlobStore(root)
        self.changes = 0
        self._registry = Registry(self.images, self.blobs, "secret", self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def __call__(
        self, method: str, path: str, *pieces: bytes | None, headers: Any = (LOGIN,), query: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": list(headers),
        }
        sent: list[Any] = []
        waiting: Iterator[bytes | None] = iter(pieces or (b"",))
        left = len(pieces or (b"",))

        async def receive() -> Any:
            nonlocal left
            left -= 1
            piece = next(waiting)
            if piece is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": piece, "more_body": left > 0}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._registry(scope, receive, send))
        if not sent:
            return 0, {}, b""
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(message["body"] for message in sent[1:])

    def begin(self) -> str:
        return self("POST", f"/v2/{NAME}/blobs/uploads/")[1]["location"]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "registry")


@pytest.mark.parametrize("headers", [(), ((b"authorization", b"Basic " + base64.b64encode(b"AWS:guess")),)])
def test_nothing_is_said_to_somebody_without_the_token(client: Client, headers: Any) -> None:
    status, found, _ = client("GET", "/v2/", headers=headers)
    assert status == 401
    assert found["www-authenticate"].startswith("Basic ")
    assert client("POST", f"/v2/{NAME}/blobs/uploads/", headers=headers)[0] == 401


def test_who_has_the_token_is_welcome(client: Client) -> None:
    assert client("GET", "/v2/")[0] == 200


def test_a_blob_in_pieces(client: Client) -> None:
    location = client.begin()
    status, found, _ = client("PATCH", location, LAYER[:10], LAYER[10:20])
    assert (status, found["range"]) == (202, "0-19")
    assert client("GET", location)[1]["range"] == "0-19"
    status, found, _ = client("PUT", location, LAYER[20:], query=f"digest={DIGEST}")
    assert (status, found["docker-content-digest"]) == (201, DIGEST)
    assert client("HEAD", f"/v2/{NAME}/blobs/{DIGEST}")[:1] + client("HEAD", f"/v2/{NAME}/blobs/{DIGEST}")[2:] == (
        200,
        b"",
    )
    status, found, content = client("GET", f"/v2/{NAME}/blobs/{DIGEST}")
    assert (status, found["content-length"], content) == (200, str(len(LAYER)), LAYER)
    assert client("GET", location)[0] == 404


def test_a_blob_at_once(client: Client) -> None:
    assert client("POST", f"/v2/{NAME}/blobs/uploads/", LAYER, query=f"digest={DIGEST}")[0] == 201
    assert client.blobs.find(NAME, DIGEST)


def test_two_uploads_of_one_blob_at_the_same_time(client: Client) -> None:
    first, second = client.begin(), client.begin()
    client("PATCH", first, LAYER[:50])
    client("PATCH", second, LAYER)
    assert client("PUT", first, LAYER[50:], query=f"digest={DIGEST}")[0] == 201
    assert client("PUT", second, query=f"digest={DIGEST}")[0] == 201
    assert client("GET", f"/v2/{NAME}/blobs/{DIGEST}")[2] == LAYER


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "md5:1", ""])
def test_what_does_not_fit_its_digest_is_no_blob(client: Client, digest: str) -> None:
    status, _, body = client("PUT", client.begin(), LAYER, query=f"digest={digest}")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert client.blobs.find(NAME, digest) is None


def test_a_connection_that_breaks_off_makes_no_blob(client: Client) -> None:
    location = client.begin()
    assert client("PUT", location, LAYER[:100], None, query=f"digest={DIGEST}") == (0, {}, b"")
    assert client.blobs.find(NAME, DIGEST) is None


def test_a_blob_of_another_repository_is_not_sent_again(client: Client) -> None:
    client("POST", f"/v2/{NAME}/blobs/uploads/", LAYER, query=f"digest={DIGEST}")
    assert client("HEAD", f"/v2/team/other/blobs/{DIGEST}")[0] == 404
    assert client("POST", "/v2/team/other/blobs/uploads/", query=f"mount={DIGEST}&from={NAME}")[0] == 201
    client.blobs.delete(NAME)
    assert client("GET", f"/v2/team/other/blobs/{DIGEST}")[2] == LAYER
    assert client("HEAD", f"/v2/{NAME}/blobs/{DIGEST}")[0] == 404
    # One that the other repository does not have begins an upload.
    assert client("POST", "/v2/team/other/blobs/uploads/", query=f"mount={DIGEST}&from={NAME}")[0] == 202


def test_a_manifest_needs_its_layers(client: Client) -> None:
    manifest = json.dumps({"config": {"digest": DIGEST}, "layers": [{"digest": DIGEST}]}).encode()
    path = f"/v2/{NAME}/manifests/v1"
    status, _, body = client("PUT", path, manifest)
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert client.images.manifests == {}
    client("POST", f"/v2/{NAME}/blobs/uploads/", LAYER, query=f"digest={DIGEST}")
    assert client("PUT", path, manifest)[0] == 201
    assert client.changes
    status, found, body = client("HEAD", path)
    assert (status, found["content-length"], body) == (200, str(len(manifest)), b"")
    assert client("GET", f"/v2/{NAME}/tags/list")[2] == b'["v1"]'
    assert client("DELETE", path)[0] == 202


@pytest.mark.parametrize("manifest", [b"", b"not JSON", b"[]", b'{"layers": 1}', b'{"config": {}, "layers": [{}]}'])
def test_what_is_no_manifest(client: Client, manifest: bytes) -> None:
    assert client("PUT", f"/v2/{NAME}/manifests/v1", manifest)[0] == 400


def test_an_index_names_manifests_and_no_blobs() -> None:
    assert referenced_blobs(b'{"manifests": [{"digest": "sha256:1"}]}') == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/_catalog", 404),
        ("GET", "/v2/nobodys/tags/list", 404),
        ("GET", f"/v2/{NAME}/blobs/sha256:1", 404),
        ("GET", f"/v2/{NAME}/blobs/..", 404),
        ("PATCH", f"/v2/{NAME}/blobs/uploads/unknown", 404),
        ("POST", f"/v2/{NAME}/manifests/v1", 405),
        ("PUT", f"/v2/{NAME}/tags/list", 405),
    ],
)
def test_what_is_not_there(client: Client, method: str, path: str, status: int) -> None:
    assert client(method, path)[0] == status


@pytest.mark.parametrize("name", ["../data", "a/../b", ".uploads", "", "A"])
def test_a_repository_is_never_a_path_out(tmp_path: Path, name: str) -> None:
    store = BlobStore(tmp_path / "registry")
    (tmp_path / "data").mkdir()
    assert store.find(name, DIGEST) is None
    store.delete(name)
    assert (tmp_path / "data").is_dir()


def test_an_upload_can_be_given_up_and_is_forgotten_with_the_engine(client: Client, tmp_path: Path) -> None:
    location = client.begin()
    assert client("DELETE", location)[0] == 204
    assert client("DELETE", location)[0] == 404
    client("PATCH", client.begin(), LAYER)
    BlobStore(tmp_path / "registry")
    assert not (tmp_path / "registry" / ".uploads").exists()
