"""The printed policies: made of the calls the code makes, enough for every journey, and nothing more than that."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import journeys
import pytest
from authorization import NAMES, Iam, Need, Request, allowing, as_list, needs
from moto import mock_aws
from moto_mends import mend

from asyncjobs.errors import CredentialsError
from asyncjobs.names import Names
from asyncjobs.permissions.calls import CALLS, COMMANDS, Command
from asyncjobs.permissions.policy import MOST_CHARACTERS, document, parts, size
from asyncjobs.provision.engine import StepsFailedError

with warnings.catch_warnings():
    # Importing it leaves two files open, and its regular expressions are not raw strings.
    warnings.simplefilter("ignore")
    import parliament
    from parliament.statement import is_arn_strictly_valid

LONGEST = Names("a" * 24, "123456789012", "ap-southeast-1")
# S3 tags buckets with it since 2025, which parliament's data does not have yet; botocore's model of CreateBucket does.
NEWER_THAN_PARLIAMENT = {"s3:TagResource"}
ENV = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": NAMES.region}


@pytest.fixture(scope="module")
def iam(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iam]:
    """All journeys, each under the policy that is printed for it."""
    project = tmp_path_factory.mktemp("project")
    (project / "handler.py").write_text("def handle(job): return 1\n")
    (project / "asyncjobs.toml").write_text('[worker]\nhandler = "handler:handle"\n')
    watched = Iam()
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        mend(partial(patch.setattr, raising=False))
        prepare(patch)
        watched.watch(patch)
        session = journeys.session({**ENV, "ASYNCJOBS_STATE_DIR": str(project / "state")}, project)
        elsewhere = journeys.session({**ENV, "ASYNCJOBS_STATE_DIR": str(project / "other")}, project)
        for command, journey, at in (
            ("up", journeys.up, session),
            ("operate", journeys.operate, elsewhere),
            ("down", journeys.take_down, session),
        ):
            watched.policy = document(NAMES, [command])  # type: ignore[list-item]
            journey(watched, at)
        yield watched


def prepare(patch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    for name, value in {**ENV, "MOTO_ECS_SERVICE_RUNNING": "1"}.items():
        patch.setenv(name, value)


def rows(command: Command) -> set[tuple[str, str]]:
    return {
        (service, operation)
        for service, operations in CALLS.items()
        for operation, call in operations.items()
        if command in call.commands
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_has_the_calls_that_are_made_and_no_others(iam: Iam, command: Command):
    assert {request.call for request in iam.requests[command]} == rows(command)


def needed(iam: Iam, command: Command) -> set[Need]:
    return {need for request in iam.requests[command] for need in needs(request)}


@pytest.mark.parametrize("command", COMMANDS)
def test_without_any_one_action_or_resource_some_call_is_denied(iam: Iam, command: Command):
    """Nothing is denied with the whole policy: the journeys went through under it."""
    policy = document(NAMES, [command])
    ways = [(need.action, allowing(policy, need)) for need in needed(iam, command)]
    assert all(found for _, found in ways)
    # By statement: what is the only way to something that is needed.
    actions = {(found[0][0], action) for action, found in ways if len({number for number, _ in found}) == 1}
    resources = {found[0] for _, found in ways if len(found) == 1}
    for number, statement in enumerate(policy["Statement"]):
        assert {(number, action) for action in statement["Action"]} <= actions
        assert {(number, resource) for resource in as_list(statement["Resource"])} <= resources


def written(iam: Iam) -> Iterator[Request]:
    for requests in iam.requests.values():
        yield from requests
