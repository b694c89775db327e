"""The client of registries' API, against a registry that behaves as ECR and others do."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_registry import LOGIN, FakeRegistry, Fault, digest_of, error, serving

from asyncjobs.errors import DockerError, ExitCode, TagTakenError, TokenExpiredError
from asyncjobs.image.registry import OCI_INDEX, OCI_MANIFEST, Blob, Manifest, Registry
from asyncjobs.image.transport import Transport
from asyncjobs.image.uploads import Uploads
from asyncjobs.progress import RecordingProgress

CONTENT = b"a layer" * 100_000
BLOB = Blob(digest_of(CONTENT), len(CONTENT))


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serving(FakeRegistry()) as registry:
        yield registry


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def client(fake: FakeRegistry, pauses: list[float]) -> Any:
    def make(repository: str = "demo", **options: Any) -> Registry:
        return Registry(fake.host, repository, insecure=True, sleep=pauses.append, **options)

    return make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "layer"
    path.write_bytes(CONTENT)
    return path


def manifest(*layers: Blob, config: Blob = BLOB) -> Manifest:
    described = [{"mediaType": "x", "digest": each.digest, "size": each.size} for each in (config, *layers)]
    content = json.dumps({"config": described[0], "layers": described[1:]}).encode()
    return Manifest(content, OCI_MANIFEST, digest_of(content))


@pytest.mark.parametrize("auth", ["", "basic", "bearer"])
@pytest.mark.parametrize("created", [201, 202])
@pytest.mark.parametrize("relative", [True, False])
def test_a_blob_goes_in_one_put(
    fake: FakeRegistry, client: Any, file: Path, auth: str, created: int, relative: bool
) -> None:
    fake.auth, fake.created, fake.relative = auth, created, relative
    registry = client(credentials=LOGIN)
    assert registry.upload(BLOB, lambda: file)
    assert fake.blobs["demo"][BLOB.digest] == CONTENT
    assert fake.methods["PATCH"] == 0
    assert registry.has(BLOB)


def test_a_blob_that_is_there_is_neither_fetched_nor_sent(fake: FakeRegistry, client: Any) -> None:
    fake.add_blob("demo", CONTENT)
    assert not client().upload(BLOB, lambda: pytest.fail("fetched"))
    assert fake.methods == {"HEAD": 1}


def test_a_blob_of_another_repository_is_mounted(fake: FakeRegistry, client: Any) -> None:
    fake.mounts = True
    fake.add_blob("python", CONTENT)
    assert not client().upload(BLOB, lambda: pytest.fail("fetched"), "python")
    assert fake.blobs["demo"][BLOB.digest] == CONTENT


@pytest.mark.parametrize("created", [201, 202])
def test_a_registry_that_does_not_mount_gets_the_blob(
    fake: FakeRegistry, client: Any, file: Path, created: int
) -> None:
    fake.created = created
    fake.add_blob("python", CONTENT)
    assert client().upload(BLOB, lambda: file, "python")
    assert fake.blobs["demo"][BLOB.digest] == CONTENT


def test_a_mount_that_is_refused_is_no_error(fake: FakeRegistry, client: Any, file: Path) -> None:
    fake.faults.append(Fault("POST", "mount=", 403))
    assert client().upload(BLOB, lambda: file, "python")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "uploads", 0),
        Fault("PUT", "uploads", 0, times=3),
        Fault("PUT", "uploads", 500),
        Fault("PUT", "uploads", 429),
        Fault("POST", "uploads", 503, times=2),
        Fault("HEAD", "blobs", 0),
    ],
    ids=lambda fault: f"{fault.method} {fault.status} x{fault.times}",
)
def test_an_upload_that_fails_is_tried_again(
    fake: FakeRegistry, client: Any, file: Path, pauses: list[float], fault: Fault
) -> None:
    times = fault.times
    fake.faults.append(fault)
    assert client().upload(BLOB, lambda: file)
    assert fake.blobs["demo"][BLOB.digest] == CONTENT
    assert len(pauses) == times


def test_an_upload_whose_answer_is_lost_is_found_done(fake: FakeRegistry, client: Any, file: Path) -> None:
    fake.faults.append(Fault("PUT", "uploads", 0, after=True))
    client().upload(BLOB, lambda: file)
    assert fake.count("PUT") == 1


def test_it_waits_as_long_as_it_is_asked_to(fake: FakeRegistry, client: Any, file: Path, pauses: list[float]) -> None:
    fake.faults.append(Fault("PUT", "uploads", 429, headers={"retry-after": "17"}))
    client().upload(BLOB, lambda: file)
    assert pauses == [17.0]


def test_four_at_once_and_no_more(fake: FakeRegistry, client: Any, tmp_path: Path, pauses: list[float]) -> None:
    fake.faults.append(Fault("PUT", "uploads", 0, times=3))
    with Uploads(client(), "image", RecordingProgress()) as uploads:
        for number in range(12):
            content = bytes([number]) * 500_000
            path = tmp_path / str(number)
            path.write_bytes(content)
            uploads.add(Blob(digest_of(content), len(content)), lambda path=path: path)
        uploads.finish()
    assert len(fake.blobs["demo"]) == 12
    assert 1 <= fake.most_seen <= 4


def test_it_says_how_much_has_gone(fake: FakeRegistry, client: Any, tmp_path: Path) -> None:
    content = b"x" * 5_000_000
    (tmp_path / "layer").write_bytes(content)
    progress = RecordingProgress()
    with Uploads(client(), "image", progress) as uploads:
        uploads.add(Blob(digest_of(content), len(content)), lambda: tmp_path / "layer")
        uploads.finish()
    said = [event.text for event in progress.events]
    assert "pushing 0 of 1 layers, 2 of 5 MB" in said
    assert said[-1] == "pushing 1 of 1 layers, 5 of 5 MB"


def test_one_that_fails_is_said(fake: FakeRegistry, client: Any, file: Path) -> None:
    fake.faults.append(Fault("POST", "uploads", 403, error("DENIED", "no"), times=99))
    with Uploads(client(), "image", RecordingProgress()) as uploads:
        for _ in range(9):
            uploads.add(BLOB, lambda: file)
        with pytest.raises(DockerError, match="does not allow access"):
            uploads.finish()


def test_a_killed_push_goes_on_from_what_is_there(fake: FakeRegistry, client: Any, tmp_path: Path) -> None:
    contents = [bytes([number]) * 1000 for number in range(6)]
    for content in contents[:4]:
        fake.add_blob("demo", content)
    with Uploads(client(), "image", RecordingProgress()) as uploads:
        for content in contents:
            path = tmp_path / digest_of(content)[7:]
            path.write_bytes(content)
            uploads.add(Blob(digest_of(content), len(content)), lambda path=path: path)
        uploads.finish()
    assert fake.count("PUT") == 2


@pytest.mark.parametrize("auth", ["", "basic", "bearer"])
def test_a_password_stays_with_its_registry(fake: FakeRegistry, client: Any, auth: str) -> None:
    """Blobs come from S3 or a CDN, which refuse a second authorisation; and it is none of their business."""
    fake.auth, fake.redirects = auth, True
    fake.add_blob("demo", CONTENT)
    out = io.BytesIO()
    client(credentials=LOGIN).download(BLOB, out)
    assert out.getvalue() == CONTENT
    assert [sent for host, _, sent in fake.authorizations if host == fake.other_host] == [""]


def test_nobody_gets_a_token_too(fake: FakeRegistry, client: Any) -> None:
    fake.auth = "bearer"
    digest = fake.add_manifest("demo", "1", {"manifests": []}, OCI_INDEX)
    assert client().manifest("1").digest == digest
    assert [sent for _, path, sent in fake.authorizations if path.startswith("/token")] == [""]


def test_a_token_is_asked_for_once(fake: FakeRegistry, client: Any) -> None:
    fake.auth = "bearer"
    fake.add_blob("demo", CONTENT)
    registry = client(credentials=LOGIN)
    for _ in range(5):
        assert registry.has(BLOB)
    assert fake.count("GET", "/token") == 1


def test_a_token_that_runs_out_is_asked_for_again(fake: FakeRegistry, client: Any, file: Path) -> None:
    fake.auth = "bearer"
    registry = client(credentials=LOGIN)
    assert not registry.has(BLOB)
    challenge = f'Bearer realm="http://{fake.host}/token",service="fake",scope="repository:demo:pull"'
    fake.faults.append(Fault("PUT", "uploads", 401, headers={"www-authenticate": challenge}))
    assert registry.upload(BLOB, lambda: file)
    assert fake.blobs["demo"][BLOB.digest] == CONTENT
    assert len(fake.tokens) == 3  # to read, to write, and again


def test_a_download_that_breaks_off_starts_again(fake: FakeRegistry, client: Any) -> None:
    fake.add_blob("demo", CONTENT)
    fake.faults.append(Fault("GET", "blobs", 200, CONTENT[:1000], {"content-length": str(len(CONTENT))}))
    out = io.BytesIO()
    # The rest of the body never comes: the server's thread has to end for that.
    fake.faults[0].headers["connection"] = "close"
    client().download(BLOB, out)
    assert out.getvalue() == CONTENT


@pytest.mark.parametrize("wrong", [b"a proxy's page", CONTENT + b"more", CONTENT[:-1] + b"x"])
def test_what_is_not_the_digest_is_refused(fake: FakeRegistry, client: Any, wrong: bytes) -> None:
    fake.repository("demo")[0][BLOB.digest] = wrong
    with pytest.raises(DockerError, match="is not sha256"):
        client().download(BLOB, io.BytesIO())


def test_a_manifest_that_is_not_its_digest_is_refused(fake: FakeRegistry, client: Any) -> None:
    fake.repository("demo")[1][BLOB.digest] = b"{}", OCI_MANIFEST
    with pytest.raises(DockerError, match="is not sha256"):
        client().manifest(BLOB.digest)


class TestTags:
    @pytest.fixture(autouse=True)
    def blobs(self, fake: FakeRegistry) -> None:
        fake.add_blob("demo", CONTENT)

    def test_a_manifest_gets_its_tag(self, fake: FakeRegistry, client: Any) -> None:
        client().tag("1", manifest())
        assert fake.manifests["demo"]["1"] == (manifest().content, OCI_MANIFEST)

    def test_the_same_again_is_nothing_to_do(self, fake: FakeRegistry, client: Any) -> None:
        client().tag("1", manifest())
        client().tag("1", manifest())
        assert fake.count("PUT") == 1

    def test_a_tag_is_never_moved(self, fake: FakeRegistry, client: Any) -> None:
        client().tag("1", manifest())
        with pytest.raises(TagTakenError, match="is there already"):
            client().tag("1", manifest(BLOB))
        assert fake.count("PUT") == 1

    def test_nor_when_another_comes_in_between(self, fake: FakeRegistry, client: Any) -> None:
        fake.faults.append(Fault("HEAD", "manifests", 404))
        client().tag("1", manifest())
        fake.faults.append(Fault("HEAD", "manifests", 404))
        with pytest.raises(TagTakenError):
            client().tag("1", manifest(BLOB))
        assert fake.manifests["demo"]["1"][0] == manifest().content

    def test_a_lost_answer_is_no_failure(self, fake: FakeRegistry, client: Any) -> None:
        fake.faults.append(Fault("PUT", "manifests", 0, after=True))
        client().tag("1", manifest())
        assert fake.count("PUT") == 2


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (Fault("HEAD", "", 403, times=9), DockerError, "does not allow access"),
        (Fault("HEAD", "", 429, times=9), DockerError, "limits how often"),
        (Fault("HEAD", "", 502, times=9), DockerError, "failed: 502"),
        (Fault("HEAD", "", 400, times=9), DockerError, "refused a request"),
        (Fault("HEAD", "", 0, times=9), DockerError, "cannot be reached"),
    ],
    ids=["403", "429", "502", "400", "dropped"],
)
def test_what_does_not_pass_is_said(
    fake: FakeRegistry, client: Any, fault: Fault, kind: type[DockerError], says: str
) -> None:
    fake.faults.append(fault)
    with pytest.raises(kind, match=says) as caught:
        client().has(BLOB)
    assert caught.value.exit_code == ExitCode.DOCKER
    assert caught.value.hint or fault.status == 400


def test_a_wrong_password_is_said(fake: FakeRegistry, client: Any) -> None:
    fake.auth = "basic"
    with pytest.raises(DockerError, match="does not allow access"):
        client(credentials=("AWS", "wrong")).has(BLOB)


def test_an_expired_token_is_said(fake: FakeRegistry, client: Any, file: Path) -> None:
    said = error("DENIED", "Your authorization token has expired. Reauthenticate and try again.")
    fake.faults.append(Fault("POST", "uploads", 403, said))
    with pytest.raises(TokenExpiredError, match="has expired"):
        client().upload(BLOB, lambda: file)


def test_an_image_that_is_not_there_is_said(client: Any) -> None:
    with pytest.raises(DockerError, match=r"There is no image .*demo:3\.12-slim") as caught:
        client().manifest("3.12-slim")
    assert "base_image" in caught.value.hint


def test_a_host_that_speaks_no_tls_is_said(fake: FakeRegistry, pauses: list[float]) -> None:
    with pytest.raises(DockerError, match="TLS failed"):
        Registry(fake.host, "demo", sleep=pauses.append).has(BLOB)
    assert not pauses


def test_a_password_is_not_sent_to_a_realm_without_tls(fake: FakeRegistry) -> None:
    transport = Transport("registry.example", credentials=LOGIN)
    with pytest.raises(DockerError, match="without TLS"):
        transport._token({"realm": f"http://{fake.host}/token"})
    assert not fake.requests


def test_threads_log_in_once(fake: FakeRegistry, client: Any) -> None:
    fake.auth = "bearer"
    registry = client(credentials=LOGIN)
    threads = [threading.Thread(target=registry.has, args=(BLOB,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fake.count("GET", "/token") == 1
