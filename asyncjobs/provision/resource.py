"""What a resource is: something in AWS with four verbs, and what it needs before it can exist.

`read` says what is there, `desired` what should be there; both speak in the same flat properties, so that the
difference between them is the plan. The engine adds order, parallelism, waiting and error context.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from asyncjobs.errors import ProvisionError
from asyncjobs.names import STACK_TAG

Outputs = Mapping[str, str]


class UnknownOutputError(LookupError):
    """While planning: a property depends on a resource that does not exist yet."""


@dataclass(frozen=True)
class State:
    """What `read` found.

    Args:
        outputs: What dependents may use: ids, ARNs, URLs.
        properties: The properties as they are, under the keys of `Resource.desired`.
    """

    outputs: Outputs = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)


class Inputs:
    """Outputs of the resources a resource needs, by step name."""

    def __init__(self, outputs: Mapping[str, Outputs]) -> None:
        self._outputs = outputs

    def get(self, step: str, key: str) -> str:
        """Raises UnknownOutputError where the step has not run yet."""
        try:
            return self._outputs[step][key]
        except KeyError:
            raise UnknownOutputError(f"{step}.{key}") from None


class Resource(Protocol):
    """One AWS thing.

    Attributes:
        step: Its name within the stack ("queue"); steps name each other in `needs`.
        title: What it is and its name, for people ("SQS queue asyncjobs-demo").
        needs: Steps that must be done before this one is created or updated, and deleted after it.
        fixed: Properties that only a replacement could change.
    """

    @property
    def step(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def fixed(self) -> frozenset[str]: ...

    def desired(self, inputs: Inputs) -> Mapping[str, Any] | None:
        """The properties it should have; None when it should not be there: not asked for, or of an older version."""

    def read(self) -> State | None:
        """What is there; None when nothing is.

        Raises:
            NotOursError: Something of that name is there without this stack's tag.
        """

    def create(self, inputs: Inputs) -> State: ...

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        """Bring the properties named in `changed` to what `desired` says."""

    def delete(self, state: State) -> None:
        """Delete it; deleting what is already gone is a success."""


class NotOursError(ProvisionError):
    """A namesake without this stack's tag: never adopted, changed or deleted."""


def require_ours(tags: Mapping[str, str], stack: str, title: str) -> None:
    """Raise NotOursError unless `tags` say that this stack owns it."""
    owner = tags.get(STACK_TAG)
    if owner == stack:
        return
    why = f"It belongs to the stack {owner!r}." if owner else f"It has no tag {STACK_TAG}={stack}."
    raise NotOursError(
        f"{title} exists and is not this stack's.",
        why=why,
        hint="Choose another stack name with `--stack NAME`, or rename or remove that resource yourself.",
    )


def tag_list(tags: Mapping[str, str], *, key: str = "Key", value: str = "Value") -> Any:
    """Tags as the list of pairs that most AWS calls take."""
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def tag_dict(tags: Any, *, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """The reverse of `tag_list`."""
    return {tag[key]: tag[value] for tag in tags or []}
