"""Names of images, as Docker reads them: "python:3.12-slim" is registry-1.docker.io, library/python, 3.12-slim."""

from __future__ import annotations

import re
from dataclasses import dataclass

from asyncjobs.errors import ConfigError

DOCKER_HUB = "registry-1.docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
# https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:]+\])(?::\d+)?\Z", re.ASCII)
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?\Z")


@dataclass(frozen=True)
class Reference:
    """Args:
    host: With its port, where one is named.
    version: A tag or a digest ("sha256:...").
    """

    host: str
    repository: str
    version: str

    @property
    def insecure(self) -> bool:
        """Whether it is on loopback: only there plain HTTP is spoken, as Docker does."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    return bool(_LOOPBACK.match(host))


def parse(text: str) -> Reference:
    """Read an image's name.

    Raises:
        ConfigError: It is no name of an image.
    """
    name, at, digest = text.partition("@")
    first, slash, rest = name.partition("/")
    # https://pkg.go.dev/github.com/distribution/reference: what has a dot or a port is a host.
    named = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first, rest) if named else ("docker.io", name)
    repository, colon, tag = path.partition(":")
    if host in _HUB_NAMES:
        host = DOCKER_HUB
        repository = repository if "/" in repository else f"library/{repository}"
    version = digest if at else tag if colon else "latest"
    right_version = (_DIGEST if at else _TAG).match(version)
    if not (_HOST.match(host) and _REPOSITORY.match(repository) and right_version):
        raise ConfigError(
            f"{text!r} is no name of an image.",
            hint='It looks like "public.ecr.aws/docker/library/python:3.12-slim", or ends in "@sha256:..." .',
        )
    return Reference(host, repository, version)
