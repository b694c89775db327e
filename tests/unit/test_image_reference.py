"""Names of images, as Docker reads them."""

from __future__ import annotations

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.image.reference import DOCKER_HUB, Reference, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "host", "repository", "version"),
    [
        ("python", DOCKER_HUB, "library/python", "latest"),
        ("python:3.12-slim", DOCKER_HUB, "library/python", "3.12-slim"),
        ("docker.io/python", DOCKER_HUB, "library/python", "latest"),
        ("index.docker.io/ada/image:1", DOCKER_HUB, "ada/image", "1"),
        ("ada/image", DOCKER_HUB, "ada/image", "latest"),
        ("public.ecr.aws/docker/library/python:3", "public.ecr.aws", "docker/library/python", "3"),
        ("localhost/image", "localhost", "image", "latest"),
        ("127.0.0.1:5000/a/b__c:1.0_x", "127.0.0.1:5000", "a/b__c", "1.0_x"),
        ("[::1]:5000/image", "[::1]:5000", "image", "latest"),
        (f"ghcr.io/a/b@{DIGEST}", "ghcr.io", "a/b", DIGEST),
        (f"ghcr.io/a/b:1@{DIGEST}", "ghcr.io", "a/b", DIGEST),
    ],
)
def test_what_it_stands_for(text: str, host: str, repository: str, version: str) -> None:
    assert parse(text) == Reference(host, repository, version)


@pytest.mark.parametrize(
    "text", ["", "Python", "a b", "ghcr.io/", "a:", "a:b:c", "a@sha256:1", "a/../b", "a:-x", "-a", "a@", "https://a/b"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ConfigError, match="is no name of an image"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "insecure"),
    [
        ("localhost:5000/a", True),
        ("127.0.0.1:5000/a", True),
        ("127.9.8.7/a", True),
        ("[::1]:5000/a", True),
        ("127.0.0.1.example.org/a", False),
        ("10.0.0.1:5000/a", False),
        ("a", False),
    ],
)
def test_only_loopback_is_spoken_to_without_tls(text: str, insecure: bool) -> None:
    assert parse(text).insecure is insecure
