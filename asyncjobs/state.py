"""What this machine remembers between commands: only a cache, and where the local engine lives.

A forgotten stack is found again by its names and tags; nothing here is needed to take one down.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import platformdirs

from asyncjobs.errors import ConfigError


@dataclass(frozen=True)
class StackMemory:
    """What is remembered of a stack.

    Args:
        target: What it was last brought up on: "aws" or "local".
        api_url: Where its stage answers; "" when it is down.
        api_key: Its key; "" without one.
    """

    target: str
    region: str
    api_url: str = ""
    api_key: str = ""


class StateDir:
    """The folder of this user's state: `ASYNCJOBS_STATE_DIR`, else the platform's place for state.

    Layout: `stacks/<stack>.json` (mode 0600: it holds API keys), `locks/<stack>` and `local/` (the local engine).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, env: Mapping[str, str]) -> StateDir:
        given = env.get("ASYNCJOBS_STATE_DIR")
        return cls(Path(given) if given else platformdirs.user_state_path("asyncjobs", appauthor=False))

    @property
    def local(self) -> Path:
        return self.path / "local"

    def recall(self, stack: str) -> StackMemory | None:
        """What is remembered, or None; an unreadable file is no memory."""
        try:
            values = json.loads(self._file(stack).read_text(encoding="utf-8"))
            known = {field.name: values[field.name] for field in fields(StackMemory)}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return StackMemory(**known) if all(isinstance(value, str) for value in known.values()) else None

    def stack_at(self, api_url: str) -> str | None:
        """The stack that is remembered to answer at this URL."""
        for file in sorted((self.path / "stacks").glob("*.json")):
            memory = self.recall(file.stem)
            if memory is not None and memory.api_url == api_url.rstrip("/"):
                return file.stem
        return None

    def remember(self, stack: str, memory: StackMemory) -> None:
        """Keep it; readers never see half a file."""
        file = self._file(stack)
        partial = file.with_suffix(f".{os.getpid()}")
        with self._usable():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                json.dump(asdict(memory), out)
            partial.replace(file)

    @contextmanager
    def lock(self, stack: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the stack against another `up` or `down` on this machine; `on_wait` is called if one is at work."""
        file = self.path / "locks" / stack
        with self._usable():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(held, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"The state folder {self.path} cannot be used.",
                why=str(error),
                hint="Set ASYNCJOBS_STATE_DIR to a folder that you may write.",
            ) from error

    def _file(self, stack: str) -> Path:
        return self.path / "stacks" / f"{stack}.json"
