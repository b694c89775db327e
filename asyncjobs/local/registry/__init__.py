"""The registry of the emulated ECR: what `docker push`, `docker pull` and our own builder talk to under /v2/.

The emulator has one too, which keeps every layer in memory and writes all of them as base64 into one JSON file. Here
layers are files, and only manifests and tags are the emulator's, so that its ECR API knows the same images.
"""

from __future__ import annotations

from collections.abc import Callable

from asyncjobs.local.access import Endpoint
from asyncjobs.local.paths import EnginePaths
from asyncjobs.local.registry.app import Registry
from asyncjobs.local.registry.blobs import BlobStore
from asyncjobs.local.registry.ecr import USER, EcrImages, registry_password


class LocalRegistry:
    """The registry of one engine.

    Args:
        changed: Called when the emulator's ECR has changed.
    """

    def __init__(self, paths: EnginePaths, endpoint: Endpoint, changed: Callable[[], None]) -> None:
        host, password = f"127.0.0.1:{endpoint.port}", registry_password(endpoint.access_key)
        blobs = BlobStore(paths.registry)
        images = EcrImages(host, password, blobs.delete)
        images.install()
        self.app = Registry(images, blobs, password, changed)
        # Where it is, and what it wants.
        self.login = (host, USER, password)
