"""What AWS does that moto does not: `up` and `down` converge all the same, and say what they wait for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from behaviours import (
    ALL,
    Behaviour,
    DeletedQueueNamesAreKept,
    NamesakesAreAnswered,
    QueueAttributesChangeSlowly,
    Refusal,
    RefusesForGood,
    ServicesAreMadeOnce,
    behave,
    patient,
)
from botocore.exceptions import ClientError
from crash import CLOCK, NAMES, account, differences, down, inventory, resources, undisturbed, up
from sessions import plain_session, session

from asyncjobs.progress import NullProgress, RecordingProgress
from asyncjobs.provision.context import policy
from asyncjobs.provision.engine import Engine, Report, StepsFailedError
from asyncjobs.provision.plan import plan_up, read_all
from asyncjobs.provision.resource import Inputs

NOTHING = policy({"Effect": "Deny", "Action": "s3:*", "Resource": "*"})


@pytest.fixture
def empty_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with account(monkeypatch), patient(CLOCK):
        yield


@pytest.fixture(scope="module")
def clean() -> Any:
    return undisturbed()


@pytest.mark.parametrize("behaviour", ALL, ids=lambda kind: kind.__name__)
def test_up_and_down_converge_all_the_same(empty_account: None, clean: Any, behaviour: type[Behaviour]):
    met = behaviour(CLOCK)
    ours = session()
    behave(ours, [met])
    up(ours)
    assert differences(clean) == {}
    down(ours)
    assert inventory() == {}
    if behaviour.lingers:
        up(ours)
        assert differences(clean) == {}
        down(ours)
        assert inventory() == {}
    assert met.met > 0


def test_queue_attributes_that_change_slowly_are_set_again_and_no_more(empty_account: None):
    slow = QueueAttributesChangeSlowly(CLOCK)
    ours = session()
    behave(ours, [slow])
    up(ours)
    up(ours)
    assert up(ours, retention={"queue_days": 7}).changed in (["bucket", "queue", "api"], ["queue", "bucket", "api"])
    # For up to a minute SQS answers the old ones: setting the same again does no harm.
    assert up(ours, retention={"queue_days": 7}).changed == ["queue"]
    CLOCK.sleep(60)
    assert up(ours, retention={"queue_days": 7}).changed == []
    assert slow.met > 0


def planned(of: boto3.session.Session, progress: RecordingProgress | None = None) -> Callable[[], Report]:
    """An `up` that has seen an empty account, and is carried out when called: what is made meanwhile is a race lost."""
    stack = resources(of, progress=progress)
    plan = plan_up(stack, read_all(stack))
    return lambda: Engine(NullProgress()).up(plan)


def test_a_wait_says_what_for_and_how_long(empty_account: None):
    ours, said = session(), RecordingProgress()
    behave(ours, [DeletedQueueNamesAreKept(CLOCK)])
    up(ours)
    down(ours)
    planned(ours, said)()
    texts = {event.said(event.until - 41) for event in said.events if event.until is not None}
    assert texts == {"SQS keeps a deleted queue's name for 60 seconds, 41 s at most"}


def test_a_queue_that_another_up_made_with_other_settings_gets_ours(empty_account: None, clean: Any):
    late = planned(plain_session())
    up(plain_session(), retention={"queue_days": 7})
    late()
    assert differences(clean) == {}


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "with other attributes"])
def test_an_untagged_queue_that_appears_meanwhile_is_refused(empty_account: None, equal: bool):
    ours = session()
    behave(ours, [NamesakesAreAnswered(CLOCK)] if equal else [])
    late = planned(ours)
    attributes = {}
    if equal:
        queue = next(one for one in resources(plain_session()) if one.step == "dead-letter-queue")
        wanted = {key: value for key, value in (queue.desired(Inputs({})) or {}).items() if key != "tags"}
        attributes = {key: value if isinstance(value, str) else json.dumps(value) for key, value in wanted.items()}
    sqs = plain_session().client("sqs")
    url = sqs.create_queue(QueueName=NAMES.dead_letter_queue, Attributes=attributes)["QueueUrl"]
    with pytest.raises(StepsFailedError, match=r"exists and is not this stack's"):
        late()
    assert sqs.list_queue_tags(QueueUrl=url).get("Tags", {}) == {}


def test_an_untagged_cluster_that_appears_meanwhile_is_refused(empty_account: None):
    ours = session()
    behave(ours, [NamesakesAreAnswered(CLOCK)])
    late = planned(ours)
    plain_session().client("ecs").create_cluster(clusterName=NAMES.cluster)
    with pytest.raises(StepsFailedError, match=r"exists and is not this stack's"):
        late()


def test_a_service_that_another_up_made_is_taken(empty_account: None, clean: Any):
    """ECS: "Creation of service was not idempotent"; moto takes a second one without a word."""
    late_session = session()
    behave(late_session, [ServicesAreMadeOnce(CLOCK)])
    late = planned(late_session)
    up(plain_session(), worker={"handler": "handler:handle", "spot": 50})
    late()
    assert differences(clean) == {}


def test_a_role_that_somebody_attached_a_policy_to_is_deleted_all_the_same(empty_account: None):
    up(plain_session())
    iam = plain_session().client("iam")
    theirs = iam.create_policy(PolicyName="theirs", PolicyDocument=json.dumps(NOTHING))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=NAMES.task_role, PolicyArn=theirs)
    iam.put_role_policy(RoleName=NAMES.task_role, PolicyName="theirs", PolicyDocument=json.dumps(NOTHING))
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_role(RoleName=NAMES.task_role)
    down(plain_session())
    assert inventory() == {}


def test_a_repository_goes_with_its_images(empty_account: None):
    up(plain_session())
    ecr = plain_session().client("ecr")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": kind, "config": {"digest": f"sha256:{'0' * 64}"}, "layers": []}
    )
    ecr.put_image(repositoryName=NAMES.repository, imageManifest=manifest, imageTag="1")
    with pytest.raises(ecr.exceptions.RepositoryNotEmptyException):
        ecr.delete_repository(repositoryName=NAMES.repository)
    down(plain_session())
    assert inventory() == {}


def test_a_bucket_goes_with_its_versions_and_unfinished_uploads(empty_account: None):
    up(plain_session())
    s3 = plain_session().client("s3")
    s3.delete_bucket_policy(Bucket=NAMES.bucket)  # moto takes every call for one without TLS
    s3.put_bucket_versioning(Bucket=NAMES.bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        s3.put_object(Bucket=NAMES.bucket, Key="results/1", Body=body)
    s3.delete_object(Bucket=NAMES.bucket, Key="results/1")
    s3.create_multipart_upload(Bucket=NAMES.bucket, Key="results/2")
    with pytest.raises(ClientError, match="BucketNotEmpty"):
        s3.delete_bucket(Bucket=NAMES.bucket)
    down(plain_session())
    assert inventory() == {}


@pytest.mark.parametrize(
    ("operation", "refusal", "what", "why"),
    [
        (
            "CreateBucket",
            Refusal("BucketAlreadyExists", status=409),
            "is taken by another AWS account",
            "all AWS accounts",
        ),
        (
            "CreateTable",
            Refusal("LimitExceededException", "account limit on the number of tables"),
            "CreateTable failed with LimitExceededException",
            "number of tables",
        ),
        (
            "CreateService",
            Refusal("InvalidParameterException", "No."),
            "CreateService failed with InvalidParameter",
            "No.",
        ),
        ("PutRestApi", Refusal("BadRequestException", "Bad."), "PutRestApi failed with BadRequestException", "Bad."),
        ("PutMetricAlarm", Refusal("LimitExceeded", "1."), "PutMetricAlarm failed with LimitExceeded", "1."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_pass_fails_at_once_with_code_resource_and_next_step(
    empty_account: None, operation: str, refusal: Refusal, what: str, why: str
):
    ours = session()
    behave(ours, [RefusesForGood(CLOCK, operation, refusal)])
    with pytest.raises(StepsFailedError) as caught:
        up(ours)
    error = caught.value
    assert what in error.what
    assert NAMES.base in error.what or NAMES.service in error.what
    assert why in error.why
    assert error.hint
    assert error.details["failed"][0]["call"] == operation
    assert error.details["failed"][0]["code"].startswith(refusal.code)
    down(plain_session())
    assert inventory() == {}


def test_the_account_wide_role_of_api_gateway_is_left_alone(empty_account: None):
    """One UpdateAccount would set it for every API of the region, and nothing could take it back."""
    ours, calls = session(), list[str]()
    ours.events.register("before-call.*.*", lambda model, **_: calls.append(model.name))
    up(ours)
    up(ours, api={"rate": 7})
    down(ours)
    assert "CreateRestApi" in calls
    assert "UpdateAccount" not in calls
