"""The two streams of a command, and how errors look."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, TextIO

from asyncjobs.errors import AsyncJobsError


def clean(text: str) -> str:
    """Text from a handler or a payload without what could drive a terminal: control characters become visible."""
    return "".join(char if char in "\n\t" or unicodedata.category(char) != "Cc" else repr(char)[1:-1] for char in text)


class Output:
    """Where a command writes.

    Args:
        as_json: Data is JSON, one document a line.
        quiet: Say nothing to the person but errors.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.live = self.stderr.isatty() and not quiet and env.get("TERM") != "dumb"
        self.colour = self.live and not env.get("NO_COLOR")

    def data(self, text: str) -> None:
        """A line of what the command is asked for."""
        print(text, file=self.stdout, flush=True)

    def document(self, value: Any) -> None:
        """One JSON document on one line."""
        self.data(json.dumps(value, ensure_ascii=False))

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        self.stdout.flush()
        self.stdout.buffer.write(data)
        self.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """A line to the person."""
        if not self.quiet:
            # In one piece: a handler's output and its progress come from two threads.
            self.stderr.write(f"{text}\n")
            self.stderr.flush()

    def error(self, error: AsyncJobsError) -> None:
        """What happened, why, and what to do next."""
        if self.as_json:
            known = {"error": type(error).__name__, "message": error.what, "why": error.why, "hint": error.hint}
            text = json.dumps(
                {**{key: value for key, value in known.items() if value}, **error.details}, ensure_ascii=False
            )
        else:
            parts = [("error", error.what), ("  why", error.why), (" next", error.hint)]
            text = "\n".join(f"{self._bold(name)}: {clean(value)}" for name, value in parts if value)
        print(text, file=self.stderr, flush=True)

    def _bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text
