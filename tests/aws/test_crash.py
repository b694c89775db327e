"""`up` and `down` killed at any AWS call: the next one converges, and nothing is left behind.

`make test` tries one point in 120, `make crash` all of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import pytest
from crash import Killed, Killer, account, down, inventory, properties, up
from sessions import plain_session, session

EVERY = int(os.environ.get("CRASH_EVERY", "120"))
MOST_CALLS = 90  # more than `up` and `down` make: a kill at a call that never comes is an error below
COMMANDS = {"up": up, "down": down}


@pytest.fixture(scope="module")
def clean() -> Any:
    """A stack that nobody disturbed, and how many calls each command makes."""
    patch = pytest.MonkeyPatch()
    counts = {}
    with account(patch):
        for name, command in COMMANDS.items():
            watched = session()
            killer = Killer(watched)
            command(watched)
            counts[name] = len(killer.calls)
            if name == "up":
                there = (inventory(), properties())
        assert inventory() == {}
    return there, counts


def points(command: str) -> list[Any]:
    return [
        pytest.param(command, number, when, id=f"{command}-{number}-{when}")
        for index, (number, when) in enumerate((n, w) for n in range(1, MOST_CALLS) for w in ("before", "after"))
        if index % EVERY == 0
    ]


@pytest.mark.parametrize(("command", "number", "when"), [*points("up"), *points("down")])
def test_killed_at_a_call(clean: Any, monkeypatch: pytest.MonkeyPatch, command: str, number: int, when: Any):
    there, counts = clean
    if number > counts[command]:
        return  # this command makes fewer calls
    with account(monkeypatch):
        if command == "down":
            up(plain_session())
        doomed = session()
        killer = Killer(doomed, number, when)
        with suppress(Killed):
            COMMANDS[command](doomed)
        # How often `down` looks whether something is gone varies by a call or two.
        assert killer.dead or len(killer.calls) < number
        if command == "down":
            down(plain_session())
            assert inventory() == {}
        up(plain_session())
        assert (inventory(), properties()) == there
        down(plain_session())
        assert inventory() == {}


def test_the_points_cover_every_call(clean: Any):
    _, counts = clean
    assert 0 < max(counts.values()) < MOST_CALLS, counts
