"""What builds and pulls have left in a Docker engine, which no registry knows of."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from docker.errors import DockerException

from asyncjobs.errors import NoEngineError
from asyncjobs.image.engine import connect

if TYPE_CHECKING:
    from docker import DockerClient

# The stage of our Dockerfile that is not pushed has this label, with the repository of its image.
REPOSITORY_LABEL = "asyncjobs.repository"
REPOSITORY_ARGUMENT = "ASYNCJOBS_REPOSITORY"


def remove_images(uri: str) -> None:
    """Remove every image of a repository from the machine's Docker engine, if one answers.

    What a container still runs from stays, and so do layers that other images have too.
    """
    try:
        client = connect()
    except NoEngineError:
        return
    try:
        with suppress(DockerException):
            _remove(client, uri)
    finally:
        client.close()


def _remove(client: DockerClient, uri: str) -> None:
    api: Any = client.api  # of which the SDK's types know half
    for image in api.images(name=uri):
        names = [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
        for name in names:
            if name.startswith((f"{uri}:", f"{uri}@")):
                with suppress(DockerException):
                    api.remove_image(name)
    api.prune_images(filters={"dangling": True, "label": f"{REPOSITORY_LABEL}={uri}"})
