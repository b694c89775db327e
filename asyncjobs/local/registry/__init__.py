"""The registry of the emulated ECR: what `docker push`, `docker pull` and our own builder talk to under /v2/.

The emulator has one too, which keeps every layer in memory and writes all of them as base64 into one JSON file. Here
layers are files, and only manifests and tags are the emulator's, so that its ECR API knows the same images.
"""

from asyncjobs.local.registry.app import Registry
from asyncjobs.local.registry.blobs import BlobStore
from asyncjobs.local.registry.ecr import EcrImages, registry_password

__all__ = ["BlobStore", "EcrImages", "Registry", "registry_password"]
