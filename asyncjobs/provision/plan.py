"""The plan: what `up` or `down` is going to do, as a value that can be shown before it is carried out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from asyncjobs.aws import all_denied, is_denied
from asyncjobs.errors import ConfigError
from asyncjobs.provision.graph import run_graph
from asyncjobs.provision.resource import Inputs, NotOursError, Outputs, Resource, State, UnknownOutputError

Action = Literal["create", "update", "check", "keep", "delete"]


@dataclass(frozen=True)
class Step:
    """One resource and what is to be done with it.

    Args:
        action: "check" means: whether it changes depends on a step that runs first.
        reason: Why, for a person.
    """

    resource: Resource
    action: Action
    state: State | None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    steps: tuple[Step, ...]

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.action != "keep")


def read_all(
    resources: Sequence[Resource], *, on_namesake: Callable[[NotOursError], None] | None = None
) -> dict[str, State | None]:
    """Read every resource, all at the same time.

    Args:
        on_namesake: Gets the error for what has our name and is not ours, which then counts as nothing of ours there.

    Raises:
        CredentialsError: Reads are not allowed: names all of them.
        The first error in the order of `resources`, otherwise.
    """
    by_step = {resource.step: resource for resource in resources}
    states, errors, _ = run_graph(dict.fromkeys(by_step, ()), lambda step: by_step[step].read())
    for step, error in list(errors.items()):
        if on_namesake is not None and isinstance(error, NotOursError):
            on_namesake(error)
            states[step] = None
            del errors[step]
    found = {by_step[step].title: errors[step] for step in by_step if step in errors}
    first = next(iter(found.values()), None)
    if first is None:
        return states
    if is_denied(first):
        raise all_denied({title: error for title, error in found.items() if is_denied(error)}) from first
    raise first


def plan_up(resources: Sequence[Resource], states: Mapping[str, State | None]) -> Plan:
    """Compare what is with what should be.

    Raises:
        ConfigError: A change that only a replacement, and so the loss of data, could bring about.
    """
    outputs: dict[str, Outputs] = {}
    moving: set[str] = set()
    steps = []
    for resource in resources:
        state = states[resource.step]
        step = _step_up(resource, state, outputs, moving)
        if step is None:
            continue
        if step.action in ("create", "update", "check"):
            moving.add(resource.step)
        outputs[resource.step] = state.outputs if state else {}
        steps.append(step)
    return Plan(tuple(steps))


def _step_up(resource: Resource, state: State | None, outputs: Mapping[str, Outputs], moving: set[str]) -> Step | None:
    known = Inputs({need: outputs[need] for need in resource.needs if need in outputs and need not in moving})
    try:
        desired = resource.desired(known)
        if desired is None:
            return None if state is None else Step(resource, "delete", state, "no longer part of the stack")
        if state is None:
            return Step(resource, "create", None, "not there yet")
        changed = differences(resource, state, desired)
    except UnknownOutputError:
        if state is None:
            return Step(resource, "create", None, "not there yet")
        first = ", ".join(need for need in resource.needs if need in moving)
        return Step(resource, "check", state, f"depends on {first}")
    if not changed:
        return Step(resource, "keep", state, "as it should be")
    reason = ", ".join(_change(key, state.properties.get(key), desired[key]) for key in sorted(changed))
    return Step(resource, "update", state, reason)


def differences(resource: Resource, state: State, desired: Mapping[str, Any]) -> frozenset[str]:
    """The properties that differ from what is desired.

    Raises:
        ConfigError: One of them is fixed.
    """
    changed = frozenset(key for key, value in desired.items() if state.properties.get(key) != value)
    for key in sorted(changed & resource.fixed):
        raise ConfigError(
            f"{resource.title}: {key} cannot be changed from {state.properties.get(key)!r} to {desired[key]!r}.",
            why="AWS can only replace it, and what it holds would be lost.",
            hint="Set it back, or take the stack down and up again once its data may go.",
        )
    return changed


def plan_down(resources: Sequence[Resource], states: Mapping[str, State | None]) -> Plan:
    """Delete all that is there."""
    return Plan(
        tuple(Step(resource, "delete", state) for resource in resources if (state := states[resource.step]) is not None)
    )


def _change(key: str, old: Any, new: Any) -> str:
    """Both values where a person can take them in: a policy or a hash says nothing."""
    plain = all(isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 20) for value in (old, new))
    return f"{key} {old} → {new}" if plain else key
