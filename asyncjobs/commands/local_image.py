"""The image of a local stack as a resource: a snapshot of the project that the task runner starts processes from."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asyncjobs.local.image import ProcessImages
from asyncjobs.progress import Progress
from asyncjobs.provision.resource import Inputs, State

_ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}


class LocalImage:
    """Built when the project's content is new.

    Args:
        project: The project's directory; None where only deleting is at hand.
    """

    step = "image"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, images: ProcessImages, stack: str, project: Path | None, progress: Progress) -> None:
        self._images = images
        self._stack = stack
        self._project = project
        self._progress = progress
        self.title = "snapshot of the project"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {}

    def read(self) -> State | None:
        if self._project is None:
            return State()
        reference = self._images.find(self._project, self._stack)
        return self._state(reference) if reference else None

    def create(self, inputs: Inputs) -> State:
        if self._project is None:
            raise ValueError("there is no project to build an image from")
        return self._state(self._images.build(self._project, self._stack, self._progress))

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        return state

    def delete(self, state: State) -> None:
        self._images.remove(self._stack)

    @staticmethod
    def _state(reference: str) -> State:
        architecture = _ARCHITECTURES.get(platform.machine().lower(), "x86_64")
        return State({"uri": reference, "architecture": architecture})
