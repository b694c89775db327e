"""What a worker logs, as values."""

from __future__ import annotations

import io
import json
from typing import Any

from asyncjobs.worker.logs import Log


class Lines(Log):
    """A log that keeps its lines as values."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        super().__init__(self._text)

    @property
    def lines(self) -> list[dict[str, Any]]:
        # Not splitlines(), which would also break a line at U+2028 and the like within it.
        return [json.loads(line) for line in self._text.getvalue().split("\n")[:-1]]

    def messages(self, level: str = "") -> list[str]:
        return [line["message"] for line in self.lines if not level or line["level"] == level]
