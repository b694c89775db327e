"""IAM policy documents for whoever runs `asyncjobs`, made of the table in `calls`.

IAM limits a policy's length, so the documents are short: what can share a statement does, as long as no action comes
to a resource that the table does not give it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from asyncjobs.names import Names
from asyncjobs.permissions.calls import CALLS, Command, Grant

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: characters of a managed policy, without
# white space.
MOST_CHARACTERS = 6_144

Policy = dict[str, Any]
_Condition = tuple[tuple[str, str], ...]


@dataclass
class _Statement:
    """What is allowed under one condition: to each action its own resources."""

    condition: _Condition
    own: dict[str, frozenset[str]]

    @property
    def resources(self) -> list[str]:
        return sorted({one for resources in self.own.values() for one in resources})

    def takes(self, other: _Statement) -> bool:
        """Whether the two together allow nothing that each alone does not.

        An action is checked against resources of its own kind only, so others beside them make no difference. What acts
        on several kinds may act on any kind of its service.
        """
        if self.condition != other.condition:
            return False
        both = {**self.own, **other.own}
        everything = {one for resources in both.values() for one in resources}
        if "*" in everything:
            return everything == {"*"}
        return all({one for one in everything if _is_like(one, own)} == own for own in both.values())


def document(names: Names, commands: Iterable[Command]) -> Policy:
    """The smallest policy that allows what these commands do to the stack.

    Args:
        names: With "*" for an account or a region that is not known.
    """
    statements: dict[str, dict[str, Any]] = {}
    for one in map(_json, _statements(names, frozenset(commands))):
        # Alike but for the values of one condition: either will do.
        known = statements.setdefault(json.dumps([one["Action"], one["Resource"], sorted(one["Condition"])]), one)
        for key, values in one["Condition"].items():
            known["Condition"][key] = sorted({*known["Condition"][key], *values})
    return _policy([_plain(one) for one in statements.values()])


def size(policy: Policy) -> int:
    """Characters, as IAM counts them."""
    return len(json.dumps(policy, separators=(",", ":")))


def parts(policy: Policy) -> list[Policy]:
    """The policy in as many pieces as it takes for each to be one that IAM takes; to be attached together."""
    pieces: list[list[Any]] = [[]]
    for statement in policy["Statement"]:
        if size(_policy([*pieces[-1], statement])) > MOST_CHARACTERS:
            pieces.append([])
        pieces[-1].append(statement)
    return [_policy(piece) for piece in pieces]


def _policy(statements: list[Any]) -> Policy:
    return {"Version": "2012-10-17", "Statement": statements}


def _statements(names: Names, commands: frozenset[Command]) -> list[_Statement]:
    found: list[_Statement] = []
    # Those with most resources first: they have the least choice of company.
    rights = sorted(_rights(names, commands).items(), key=lambda one: (-len(one[1]), one[0]))
    for (action, condition), resources in rights:
        new = _Statement(condition, {action: resources})
        there = next((one for one in found if one.takes(new)), None)
        if there is None:
            found.append(new)
        else:
            there.own[action] = resources
    return found


def _rights(names: Names, commands: frozenset[Command]) -> Mapping[tuple[str, _Condition], frozenset[str]]:
    """Where each action is needed, by the condition under which."""
    found: dict[tuple[str, _Condition], set[str]] = {}
    for grant in _grants(commands):
        condition = tuple(sorted((key, value.format(names)) for key, value in grant.condition.items()))
        for action in grant.actions:
            found.setdefault((action, condition), set()).update(one.format(names) for one in grant.resources)
    return {key: frozenset(one for one in every if not _is_covered(one, every)) for key, every in found.items()}


def _grants(commands: frozenset[Command]) -> Iterator[Grant]:
    for operations in CALLS.values():
        for call in operations.values():
            if commands & set(call.commands):
                yield from call.grants


def _is_covered(resource: str, others: Iterable[str]) -> bool:
    """Whether another pattern among these matches all that this one does."""
    return any(fnmatchcase(resource, other) for other in others if other != resource)


def _kind(resource: str) -> str:
    """What type of resource an ARN is of. API Gateway's verbs act on all of its types."""
    _, _, service, _, _, rest = resource.split(":", 5)
    if service == "s3":
        return "object" if "/" in rest else "bucket"
    if service in ("sqs", "apigateway"):
        return service
    return f"{service} {rest.replace(':', '/').split('/')[0]}"


def _is_like(resource: str, own: frozenset[str]) -> bool:
    kinds = {_kind(one) for one in own}
    if len(kinds) == 1:
        return _kind(resource) in kinds
    return _service(resource) in {_service(one) for one in own}


def _service(resource: str) -> str:
    return resource.split(":")[2]


def _json(statement: _Statement) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": sorted(statement.own),
        "Resource": statement.resources,
        "Condition": {key: [value] for key, value in statement.condition},
    }


def _plain(statement: dict[str, Any]) -> dict[str, Any]:
    """As it is written: a list of one is the one itself, and no condition is none."""
    condition = {key: _one(values) for key, values in statement["Condition"].items()}
    found = {**statement, "Resource": _one(statement["Resource"]), "Condition": {"StringEquals": condition}}
    return found if condition else {key: value for key, value in found.items() if key != "Condition"}


def _one(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
