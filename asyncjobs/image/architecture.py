"""Names of architectures: ours are those of ECS and of Linux, images have Go's."""

from __future__ import annotations

import platform
from typing import Literal

Architecture = Literal["x86_64", "arm64"]
# https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md: the names of GOARCH.
OF_IMAGES: dict[str, Architecture] = {"amd64": "x86_64", "arm64": "arm64"}
# Engines and machines use either.
BY_ANY_NAME: dict[str, Architecture] = {**OF_IMAGES, "x86_64": "x86_64", "aarch64": "arm64"}


def this_machine() -> Architecture:
    return BY_ANY_NAME.get(platform.machine().lower(), "x86_64")
