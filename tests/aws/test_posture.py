"""What each resource shows to an auditor, that drift from it is repaired, and which calls all that takes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.aws import Clients
from asyncjobs.errors import ConfigError
from asyncjobs.names import Names
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.engine import Engine, Report
from asyncjobs.provision.plan import Plan, plan_up, read_all
from asyncjobs.provision.resource import Resource

NAMES = Names("demo", "123456789012", "eu-west-1")
MakeStack = Callable[..., list[Resource]]
READS = ("Get", "List", "Describe", "Head")
MOST_WRITES = 35


def plan(resources: list[Resource]) -> Plan:
    return plan_up(resources, read_all(resources))


def up(resources: list[Resource]) -> Report:
    return Engine(RecordingProgress()).up(plan(resources))


class Calls:
    """The calls that a session's clients make, by operation and parameters."""

    def __init__(self, clients: Clients) -> None:
        self.made: list[tuple[str, str]] = []
        clients._session.events.register("provide-client-params.*.*", self._record)

    def _record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        self.made.append((model.name, json.dumps(params, sort_keys=True, default=str)))

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.made if not call[0].startswith(READS)]


@pytest.fixture
def calls(clients: Clients) -> Calls:
    return Calls(clients)


def test_a_first_up_writes_little_and_nothing_twice(make_stack: MakeStack, calls: Calls):
    up(make_stack())
    assert len(calls.writes) <= MOST_WRITES, [name for name, _ in calls.writes]
    assert len(set(calls.writes)) == len(calls.writes)


def test_a_second_up_only_reads(make_stack: MakeStack, calls: Calls):
    up(make_stack())
    calls.made.clear()
    up(make_stack())
    assert calls.writes == []
    assert len(set(calls.made)) == len(calls.made), sorted({call for call in calls.made if calls.made.count(call) > 1})


def test_without_scaling_there_are_no_policies_to_ask_for(make_stack: MakeStack, calls: Calls):
    read_all(make_stack())
    assert "DescribeScalingPolicies" not in {name for name, _ in calls.made}


def test_the_repository_scans_and_its_tags_stay_what_they_are(make_stack: MakeStack, clients: Clients):
    outputs = up(make_stack()).outputs["repository"]
    found = clients.ecr.describe_repositories(repositoryNames=[NAMES.repository])["repositories"][0]
    assert outputs == {"name": NAMES.repository, "arn": NAMES.repository_arn, "uri": found["repositoryUri"]}
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert found["imageTagMutability"] == "IMMUTABLE"
    assert found["encryptionConfiguration"]["encryptionType"] == "AES256"


def test_acls_of_the_bucket_are_off(make_stack: MakeStack, clients: Clients):
    up(make_stack())
    rules = clients.s3.get_bucket_ownership_controls(Bucket=NAMES.bucket)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def loosen_queue(clients: Clients) -> None:
    url = clients.sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"]
    clients.sqs.set_queue_attributes(QueueUrl=url, Attributes={"SqsManagedSseEnabled": "false"})


