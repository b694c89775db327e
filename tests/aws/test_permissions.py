"""The printed policies: made of the calls the code makes, enough for every journey, and nothing more than that."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import journeys
import pytest
from authorization import MULTIPART, NAMES, Iam, Need, Request, allowing, as_list, needs
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


def test_whoever_tags_or_passes_a_role_is_allowed_to(iam: Iam):
    """No recording shows these: IAM asks for them besides the call's own action."""
    for requests in iam.requests.values():
        for request in requests:
            actions = {need.action for need in needs(request)}
            if {"tags", "Tags", "TagSpecifications", "Tagging"} & set(request.params) or tags_bucket(request):
                assert [action for action in actions if re.search(r":(Create|Put|)(Bucket)?Tag|:PUT$", action)], request
            if "arn:aws:iam::" in str(request.params) and request.operation != "TagRole":
                passes = request.call in {("ecs", "RegisterTaskDefinition"), ("apigateway", "PutRestApi")}
                assert passes == ("iam:PassRole" in actions), request


def tags_bucket(request: Request) -> bool:
    return "Tags" in request.params.get("CreateBucketConfiguration", {})


# Where AWS names an action otherwise than the call; API Gateway's are checked by each request's HTTP method.
RENAMED = {
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    **dict.fromkeys(MULTIPART, "PutObject"),
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "ListObjectVersions": "ListBucketVersions",
    "DeleteObjects": "DeleteObject",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}


def test_a_call_takes_the_action_of_its_own_name(iam: Iam):
    for requests in iam.requests.values():
        for request in requests:
            actions = {need.action for need in needs(request)}
            if request.service == "apigateway":
                assert f"apigateway:{request.method}" in actions
            elif request.call != ("sts", "GetCallerIdentity"):
                name = RENAMED.get(request.operation, request.operation)
                assert f"{request.service}:{name}" in actions


# What the documents themselves allow.

NAMED = {"known": NAMES, "long": LONGEST, "open": Names("demo", "*", "*")}


def findings(policy: Any) -> set[str]:
    return {f"{one.issue}: {one.detail}" for one in parliament.analyze_policy_string(json.dumps(policy)).findings}


@pytest.mark.parametrize("names", NAMED.values(), ids=NAMED)
def test_parliament_finds_only_what_a_deployer_must_have(names: Names):
    assert findings(document(names, ["down"])) == set()
    assert findings(document(names, ["operate"])) == set()
    # Whoever sets a bucket's policy and lifecycle could let itself read it. A group's VPC is in a statement of its own.
    group = "[{'action': 'ec2:CreateSecurityGroup', 'required_format': 'arn:*:ec2:*:*:security-group/*'}]"
    bucket = f"Possible resource policy privilege escalation on {names.bucket_arn} due to s3:"
    through = {
        "PutBucketPolicy": ("PutObject", "GetObject", "DeleteObject"),
        "PutLifecycleConfiguration": ("DeleteObject",),
    }
    assert findings(document(names, ["up"])) == {
        f"RESOURCE_MISMATCH: {group}",
        *(
            f"RESOURCE_POLICY_PRIVILEGE_ESCALATION: {bucket}{right} not being allowed, but does allow s3:{setter}"
            for setter, rights in through.items()
            for right in rights
        ),
    }


def formats(action: str) -> dict[str, str]:
    """The types of resources that an action knows, with the ARNs of each; all services of a prefix together."""
    prefix, name = action.split(":")
    found = {}
    for service in parliament.iam_definition:
        if service["prefix"] == prefix:
            arns = {one["resource"]: re.sub(r"\$\{[^}]*\}", "*", one["arn"]) for one in service["resources"]}
            types = {
                one["resource_type"].rstrip("*")
                for privilege in service["privileges"]
                if privilege["privilege"] == name
                for one in privilege["resource_types"]
            }
            found |= {kind: arns[kind] for kind in types - {""}}
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_everything_stands_for_a_resource_only_where_there_is_none_to_name(command: Command):
    for statement in document(NAMES, [command])["Statement"]:
        for action in statement["Action"]:
            assert "*" not in action
            if statement["Resource"] == "*":
                assert formats(action) == {}
            elif action not in NEWER_THAN_PARLIAMENT:
                assert formats(action)


