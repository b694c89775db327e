"""Asks before something that costs money or loses data."""

from __future__ import annotations

import sys

from asyncjobs.commands.session import Session
from asyncjobs.errors import UsageError


def can_ask(session: Session) -> bool:
    """Whether somebody sits there."""
    return sys.stdin.isatty() and session.output.stderr.isatty()


def ask(session: Session, question: str, *, refused: str) -> None:
    """Ask for a yes.

    Raises:
        UsageError: With `refused`, for any other answer.
    """
    session.output.stderr.write(f"{question} [y/N] ")
    session.output.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(refused)
