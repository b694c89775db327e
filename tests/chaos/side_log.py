"""What handlers write beside their results, for the checkers; imports little, as each handler's process does so."""

from __future__ import annotations

import os


def note(line: str) -> None:
    """One write to a file opened for appending: lines of processes that die stay whole."""
    log = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{line}\n".encode())
    os.close(log)