def open_bucket(clients: Clients) -> None:
    clients.s3.delete_public_access_block(Bucket=NAMES.bucket)
    rules: Any = {"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    clients.s3.put_bucket_ownership_controls(Bucket=NAMES.bucket, OwnershipControls=rules)
    clients.s3.delete_bucket_lifecycle(Bucket=NAMES.bucket)


def stop_recovery(clients: Clients) -> None:
    off = {"PointInTimeRecoveryEnabled": False}
    clients.dynamodb.update_continuous_backups(TableName=NAMES.table, PointInTimeRecoverySpecification=off)
    clients.dynamodb.update_table(
        TableName=NAMES.table,
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
    )


def reshape_index(clients: Clients) -> None:
    table: Any = clients.dynamodb
    table.update_table(TableName=NAMES.table, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-status"}}])
    other = {
        "IndexName": "by-status",
        "KeySchema": [{"AttributeName": "statusShard", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    table.update_table(TableName=NAMES.table, GlobalSecondaryIndexUpdates=[{"Create": other}])


def trust_everybody(clients: Clients) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    clients.iam.update_assume_role_policy(RoleName=NAMES.task_role, PolicyDocument=document)


def stop_scanning(clients: Clients) -> None:
    clients.ecr.put_image_scanning_configuration(
        repositoryName=NAMES.repository, imageScanningConfiguration={"scanOnPush": False}
    )


def stop_alarm(clients: Clients) -> None:
    clients.cloudwatch.disable_alarm_actions(AlarmNames=[f"{NAMES.base}-busy"])


def break_service(clients: Clients) -> None:
    clients.ecs.update_service(
        cluster=NAMES.cluster,
        service=NAMES.service,
        enableExecuteCommand=True,
        deploymentConfiguration={"minimumHealthyPercent": 0, "maximumPercent": 100},
        propagateTags="NONE",
    )


@pytest.mark.parametrize(
    ("drift", "step"),
    [
        (loosen_queue, "queue"),
        (open_bucket, "bucket"),
        (stop_recovery, "table"),
        (reshape_index, "table"),
        (trust_everybody, "task-role"),
        (stop_scanning, "repository"),
        (stop_alarm, "scaling"),
        (break_service, "service"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_somebody_changed_is_repaired(
    make_stack: MakeStack, clients: Clients, drift: Callable[[Clients], None], step: str
):
    up(make_stack())
    whole = read_all(make_stack())
    drift(clients)
    assert step in up(make_stack()).changed
    assert read_all(make_stack()) == whole


def test_a_table_with_another_key_is_refused(make_stack: MakeStack, clients: Clients):
    clients.dynamodb.create_table(
        TableName=NAMES.table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=[{"Key": "asyncjobs:stack", "Value": "demo"}],
    )
    with pytest.raises(ConfigError, match="key cannot be changed from 'id' to 'jobId'"):
        plan(make_stack())


def test_more_spot_is_a_new_deployment_of_the_same_definition(make_stack: MakeStack, clients: Clients, calls: Calls):
    up(make_stack())
    spot = {"worker": {"handler": "handler:handle", "spot": 70}}
    calls.made.clear()
    assert up(make_stack(**spot)).changed == ["service"]
    name, parameters = calls.writes[0]
    assert (name, len(calls.writes)) == ("UpdateService", 1)
    assert json.loads(parameters) == {
        "cluster": NAMES.cluster,
        "service": NAMES.service,
        "capacityProviderStrategy": [
            {"capacityProvider": "FARGATE", "weight": 30},
            {"capacityProvider": "FARGATE_SPOT", "weight": 70},
        ],
        "forceNewDeployment": True,
    }
    assert up(make_stack(**spot)).changed == []


def test_new_tags_register_no_definition_and_roll_nothing_out(make_stack: MakeStack, calls: Calls):
    up(make_stack())
    calls.made.clear()
    up(make_stack(tags={"team": "search"}))
    names = {name for name, _ in calls.writes}
    assert names == {"TagResource", "TagQueue", "TagRole", "CreateTags", "PutBucketTagging"}


def test_others_tags_stay(make_stack: MakeStack, clients: Clients):
    up(make_stack())
    own = clients.s3.get_bucket_tagging(Bucket=NAMES.bucket)["TagSet"]
    theirs: Any = {"Key": "cost-centre", "Value": "7"}
    clients.s3.put_bucket_tagging(Bucket=NAMES.bucket, Tagging={"TagSet": [*own, theirs]})
    assert up(make_stack()).changed == []
    up(make_stack(tags={"team": "search"}))
    found = {tag["Key"]: tag["Value"] for tag in clients.s3.get_bucket_tagging(Bucket=NAMES.bucket)["TagSet"]}
    assert found == {"cost-centre": "7", "team": "search", **NAMES.tags}


@pytest.mark.parametrize("auth", ["iam", "none"])
def test_with_other_authorization_the_key_goes_and_comes_back(make_stack: MakeStack, clients: Clients, auth: str):
    up(make_stack())
    assert set(up(make_stack(api={"auth": auth})).changed) == {"api", "api-key"}
    assert clients.apigateway.get_api_keys()["items"] == []
    assert clients.apigateway.get_usage_plans()["items"] == []
    assert up(make_stack(api={"auth": auth})).changed == []
    assert set(up(make_stack()).changed) == {"api", "api-key"}


def test_the_given_security_groups_are_used_and_ours_lets_nothing_in(make_stack: MakeStack, clients: Clients):
    given = clients.ec2.create_security_group(GroupName="given", Description="given")["GroupId"]
    up(make_stack(network={"security_groups": [given]}))
    service = clients.ecs.describe_services(cluster=NAMES.cluster, services=[NAMES.service])["services"][0]
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    assert network["securityGroups"] == [given]
    groups = clients.ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [NAMES.security_group]}])
    assert groups["SecurityGroups"][0]["IpPermissions"] == []


def test_subnets_of_two_vpcs_are_refused(make_stack: MakeStack, clients: Clients):
    subnets = []
    for block in ("10.1.0.0/16", "10.2.0.0/16"):
        vpc = clients.ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]
        subnets.append(clients.ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"])
    with pytest.raises(ConfigError, match="more than one VPC"):
        up(make_stack(network={"subnets": subnets}))


def test_another_vpc_is_refused(make_stack: MakeStack, clients: Clients):
    up(make_stack())
    vpc = clients.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = clients.ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/16")["Subnet"]["SubnetId"]
    with pytest.raises(ConfigError, match="vpc cannot be changed"):
        plan(make_stack(network={"subnets": [subnet]}))


def test_tasks_of_private_subnets_get_no_public_address(make_stack: MakeStack, clients: Clients):
    vpc = clients.ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnet = clients.ec2.create_subnet(VpcId=vpc, CidrBlock="10.1.0.0/16")["Subnet"]["SubnetId"]
    up(make_stack(network={"subnets": [subnet]}))
    service = clients.ecs.describe_services(cluster=NAMES.cluster, services=[NAMES.service])["services"][0]
    assert service["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"] == "DISABLED"


def test_the_documentation_lists_what_prowler_may_find():
    """One place says what is allowed; the page for people holds the same, word for word."""
    root = Path(__file__).parents[2]
    allowed = tomllib.loads((root / "tests/posture/allowed.toml").read_text(encoding="utf-8"))
    lines = [f"| `{check}` | {entry['severity']} | {entry['why']} |" for check, entry in allowed.items()]
    page = (root / "docs/security.md").read_text(encoding="utf-8")
    assert "| finding | severity | why it stays |\n| --- | --- | --- |\n" + "\n".join(lines) in page
    assert page.count("| medium |") + page.count("| low |") + page.count("| high |") == len(allowed)
