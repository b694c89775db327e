"""How far a pull or a push is, of all its layers together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MB = 1_000_000
_THERE = ("Layer already exists", "Mounted from", "Already exists")
_DONE = (*_THERE, "Pushed", "Pull complete")
_COUNTED = ("Pushing", "Downloading")
_OF_LAYERS = (
    *_COUNTED,
    *_DONE,
    "Preparing",
    "Waiting",
    "Pulling fs layer",
    "Verifying",
    "Download complete",
    "Extracting",
)


class Layers:
    """Sums up the lines that an engine sends of each layer."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._done: set[str] = set()
        self._there: set[str] = set()
        self._bytes: dict[str, tuple[int, int]] = {}

    def take(self, line: Mapping[str, Any]) -> str:
        """The sum after one more line: "pushing 3 of 7 layers, 12 of 80 MB"; "" when it is of no layer."""
        layer, status = line.get("id"), str(line.get("status", ""))
        if not layer or not status.startswith(_OF_LAYERS):
            return ""
        self._bytes.setdefault(layer, (0, 0))
        detail = line.get("progressDetail") or {}
        if status in _COUNTED and detail.get("total"):
            # The engine's guess of a layer's size is at times below what it then sends.
            self._bytes[layer] = (detail.get("current", 0), max(detail["total"], detail.get("current", 0)))
        if status.startswith(_DONE):
            self._done.add(layer)
            self._bytes[layer] = (self._bytes[layer][1],) * 2
        if status.startswith(_THERE):
            self._there.add(layer)
        return self._said()

    def _said(self) -> str:
        moved, total = (sum(column) // _MB for column in zip(*self._bytes.values(), strict=True))
        amount = f", {moved} of {total} MB" if total else ""
        known = f", {len(self._there)} were there" if self._there else ""
        return f"{self._doing} {len(self._done)} of {len(self._bytes)} layers{amount}{known}"
