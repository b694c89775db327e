"""What a command is run with: which stack, on which target, and where it says what it finds.

Kept light: `submit` and `status` go through here and must not import boto3.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from asyncjobs.console.output import Output
from asyncjobs.errors import ConfigError, NotFoundError
from asyncjobs.names import STACK_PATTERN, STACK_RULE
from asyncjobs.state import StackMemory, StateDir

if TYPE_CHECKING:
    from asyncjobs.client import JobsClient, Upload

CONFIG_FILE = "asyncjobs.toml"
DEFAULT_STACK = "default"


@dataclass(frozen=True)
class Options:
    """The options that every command takes. None means: not given."""

    stack: str | None = None
    region: str | None = None
    profile: str | None = None
    as_json: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Session:
    """One run of a command."""

    options: Options
    output: Output
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    directory: Path = field(default_factory=Path.cwd)

    @property
    def config_file(self) -> Path:
        return self.directory / CONFIG_FILE

    @property
    def state(self) -> StateDir:
        return StateDir.of(self.env)

    @property
    def stack(self) -> str:
        """The stack's name: `--stack`, ASYNCJOBS_STACK, asyncjobs.toml, else "default".

        Raises:
            ConfigError: It is no legal name.
        """
        name = self.given_stack or str(self._stack_section().get("name") or DEFAULT_STACK)
        if not STACK_PATTERN.match(name):
            raise ConfigError(f"{name!r} cannot be a stack's name.", why=f"Allowed: {STACK_RULE}.")
        return name

    @property
    def given_stack(self) -> str | None:
        """The name on the command line or in the environment, unchecked."""
        return self.options.stack or self.env.get("ASYNCJOBS_STACK") or self.env.get("ASYNCJOBS_STACK_NAME")

    @property
    def region(self) -> str | None:
        """`--region`, ASYNCJOBS_REGION, asyncjobs.toml; None leaves it to AWS's own configuration."""
        given = self.options.region or self.env.get("ASYNCJOBS_REGION") or self.env.get("ASYNCJOBS_STACK_REGION")
        if given:
            return given
        try:
            configured = self._stack_section().get("region")
        except ConfigError:
            if not self.given_stack:
                raise
            return None  # a stack that is named can be looked at and taken down beside a broken file
        return str(configured) if configured else None

    @property
    def profile(self) -> str | None:
        return self.options.profile or self.env.get("ASYNCJOBS_PROFILE")

    @property
    def memory(self) -> StackMemory | None:
        return self.state.recall(self.stack)

    @property
    def is_local(self) -> bool:
        """Whether this stack was last brought up on the local engine."""
        memory = self.memory
        return memory is not None and memory.target == "local"

    def is_local_with(self, target: str | None) -> bool:
        """Whether a command with `--target` (or not) means the local engine."""
        return target == "local" or (target is None and self.is_local)

    def locked(self) -> AbstractContextManager[None]:
        """Hold the stack against another `up` or `down` on this machine."""
        return self.state.lock(
            self.stack,
            lambda: self.output.say(f"Waiting: another `up` or `down` of {self.stack} is at work on this machine."),
        )

    @property
    def names_stack(self) -> bool:
        """Whether somebody said which stack is meant."""
        return bool(self.given_stack or self._stack_section().get("name"))

    def client(self, upload: Upload | None = None) -> JobsClient:
        """A client of the stack's API.

        Args:
            upload: What submits a payload that the API cannot take.

        Raises:
            NotFoundError: The stack is not up.
            CredentialsError: It would have to be looked up in AWS, and there are no credentials.
        """
        from asyncjobs.client import JobsClient

        url = self.env.get("ASYNCJOBS_API_URL")
        if url:
            return JobsClient(url, self.env.get("ASYNCJOBS_API_KEY", ""), upload=upload)
        memory = self.memory
        if memory is None or (memory.target == "aws" and not memory.api_url):
            memory = self._look_up()
        if not memory.api_url:
            raise NotFoundError(
                f"The stack {self.stack} is not up.", hint=f"Bring it up: `asyncjobs up{' --local' * self.is_local}`."
            )
        return JobsClient(memory.api_url, self.env.get("ASYNCJOBS_API_KEY") or memory.api_key, upload=upload)

    def _look_up(self) -> StackMemory:
        from asyncjobs.commands.target import look_up

        return look_up(self)

    def _stack_section(self) -> dict[str, object]:
        try:
            section = tomllib.loads(self.config_file.read_text(encoding="utf-8")).get("stack", {})
        except OSError:
            return {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.config_file} is not valid TOML.", why=str(error)) from error
        return section if isinstance(section, dict) else {}
