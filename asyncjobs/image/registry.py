"""One repository of a registry, by the OCI distribution API: manifests and blobs, to and fro.

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, with what ECR does differently:
a blob in several PATCH requests loses parts, so each goes in one PUT; and some answers are 201 where the
specification says 202.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlencode

from urllib3.response import BaseHTTPResponse

from asyncjobs.errors import DockerError, TagTakenError, TokenExpiredError
from asyncjobs.image.transport import Body, PassingError, RefusedError, Transport

T = TypeVar("T")

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (OCI_INDEX, DOCKER_INDEX)

_ACCEPT = {"accept": ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))}
_CHUNK = 1 << 20
_DONE = (200, 201, 202, 204)
# What registries with immutable tags answer: ECR, Harbor.
_TAG_TAKEN = ("TAG_INVALID", "ImageTagAlreadyExistsException")


@dataclass(frozen=True)
class Blob:
    """Args:
    digest: "sha256:...".
    size: Bytes.
    """

    digest: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Args:
    content: As the registry has it: the digest is of these bytes.
    """

    content: bytes
    media_type: str
    digest: str


class Registry:
    """Threads may share it.

    Args:
        insecure: Plain HTTP.
        credentials: User and password; None for nobody.
    """

    def __init__(
        self,
        host: str,
        repository: str,
        *,
        insecure: bool = False,
        credentials: tuple[str, str] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self.repository = repository
        self._http = Transport(host, insecure=insecure, credentials=credentials, sleep=sleep)
        self._path = f"/v2/{repository}"

    def find(self, version: str) -> str | None:
        """The digest of what is there under a tag or digest; None when nothing is.

        Raises:
            DockerError: The registry does not say.
        """
        answer = self._request("HEAD", f"manifests/{version}", accepts=(200, 404), headers=_ACCEPT)
        if answer.status == 404:
            return None
        return answer.headers.get("docker-content-digest") or self.manifest(version).digest

    def manifest(self, version: str) -> Manifest:
        """A manifest or an index, by tag or digest.

        Raises:
            DockerError: It is not there, or is not what its digest says.
        """
        answer = self._request("GET", f"manifests/{version}", accepts=(200, 404), headers=_ACCEPT)
        if answer.status == 404:
            raise self._missing(version)
        digest = digest_of(answer.data)
        if version.startswith("sha256:") and digest != version:
            raise self._spoilt(version)
        return Manifest(answer.data, answer.headers.get("content-type", "").split(";")[0].strip(), digest)

    def has(self, blob: Blob) -> bool:
        """Whether the repository has it, whole."""
        return self._request("HEAD", f"blobs/{blob.digest}", accepts=(200, 404)).status == 200

    def download(self, blob: Blob, into: IO[bytes]) -> None:
        """Write a blob into a file, from its start. No more than a MiB of it is in memory.

        Raises:
            DockerError: It cannot be had, or is not what its digest says.
            OSError: The file cannot be written.
        """
        self._repeat(lambda: self._download(blob, into))

    def upload(
        self,
        blob: Blob,
        fetch: Callable[[], Path],
        mount_from: str = "",
        sent: Callable[[int], None] = lambda _size: None,
    ) -> bool:
        """Bring a blob into the repository unless it is there; whether it had to be sent.

        Args:
            fetch: Gives its file, when it is needed.
            mount_from: A repository of the same registry that has it, to be taken from there if the registry does that.
            sent: Told how many bytes of this try have gone so far.

        Raises:
            DockerError: The registry does not take it.
        """
        return self._repeat(lambda: self._upload(blob, fetch, mount_from, sent))

    def tag(self, tag: str, manifest: Manifest) -> None:
        """Put a manifest under a tag. None is ever moved.

        Raises:
            TagTakenError: Another manifest is there.
            DockerError: The registry does not take it.
        """
        there = self.find(tag)
        if there is None:
            headers = {"content-type": manifest.media_type}
            try:
                self._repeat(lambda: self._put(f"manifests/{tag}", headers, lambda: manifest.content))
                return
            except TagTakenError:
                there = self.find(tag)  # our own, if the answer to the first try was lost
        if there != manifest.digest:
            raise TagTakenError(
                f"{self._name}:{tag} is there already, as {there}.",
                why=f"It is never overwritten, and what was built is {manifest.digest}.",
            )

    def _download(self, blob: Blob, into: IO[bytes]) -> None:
        answer = self._once("GET", f"blobs/{blob.digest}", accepts=(200,), stream=True)
        seen, size = hashlib.sha256(), 0
        into.seek(0)
        into.truncate()
        try:
            with self._http.reading():
                for chunk in answer.stream(_CHUNK, decode_content=False):
                    size += len(chunk)
                    if size > blob.size:
                        break
                    into.write(chunk)
                    seen.update(chunk)
        finally:
            answer.close()
        if f"sha256:{seen.hexdigest()}" != blob.digest or size != blob.size:
            raise PassingError(self._spoilt(blob.digest))

    def _upload(self, blob: Blob, fetch: Callable[[], Path], mount_from: str, sent: Callable[[int], None]) -> bool:
        if self.has(blob):
            return False
        if mount_from and self._mounted(blob, mount_from):
            return False
        file = fetch()
        location = self._once("POST", "blobs/uploads/", accepts=_DONE, purpose="push").headers.get("location", "")
        headers = {"content-type": "application/octet-stream", "content-length": str(blob.size)}
        joint = "&" if "?" in location else "?"
        self._put(f"{location}{joint}{urlencode({'digest': blob.digest})}", headers, lambda: _Counted(file, sent))
        return True

    def _mounted(self, blob: Blob, repository: str) -> bool:
        query = urlencode({"mount": blob.digest, "from": repository})
        try:
            answer = self._http.request("POST", self._url(f"blobs/uploads/?{query}"), accepts=_DONE, purpose="push")
        except RefusedError:
            return False  # not all registries do this, and reading the other repository may not be allowed
        # The start of an upload, which ECR answers with 201 as well, is left: it ends by itself.
        return answer.status == 201 and "/uploads/" not in answer.headers.get("location", "")

    def _put(self, path: str, headers: Mapping[str, str], body: Callable[[], Body]) -> None:
        self._once("PUT", path, accepts=_DONE, purpose="push", headers=headers, body=body)

    def _request(self, method: str, path: str, **options: Any) -> BaseHTTPResponse:
        return self._repeat(lambda: self._once(method, path, **options))

    def _repeat(self, call: Callable[[], T]) -> T:
        return self._http.repeat(call)

    def _once(self, method: str, path: str, **options: Any) -> BaseHTTPResponse:
        try:
            return self._http.request(method, self._url(path), **options)
        except RefusedError as refused:
            if method == "PUT" and (refused.code in _TAG_TAKEN or "immutable" in refused.message):
                raise TagTakenError(f"{self._name} has an image under that tag.", why=refused.message) from refused
            raise self._explained(refused) from refused

    def _url(self, path: str) -> str:
        """Of a path within the repository; what a `Location` said stays as it is."""
        return path if path.startswith(("/", "http:", "https:")) else f"/v2/{self.repository}/{path}"

    @property
    def _name(self) -> str:
        return f"{self.host}/{self.repository}"

    def _explained(self, refused: RefusedError) -> DockerError:
        why = f"{refused.status} {refused.code} {refused.message}".strip()
        if refused.status not in (401, 403):
            return DockerError(f"The registry refused a request about {self._name}.", why=why)
        if "expired" in refused.message:
            return TokenExpiredError(
                f"The login to the registry {self.host} has expired.",
                why=why,
                hint="Run the command again, which logs in to the stack's repository anew; for another registry, run "
                "`docker login` first.",
            )
        return DockerError(
            f"The registry does not allow access to {self._name}.",
            why=why,
            hint="Check the image's name (some registries answer so for what does not exist) and, if it is private, "
            "log in to its registry with `docker login`.",
        )

    def _missing(self, version: str) -> DockerError:
        joint = "@" if version.startswith("sha256:") else ":"
        return DockerError(
            f"There is no image {self._name}{joint}{version}.",
            hint="Check `base_image` under [worker] in asyncjobs.toml.",
        )

    def _spoilt(self, digest: str) -> DockerError:
        return DockerError(
            f"What {self._name} gave is not {digest}.",
            why="It was changed or cut short on its way.",
            hint="Run the command again; if it stays so, look for a proxy that changes what is downloaded.",
        )


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Counted:
    """A file that tells how much of it has been read."""

    def __init__(self, file: Path, read: Callable[[int], None]) -> None:
        self._stream = file.open("rb")
        self._tell = read

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._tell(self._stream.tell())
        return data

    def close(self) -> None:
        self._stream.close()
