"""The worker's settings, from the environment that the task definition gives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


class SettingsError(Exception):
    """One line for each mistake."""


@dataclass(frozen=True)
class Settings:
    """Times are in seconds.

    Args:
        handler: "module:function"; "" where `command` is set.
        command: The program and its arguments; empty where `handler` is set.
        lease: How long a claim lasts without a heartbeat.
        stop_timeout: How long work may go on after SIGTERM.
        dead_letter_queue_url: "" where nobody is to look after it.
        client: Who makes the calls of the hot path.
        health_port: 0 for no health check.
    """

    queue_url: str
    table: str
    bucket: str
    handler: str
    command: tuple[str, ...]
    concurrency: int
    isolation: Literal["process", "thread"]
    timeout: float
    max_attempts: int
    result_days: int
    lease: int
    stop_timeout: float
    dead_letter_queue_url: str
    client: Literal["lean", "boto3"]
    health_port: int

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Settings:
        """Raises SettingsError with every mistake."""
        reader = _Reader(env)
        handler = env.get("ASYNCJOBS_HANDLER", "")
        command = reader.command()
        if bool(handler) == bool(command):
            reader.mistakes.append("set either ASYNCJOBS_HANDLER or ASYNCJOBS_COMMAND")
        elif handler and handler.count(":") != 1:
            reader.mistakes.append(f"ASYNCJOBS_HANDLER={handler!r}: allowed: module:function")
        isolation = env.get("ASYNCJOBS_ISOLATION", "process")
        if isolation not in ("process", "thread"):
            reader.mistakes.append(f"ASYNCJOBS_ISOLATION={isolation!r}: allowed: process, thread")
        client = env.get("ASYNCJOBS_CLIENT", "lean")
        if client not in ("lean", "boto3"):
            reader.mistakes.append(f"ASYNCJOBS_CLIENT={client!r}: allowed: lean, boto3")
        settings = cls(
            queue_url=reader.text("ASYNCJOBS_QUEUE_URL"),
            table=reader.text("ASYNCJOBS_TABLE"),
            bucket=reader.text("ASYNCJOBS_BUCKET"),
            handler=handler,
            command=command,
            concurrency=reader.number("ASYNCJOBS_CONCURRENCY", 1),
            isolation="thread" if isolation == "thread" else "process",
            timeout=reader.number("ASYNCJOBS_TIMEOUT", 3600),
            max_attempts=reader.number("ASYNCJOBS_MAX_ATTEMPTS", 3),
            result_days=reader.number("ASYNCJOBS_RESULT_DAYS", 30),
            lease=reader.number("ASYNCJOBS_LEASE_SECONDS", 30),
            stop_timeout=reader.number("ASYNCJOBS_STOP_TIMEOUT", 110),
            dead_letter_queue_url=env.get("ASYNCJOBS_DEAD_LETTER_QUEUE_URL", ""),
            client="boto3" if client == "boto3" else "lean",
            health_port=reader.number("ASYNCJOBS_HEALTH_PORT", 0, least=0),
        )
        if reader.mistakes:
            raise SettingsError("\n".join(reader.mistakes))
        return settings


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.mistakes: list[str] = []

    def text(self, name: str) -> str:
        value = self._env.get(name, "")
        if not value:
            self.mistakes.append(f"{name} is not set")
        return value

    def number(self, name: str, default: int, *, least: int = 1) -> int:
        text = self._env.get(name, str(default))
        if not text.isdecimal() or int(text) < least:
            self.mistakes.append(f"{name}={text!r}: allowed: a whole number from {least}")
            return default
        return int(text)

    def command(self) -> tuple[str, ...]:
        text = self._env.get("ASYNCJOBS_COMMAND", "")
        if not text:
            return ()
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            self.mistakes.append(f"ASYNCJOBS_COMMAND={text!r}: allowed: a JSON list of strings")
            return ()
        return tuple(words)
