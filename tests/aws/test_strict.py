"""That the check of calls refuses what AWS would, where botocore and moto take it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from strict import RefusedError

from asyncjobs.aws import Clients

CALLS: dict[str, Callable[[Any], Any]] = {
    "a pattern": lambda clients: clients.logs.create_log_group(logGroupName="a group"),
    "a largest size": lambda clients: clients.iam.create_role(RoleName="a" * 65, AssumeRolePolicyDocument="{}"),
    "an enumeration": lambda clients: clients.ecr.create_repository(repositoryName="aa", imageTagMutability="NEVER"),
    "a key of a map": lambda clients: clients.logs.create_log_group(logGroupName="a", tags={"": "b"}),
    "a member of a list": lambda clients: clients.iam.create_role(
        RoleName="a", AssumeRolePolicyDocument="{}", Tags=[{"Key": "a" * 129, "Value": ""}]
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_it_is_refused(clients: Clients, call: Callable[[Clients], Any]):
    with pytest.raises(RefusedError):
        call(clients)
