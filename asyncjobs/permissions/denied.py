"""What AWS says when something is not allowed, and what is missing then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from asyncjobs.permissions.calls import CALLS, COMMANDS, Call, Command

# "User: arn:… is not authorized to perform: sqs:CreateQueue on resource: arn:… because no identity-based policy allows
# the sqs:CreateQueue action". Some services leave out the resource, some the colons:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_NAMED = re.compile(
    r"not authorized to perform:? (?P<action>[\w-]+:\w+)(?:,? on(?: the)? resource:? (?P<resource>\S+))?"
)
_BY_NAME = "explicit deny"

Missing = dict[str, str]


def is_denial(message: str) -> bool:
    """Whether a message says so, whatever its error code: some services have it in a code for something else."""
    return _NAMED.search(message) is not None


def missing(operation: str, message: str, doing: str = "") -> list[Missing]:
    """What is not allowed, as `action` and `resource`.

    Args:
        doing: What was being done, for people: stands for the resource where AWS names none.
    """
    named = _NAMED.search(message)
    if named is None:
        # EC2 encodes what it has to say, and S3 may say nothing: then all that the call takes.
        actions = sorted({action for call in _calls(operation) for one in call.grants for action in one.actions})
        return [_missing(action, doing) for action in actions or [operation]]
    return [_missing(named["action"], (named["resource"] or doing).rstrip(".,"))]


def hint(operation: str, message: str) -> str:
    """What to do about it."""
    if _BY_NAME in message:
        return "Something denies it by name, such as a service control policy: only who set that can take it away."
    makers = {command for call in _calls(operation) for command in call.commands}
    return policy_hint(*(command for command in COMMANDS if command in makers))


def policy_hint(*commands: Command) -> str:
    """Where the permissions of a command are to be had from; the first of several that make the same call is named."""
    first, *others = commands or COMMANDS
    also = f" (or {', '.join(f'`{command}`' for command in others)})" if others else ""
    whole = f"`asyncjobs permissions {first}`{also} prints the whole policy that is needed"
    return f"{whole}; `--profile NAME` takes another identity."


def sentence(found: Iterable[Missing]) -> str:
    return ", ".join(" on ".join(one.values()) for one in found)


def together(details: Iterable[Mapping[str, Any]]) -> list[Missing]:
    """Of several errors' details, all that is missing, each once."""
    return list({tuple(one.items()): one for part in details for one in part.get("missing", [])}.values())


def _missing(action: str, resource: str) -> Missing:
    return {"action": action, "resource": resource} if resource else {"action": action}


def _calls(operation: str) -> list[Call]:
    """Of all services that have it: botocore's errors tell the operation alone."""
    return [operations[operation] for operations in CALLS.values() if operation in operations]
