"""`asyncjobs permissions`: the IAM policy of those who bring a stack up, take it down, or look after it.

It asks AWS nothing: whoever has no permissions yet can run it.
"""

from __future__ import annotations

import json
import re

from asyncjobs.commands.session import Session
from asyncjobs.errors import UsageError
from asyncjobs.names import Names
from asyncjobs.permissions.calls import COMMANDS, Command
from asyncjobs.permissions.policy import MOST_CHARACTERS, Policy, document, parts, size

_ANY = "*"
_ACCOUNT = re.compile(r"[0-9]{12}\Z")


def run(session: Session, *, command: str | None, account: str | None, part: int | None = None) -> None:
    """Print the policy.

    Args:
        command: "up", "down" or "operate"; None means all of them.
        account: The AWS account's number; None leaves it open in the policy.
        part: Which part of a policy that is longer than IAM takes, from 1 on.

    Raises:
        UsageError: One of them makes no sense.
    """
    if account is not None and not _ACCOUNT.match(account):
        raise UsageError(f"--account {account} is no AWS account.", why="It is twelve digits.")
    region = session.region or session.env.get("AWS_DEFAULT_REGION")
    names = Names(session.stack, account or _ANY, region or _ANY)
    policy = document(names, _commands(command))
    if part is None:
        _warn(session, policy, account=account, region=region)
    else:
        policy = _part(policy, part)
    if session.output.as_json:
        session.output.document(policy)
    else:
        session.output.data(json.dumps(policy, indent=2))


def _commands(name: str | None) -> tuple[Command, ...]:
    found = tuple(command for command in COMMANDS if name in (None, command))
    if not found:
        raise UsageError(f"There is no policy for {name!r}.", hint=f"It is one of {', '.join(COMMANDS)}.")
    return found


def _part(policy: Policy, number: int) -> Policy:
    pieces = parts(policy)
    if number > len(pieces):
        raise UsageError(f"--part {number}: there are {len(pieces)}.")
    return pieces[number - 1]


def _warn(session: Session, policy: Policy, *, account: str | None, region: str | None) -> None:
    """Where the policy could be narrower, and where IAM does not take it as it is."""
    open_ = [option for option, value in (("--account", account), ("--region", region)) if value is None]
    if open_:
        session.output.say(f"Without {' and '.join(open_)}, the policy has * there: give them for a narrower one.")
    if size(policy) > MOST_CHARACTERS:
        numbers = [f"`--part {number}`" for number in range(1, len(parts(policy)) + 1)]
        session.output.say(
            f"It has {size(policy)} characters, and IAM takes {MOST_CHARACTERS} in a managed policy: "
            f"make {len(numbers)} of it, with {' and '.join(numbers)}, and attach them together."
        )
