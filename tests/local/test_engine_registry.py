"""The emulated ECR takes images by the registry's HTTP API, and has them again after a restart."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3
from engines import Aws, engine_in, until

from asyncjobs.local.control import LocalEngine
from asyncjobs.progress import NullProgress

NAME = "asyncjobs-pushed"
TYPE = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = engine_in(tmp_path / "state")
    try:
        engine.start(NullProgress())
        yield engine
    finally:
        engine.stop(NullProgress())


def aws_of(engine: LocalEngine) -> Aws:
    info = engine.running()
    assert info is not None
    return Aws(info)


class Pusher:
    """Pushes as our builder does: a POST, and all of a blob in one PUT."""

    def __init__(self, aws: Aws, pool: urllib3.PoolManager) -> None:
        found = aws.ecr.describe_repositories(repositoryNames=[NAME])["repositories"][0]
        self._host, self.name = found["repositoryUri"].split("/", 1)
        token = aws.ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        assert base64.b64decode(token).startswith(b"AWS:")
        self._headers = {"Authorization": f"Basic {token}"}
        self._pool = pool

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        url = path if path.startswith("http") else f"http://{self._host}{path}"
        return self._pool.request(method, url, body=body, headers={**self._headers, **headers})

    def blob(self, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self.send("POST", f"/v2/{self.name}/blobs/uploads/")
        assert begun.status == 202
        assert self.send("PUT", f"{begun.headers['Location']}?digest={digest}", content).status == 201
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}

    def image(self, tag: str, layers: list[bytes]) -> tuple[int, str]:
        with ThreadPoolExecutor(4) as threads:
            config, *descriptors = threads.map(self.blob, [b"{}", *layers])
        manifest = {"schemaVersion": 2, "mediaType": TYPE, "config": config, "layers": descriptors}
        answer = self.send(
            "PUT", f"/v2/{self.name}/manifests/{tag}", json.dumps(manifest).encode(), **{"Content-Type": TYPE}
        )
        return answer.status, answer.headers.get("Docker-Content-Digest", "")


def test_a_push_is_kept_under_its_tag_and_over_a_restart_and_goes_with_its_repository(engine: LocalEngine) -> None:
    aws = aws_of(engine)
    aws.ecr.create_repository(repositoryName=NAME, imageTagMutability="IMMUTABLE")
    layers = [bytes([number]) * 3_000_000 for number in range(4)]
    with urllib3.PoolManager(maxsize=4) as pool:
        pusher = Pusher(aws, pool)
        status, digest = pusher.image("v1", layers)
        assert status == 201
        assert pusher.image("v1", layers) == (201, digest)
        assert pusher.image("v1", layers[:1])[0] == 400  # an immutable tag
        details = aws.ecr.describe_images(repositoryName=NAME)["imageDetails"]
        assert [(each["imageDigest"], each["imageTags"]) for each in details] == [(digest, ["v1"])]

        engine.stop(NullProgress())
        engine.start(NullProgress())
        aws = aws_of(engine)
        pusher = Pusher(aws, pool)
        manifest = pusher.send("GET", f"/v2/{NAME}/manifests/{digest}")
        assert (manifest.status, manifest.headers["Content-Type"]) == (200, TYPE)
        found = [each["digest"] for each in manifest.json()["layers"]]
        assert [pusher.send("GET", f"/v2/{NAME}/blobs/{each}").data for each in found] == layers

        blobs = engine.state_dir / "data" / "registry" / NAME
        assert len(list(blobs.iterdir())) == 5
        aws.ecr.delete_repository(repositoryName=NAME, force=True)
        assert pusher.send("GET", f"/v2/{NAME}/manifests/{digest}").status == 404
        until(lambda: not blobs.exists())


def test_layers_are_no_part_of_the_state_that_is_written_again_and_again(engine: LocalEngine) -> None:
    aws = aws_of(engine)
    aws.ecr.create_repository(repositoryName=NAME)
    with urllib3.PoolManager(maxsize=4) as pool:
        Pusher(aws, pool).image("v1", [b"x" * 5_000_000])
    engine.stop(NullProgress())
    states = [file for file in (engine.state_dir / "data").rglob("ecr*") if file.is_file()]
    assert states
    assert sum(file.stat().st_size for file in states) < 100_000


def test_nobody_pushes_or_pulls_without_a_token(engine: LocalEngine) -> None:
    info = engine.running()
    assert info is not None
    for headers in ({}, urllib3.make_headers(basic_auth=f"AWS:{info.access_key}")):
        answer = urllib3.request("GET", f"{info.endpoint_url}/v2/", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
