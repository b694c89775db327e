"""What AWS says when something is not allowed, in all the forms that its services have for it."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from asyncjobs.aws import translate
from asyncjobs.errors import CredentialsError, ProvisionError

USER = "User: arn:aws:sts::123456789012:assumed-role/ci/run is not authorized to perform:"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:asyncjobs-demo"
GROUPS = "arn:aws:ec2:eu-west-1:123456789012:security-group/*"
ROLE = "arn:aws:iam::123456789012:role/asyncjobs-demo-eu-west-1-task"


def refused(call: str, code: str, message: str) -> CredentialsError:
    error = translate(ClientError({"Error": {"Code": code, "Message": message}}, call), "the thing")
    assert isinstance(error, CredentialsError)
    assert error.why == message
    return error


@pytest.mark.parametrize(
    ("call", "code", "message", "action", "resource"),
    [
        (
            "CreateQueue",
            "AccessDenied",
            f"{USER} sqs:CreateQueue on resource: {QUEUE} because no identity-based policy allows the action",
            "sqs:CreateQueue",
            QUEUE,
        ),
        (
            "DescribeServices",
            "AccessDeniedException",
            f"{USER} ecs:DescribeServices",
            "ecs:DescribeServices",
            "the thing",
        ),
        (
            "CreateLogGroup",
            "AccessDeniedException",
            f"{USER} logs:CreateLogGroup on resource: arn:aws:logs:eu-west-1:123456789012:log-group:/x:log-stream:",
            "logs:CreateLogGroup",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/x:log-stream:",
        ),
        # In the code of something else, and not for the call's own action.
        (
            "RegisterTaskDefinition",
            "ClientException",
            f"{USER} iam:PassRole on resource: {ROLE}.",
            "iam:PassRole",
            ROLE,
        ),
        (
            "CreateSecurityGroup",
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {USER} ec2:CreateTags on resource: {GROUPS} because no "
            "identity-based policy allows the ec2:CreateTags action. Encoded authorization failure message: 4Zf8",
            "ec2:CreateTags",
            GROUPS,
        ),
        (
            "CreateRestApi",
            "AccessDeniedException",
            f"{USER} apigateway:POST on resource: arn:aws:apigateway:eu-west-1::/restapis",
            "apigateway:POST",
            "arn:aws:apigateway:eu-west-1::/restapis",
        ),
    ],
)
def test_the_action_and_the_resource_that_aws_names(call: str, code: str, message: str, action: str, resource: str):
    error = refused(call, code, message)
    assert error.details == {"missing": [{"action": action, "resource": resource}]}
    assert error.what == f"the thing: {call} is not allowed: {action} on {resource} is missing."
    assert "`asyncjobs permissions up`" in error.hint


def test_what_aws_does_not_name_is_all_that_the_call_takes():
    message = "You are not authorized to perform this operation. Encoded authorization failure message: 4Zf8"
    error = refused("CreateSecurityGroup", "UnauthorizedOperation", message)
    assert error.details["missing"] == [
        {"action": "ec2:CreateSecurityGroup", "resource": "the thing"},
        {"action": "ec2:CreateTags", "resource": "the thing"},
    ]


def test_a_call_of_which_nothing_is_known_names_itself():
    assert "Unheard is not allowed" in refused("Unheard", "AccessDenied", "Access Denied").what


@pytest.mark.parametrize(("call", "command"), [("DeleteTable", "down"), ("FilterLogEvents", "operate")])
def test_the_policy_to_ask_for_is_that_of_the_command(call: str, command: str):
    assert f"`asyncjobs permissions {command}` prints" in refused(call, "AccessDenied", "Access Denied").hint


def test_a_policy_that_denies_by_name_is_not_mended_by_another():
    message = f"{USER} sqs:CreateQueue on resource: {QUEUE} with an explicit deny in a service control policy"
    error = refused("CreateQueue", "AccessDenied", message)
    assert "asyncjobs permissions" not in error.hint
    assert "service control policy" in error.hint


def test_other_errors_are_no_denials():
    error = translate(ClientError({"Error": {"Code": "QueueNameExists", "Message": "there"}}, "CreateQueue"))
    assert type(error) is ProvisionError
