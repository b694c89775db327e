"""What every resource of one stack is made with."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncjobs.aws import Clients, Waiter
from asyncjobs.config import Config
from asyncjobs.names import Names
from asyncjobs.provision.resource import State


@dataclass(frozen=True)
class Context:
    """One stack in one account and region. `down` works with the defaults of `config`: it reads no file."""

    clients: Clients
    names: Names
    waiter: Waiter
    config: Config
    # From a REST API's id and stage to where its stage answers: the endpoint's matter, not the resource's.
    api_url: Callable[[str, str], str]
    # Whether to wait until tasks run.
    wait: bool = True
    # Epoch seconds, for leases that other machines read.
    now: Callable[[], float] = time.time
    # Tells this run of a command from every other.
    run: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def tags(self) -> dict[str, str]:
        """The user's tags and, last because nothing may override it, the one that says whose it is."""
        return {**self.config.stack.tags, **self.names.tags}

    def ours(self, found: Mapping[str, str]) -> dict[str, str]:
        """Of a resource's tags, those this stack sets: what others tagged it with is left alone."""
        return {key: found[key] for key in self.tags if key in found}


def differing(desired: Mapping[str, Any], state: State) -> frozenset[str]:
    """The properties a `create` has left to set on what it found there already."""
    return frozenset(key for key, value in desired.items() if state.properties.get(key) != value)


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    """An IAM policy document of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}
