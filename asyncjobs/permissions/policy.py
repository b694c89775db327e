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

        An action is checked against resources of its own kinds only, so others beside them make no difference.
        """
        if self.condition != other.condition:
            return False
        both = {**self.own, **other.own}
        everything = {one for resources in both.values() for one in resources}
        if "*" in everything:
            return everything == {"*"}
        return all(
            {one for one in everything if _kind(one) in {_kind(mine) for mine in resources}} == resources
            for resources in both.values()
        )


def document(names: Names, commands: Iterable[Command]) -> Policy:
    """The smallest policy that allows what these commands do to the stack.

    Args:
        names: With "*" for an account or a region that is not known.
    """
    return _policy([_json(one) for one in _statements(names, frozenset(commands))])


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
    for (action, condition), resources in sorted(_rights(names, commands).items()):
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


def _json(statement: _Statement) -> dict[str, Any]:
    resources = statement.resources
    found: dict[str, Any] = {
        "Effect": "Allow",
        "Action": list(statement.own),
        "Resource": resources[0] if len(resources) == 1 else resources,
    }
    if statement.condition:
        found["Condition"] = {"StringEquals": dict(statement.condition)}
    return found
