"""The worker's image: here, one that already exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncjobs.provision.resource import Inputs, State


class GivenImage:
    """An image that somebody else built and owns: nothing to create and nothing to delete.

    Args:
        uri: What ECS is to run; "" when there is none at hand (`down`).
        architecture: "x86_64" or "arm64".
    """

    step = "image"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, uri: str, architecture: str) -> None:
        self.uri = uri
        self._outputs = {"uri": uri, "architecture": architecture}
        self.title = f"image {uri}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {}

    def read(self) -> State | None:
        return State(self._outputs) if self._outputs["uri"] else None

    def create(self, inputs: Inputs) -> State:
        return State(self._outputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        return state

    def delete(self, state: State) -> None:
        """It is not ours."""