@pytest.mark.parametrize("command", COMMANDS)
def test_actions_that_share_a_statement_come_to_no_more_than_the_table_gives_them(command: Command):
    table: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for operations in CALLS.values():
        for call in operations.values():
            for grant in call.grants if command in call.commands else ():
                condition = next(((key, value.format(NAMES)) for key, value in grant.condition.items()), ())
                for action in grant.actions:
                    table.setdefault((action, condition), set()).update(one.format(NAMES) for one in grant.resources)
    for statement in document(NAMES, [command])["Statement"]:
        required = statement.get("Condition", {}).get("StringEquals", {})
        assert len(required) <= 1
        conditions = [(key, value) for key, values in required.items() for value in as_list(values)] or [()]
        for action in statement["Action"]:
            reached = {
                resource
                for resource in as_list(statement["Resource"])
                for kind, arn in formats(action).items()
                if parliament.is_arn_match(kind, arn, resource)
            }
            assert all(reached <= table[action, condition] for condition in conditions)


@pytest.mark.parametrize("names", NAMED.values(), ids=NAMED)
def test_each_policy_or_each_of_its_parts_is_one_that_iam_takes(names: Names):
    for commands in (*([one] for one in COMMANDS), COMMANDS):
        policy = document(names, commands)
        pieces = parts(policy)
        assert all(size(piece) <= MOST_CHARACTERS for piece in pieces)
        assert [statement for piece in pieces for statement in piece["Statement"]] == policy["Statement"]
        assert len(pieces) <= 2
    assert len(parts(document(NAMES, ["up"]))) == 1


# What is said when something is denied.


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty account, and the policy of a command without some actions."""
    with mock_aws():
        mend(partial(monkeypatch.setattr, raising=False))
        prepare(monkeypatch)
        watched = Iam()
        watched.watch(monkeypatch)

        def without(*actions: str) -> Iam:
            policy = document(NAMES, ["up"])
            for statement in policy["Statement"]:
                statement["Action"] = [action for action in statement["Action"] if action not in actions]
            watched.policy = policy
            return watched

        yield without


def test_all_that_several_steps_lack_is_named_at_once(lacking: Any):
    iam = lacking("sqs:CreateQueue", "dynamodb:TagResource")
    with iam.during("up"), pytest.raises(StepsFailedError) as caught:
        journeys.bring_up()
    error = caught.value
    queue, table = NAMES.dead_letter_queue_arn, NAMES.table_arn
    assert {(one["action"], one["resource"]) for one in error.details["missing"]} == {
        ("sqs:CreateQueue", queue),
        ("dynamodb:TagResource", table),
    }
    said = error.why.partition("Missing permissions: ")[2]
    assert f"sqs:CreateQueue on {queue}" in said
    assert f"dynamodb:TagResource on {table}" in said
    assert "`asyncjobs permissions up`" in error.hint
    assert error.exit_code == CredentialsError.exit_code


def test_one_that_is_missing_is_named_with_its_resource(lacking: Any):
    iam = lacking("iam:PassRole")
    with iam.during("up"), pytest.raises(StepsFailedError) as caught:
        journeys.bring_up()
    role = NAMES.role_arn(NAMES.execution_role)
    assert {"action": "iam:PassRole", "resource": role} in caught.value.details["missing"]


def test_reads_that_are_denied_are_named_at_once_too(lacking: Any):
    iam = lacking("iam:GetRole", "ecs:DescribeClusters", "s3:ListBucket")
    with iam.during("up"), pytest.raises(CredentialsError) as caught:
        journeys.bring_up()
    missing = {one["action"] for one in caught.value.details["missing"]}
    assert {"iam:GetRole", "ecs:DescribeClusters"} <= missing
    assert "`asyncjobs permissions up`" in caught.value.hint
