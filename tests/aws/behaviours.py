"""A client layer over moto that behaves as AWS does where moto is kinder.

Each behaviour is a class; `behave` hangs them into a session, whose clients then meet them. Time is a FakeClock:
nothing sleeps. A behaviour counts in `met` how often it showed, so that a test can tell that it tested something.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, ClassVar
from xml.sax.saxutils import escape

import boto3
import botocore.endpoint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from fake_clock import FakeClock
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.models import botocore_stubber
from sessions import plain_session


@dataclass(frozen=True)
class Call:
    """One request.

    Args:
        service: As boto3 names it ("application-autoscaling").
        name: The operation ("CreateQueue").
        params: As the caller gave them.
    """

    service: str
    name: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """An error that AWS answers, by its code on the wire."""

    code: str
    message: str = "no"
    status: int = 400


@dataclass(frozen=True)
class Answer:
    """An answer in place of moto's, of a service that speaks JSON."""

    body: dict[str, Any]


class LostAnswer:
    """The call takes effect, and its answer never arrives."""


Reply = Refusal | Answer | LostAnswer


@dataclass
class Behaviour:
    """Knows the time; says before each call whether AWS refuses it, and may change the answer after it.

    Args:
        lingers: Whether it is met by an `up` soon after a `down`.
    """

    lingers: ClassVar[bool] = False
    clock: FakeClock
    met: int = 0
    times: dict[Any, float] = field(default_factory=dict)

    def before(self, call: Call) -> Reply | None:
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        """Only for calls that succeeded."""

    def refuse(self, code: str, message: str = "no", status: int = 400) -> Refusal:
        self.met += 1
        return Refusal(code, message, status)

    def note(self, what: Any) -> None:
        """Remember that it happened now."""
        self.times[what] = self.clock.now()

    def since(self, what: Any) -> float:
        """Seconds since it happened; infinite if it never did."""
        return self.clock.now() - self.times.get(what, float("-inf"))


class RefusesFirst(Behaviour):
    """Refuses the first so many calls of each of these operations, more often than botocore tries by itself."""

    operations: frozenset[str]
    refusals: tuple[Refusal, ...]

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._seen: Counter[str] = Counter()

    def before(self, call: Call) -> Reply | None:
        if call.name not in self.operations or self._seen[call.name] >= len(self.refusals):
            return None
        self._seen[call.name] += 1
        self.met += 1
        return self.refusals[self._seen[call.name] - 1]


class RefusesForGood(Behaviour):
    """Every call of one operation."""

    def __init__(self, clock: FakeClock, operation: str, refusal: Refusal) -> None:
        super().__init__(clock)
        self._operation = operation
        self._refusal = refusal

    def before(self, call: Call) -> Reply | None:
        return self._refusal if call.name == self._operation else None


class DeletedQueueNamesAreKept(Behaviour):
    """For 60 s after a delete."""

    lingers = True

    def before(self, call: Call) -> Reply | None:
        if call.name == "CreateQueue" and self.since(call.params["QueueName"]) < 60:
            text = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
            return self.refuse("AWS.SimpleQueueService.QueueDeletedRecently", text)
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "DeleteQueue":
            self.note(call.params["QueueUrl"].rsplit("/", 1)[-1])


class NewQueuesAreNotThereYet(Behaviour):
    """A queue can be used a second after it was made, by other queues as their dead-letter queue too."""

    def before(self, call: Call) -> Reply | None:
        if call.service != "sqs":
            return None
        if call.name == "CreateQueue":
            redrive = json.loads(call.params["Attributes"].get("RedrivePolicy", "{}"))
            target = redrive.get("deadLetterTargetArn", "").rsplit(":", 1)[-1]
            if target and self.since(target) < 1:
                text = "Value for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist."
                return self.refuse("InvalidParameterValue", text)
            return None
        name = call.params.get("QueueName") or call.params.get("QueueUrl", "").rsplit("/", 1)[-1]
        if self.since(name) < 1:
            return self.refuse("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "CreateQueue" and call.params["QueueName"] not in self.times:
            self.note(call.params["QueueName"])


class QueueAttributesChangeSlowly(Behaviour):
    """GetQueueAttributes goes on with the old ones for up to 60 s."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._last: dict[str, dict[str, str]] = {}

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        url = call.params.get("QueueUrl", "")
        if call.name == "SetQueueAttributes":
            self.note(url)
        elif call.name == "GetQueueAttributes":
            if self.since(url) < 60 and url in self._last:
                self.met += 1
                answer["Attributes"] = self._last[url]
            else:
                self._last[url] = answer["Attributes"]


class TablesTakeTime(Behaviour):
    """Not found for a second, CREATING for 8 s, and meanwhile nothing can be done with them."""

    def before(self, call: Call) -> Reply | None:
        if call.service != "dynamodb" or "TableName" not in call.params:
            return None
        age = self.since(call.params["TableName"])
        if call.name == "DescribeTable" and age < 1:
            return self.refuse("ResourceNotFoundException", "Requested resource not found")
        if call.name != "DescribeTable" and age < 8:
            return self.refuse("ResourceInUseException", "Table is being created")
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "CreateTable":
            self.note(call.params["TableName"])
        elif call.name == "DescribeTable" and self.since(call.params["TableName"]) < 8:
            self.met += 1
            answer["Table"]["TableStatus"] = "CREATING"


class TablesGoSlowly(Behaviour):
    """DELETING for 10 s: described as such, and not to be made again."""

    lingers = True

    def before(self, call: Call) -> Reply | None:
        if call.service != "dynamodb" or self.since(call.params.get("TableName")) >= 10:
            return None
        if call.name == "DescribeTable":
            self.met += 1
            return Answer({"Table": {"TableName": call.params["TableName"], "TableStatus": "DELETING"}})
        return self.refuse("ResourceInUseException", "Table is being deleted")

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "DeleteTable":
            self.note(call.params["TableName"])


class TimeToLiveIsSetByAnother(Behaviour):
    """Another `up` sets it a moment earlier, and within the hour DynamoDB refuses to set it again."""

    def before(self, call: Call) -> Reply | None:
        if call.name != "UpdateTimeToLive":
            return None
        plain_session().client("dynamodb").update_time_to_live(**call.params)
        return self.refuse("ValidationException", "TimeToLive is already enabled")


class BackupsAreBeingEnabled(Behaviour):
    """For 20 s after a table was made."""

    def before(self, call: Call) -> Reply | None:
        if call.name == "UpdateContinuousBackups" and self.since(call.params["TableName"]) < 20:
            text = "Backups are being enabled for the table. Please retry later"
            return self.refuse("ContinuousBackupsUnavailableException", text)
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "CreateTable":
            self.note(call.params["TableName"])


_TABLES = Refusal(
    "LimitExceededException",
    "Subscriber limit exceeded: Only 10 tables can be created, updated, or deleted simultaneously",
)


class TooManyTablesAtOnce(RefusesFirst):
    operations = frozenset({"CreateTable", "DeleteTable"})
    refusals = (_TABLES,) * 12


class NewRolesAreNotKnown(Behaviour):
    """For 10 s no other service can use a role; each of them says so in its own words."""

    def before(self, call: Call) -> Reply | None:
        if all(self.since(role) >= 10 for role in self.times):
            return None
        if call.name == "RegisterTaskDefinition":
            if self.met % 2:
                return self.refuse("ClientException", "Role is not valid")
            what = f"iam:PassRole on resource: {call.params['executionRoleArn']}"
            text = f"User: arn:aws:iam::123456789012:user/dev is not authorized to perform: {what}"
            return self.refuse("AccessDeniedException", text)
        if call.name == "CreateService":
            text = "Please verify that the ECS service role being passed has the proper permissions."
            return self.refuse("InvalidParameterException", f"Unable to assume role and validate. {text}")
        if call.name == "PutRestApi":
            return self.refuse("BadRequestException", "Errors found during import: Invalid role ARN for integration")
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "CreateRole":
            self.note(call.params["RoleName"])


class IamIsBusy(RefusesFirst):
    operations = frozenset({"CreateRole", "PutRolePolicy", "DeleteRolePolicy", "DeleteRole"})
    refusals = (Refusal("ConcurrentModification", "The request was rejected", 409),) * 2


class FirstUseOfEcs(Behaviour):
    """Refused until the account has ECS's own role, and for 5 s after it was made."""

    def before(self, call: Call) -> Reply | None:
        if call.name in ("CreateCluster", "CreateService") and not 5 <= self.since("role") < float("inf"):
            text = "Unable to assume the service linked role. Please verify that the ECS service linked role exists."
            return self.refuse("InvalidParameterException", text)
        if call.name == "CreateServiceLinkedRole" and "role" in self.times:
            return Refusal("InvalidInput", "Service role name AWSServiceRoleForECS has been taken in this account")
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "CreateServiceLinkedRole":
            self.note("role")


class NewClustersAreNotKnown(Behaviour):
    """For 5 s: not described, and no place for a service."""

    def before(self, call: Call) -> Reply | None:
        if call.name == "CreateService" and self.since(call.params["cluster"]) < 5:
            return self.refuse("ClusterNotFoundException", "Cluster not found.")
        if call.name == "DescribeClusters" and self.since(call.params["clusters"][0]) < 2:
            self.met += 1
            return Answer({"clusters": [], "failures": [{"reason": "MISSING"}]})
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "CreateCluster" and call.params["clusterName"] not in self.times:
            self.note(call.params["clusterName"])
        elif call.name == "DeleteCluster":
            self.times.pop(call.params["cluster"], None)


class ServicesDrain(Behaviour):
    """For 30 s after DeleteService: DRAINING, holding their name and their cluster."""

    lingers = True

    def before(self, call: Call) -> Reply | None:
        if call.name == "CreateService" and self.since(call.params["cluster"]) < 30:
            return self.refuse("InvalidParameterException", "Unable to Start a service that is still Draining.")
        if call.name == "DeleteCluster" and self.since(call.params["cluster"]) < 30:
            return self.refuse("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "DeleteService":
            self.note(call.params["cluster"])
        elif call.name == "DescribeServices" and self.since(call.params["cluster"]) < 30:
            for service in answer["services"]:
                self.met += 1
                service["status"] = "DRAINING"


class NamesakesAreAnswered(Behaviour):
    """CreateQueue and CreateCluster of what is there answer it as if they had made it, and tag nothing."""

    def before(self, call: Call) -> Reply | None:
        plain = plain_session()
        if call.name == "CreateQueue":
            urls = plain.client("sqs").list_queues(QueueNamePrefix=call.params["QueueName"]).get("QueueUrls", [])
            url = next((url for url in urls if url.endswith(f"/{call.params['QueueName']}")), None)
            return Answer({"QueueUrl": url}) if url else None
        if call.name == "CreateCluster":
            found = plain.client("ecs").describe_clusters(clusters=[call.params["clusterName"]])["clusters"]
            return Answer({"cluster": {"clusterArn": found[0]["clusterArn"]}}) if found else None
        return None


class ServicesAreMadeOnce(Behaviour):
    """CreateService of a name that is there, with other settings."""

    def before(self, call: Call) -> Reply | None:
        if call.name == "CreateService":
            return self.refuse("InvalidParameterException", "Creation of service was not idempotent.")
        return None


class DeploymentsAreActive(RefusesFirst):
    operations = frozenset({"DeleteService"})
    refusals = (
        Refusal("InvalidParameterException", "The service cannot be stopped while deployments are active."),
    ) * 2


class ClustersAreBusy(RefusesFirst):
    operations = frozenset({"DeleteCluster"})
    refusals = (
        Refusal(
            "UpdateInProgressException", "There's already a current Amazon ECS container agent update in progress."
        ),
        Refusal("ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active."),
        Refusal("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active."),
    )


class InterfacesLinger(Behaviour):
    """Fargate's network interfaces hold the security group for two minutes after the service is gone."""

    def before(self, call: Call) -> Reply | None:
        if call.name == "DeleteSecurityGroup" and self.since("service") < 120:
            text = f"resource {call.params['GroupId']} has a dependent object"
            return self.refuse("DependencyViolation", text)
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "DeleteService":
            self.note("service")


class DeletedBucketsAreInTheWay(Behaviour):
    """For 20 s after a delete."""

    lingers = True

    def before(self, call: Call) -> Reply | None:
        if call.name == "CreateBucket" and self.since(call.params["Bucket"]) < 20:
            text = "A conflicting conditional operation is currently in progress against this resource."
            return self.refuse("OperationAborted", text, 409)
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> None:
        if call.name == "DeleteBucket":
            self.note(call.params["Bucket"])


class ApiGatewayHasRates(Behaviour):
    """Of the whole account: seconds between two calls of an operation, and 10 calls a second of any, 40 at once."""

    lingers = True

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._seconds = {
            "CreateRestApi": 3,
            "PutRestApi": 1,
            "CreateDeployment": 5,
            "DeleteRestApi": 30,
            "UpdateUsagePlan": 20,
        }
        self._tokens, self._filled = 40.0, clock.now()

    def before(self, call: Call) -> Reply | None:
        if call.service != "apigateway":
            return None
        now = self.clock.now()
        self._tokens = min(40.0, self._tokens + (now - self._filled) * 10)
        self._filled = now
        if self._tokens < 1 or self.since(call.name) < self._seconds.get(call.name, 0):
            return self.refuse("TooManyRequestsException", "Too Many Requests", 429)
        self._tokens -= 1
        self.note(call.name)
        return None


class LogsAreBusy(RefusesFirst):
    operations = frozenset({"CreateLogGroup", "PutRetentionPolicy", "DeleteLogGroup"})
    refusals = (Refusal("OperationAbortedException", "A conflicting operation is currently in progress"),) * 2


class ScalingIsBusy(RefusesFirst):
    operations = frozenset({"PutScalingPolicy", "DeleteScalingPolicy", "DeregisterScalableTarget"})
    refusals = (Refusal("ConcurrentUpdateException", "You already have a pending update"),) * 2


class NewServicesAreNotScalable(RefusesFirst):
    operations = frozenset({"RegisterScalableTarget"})
    refusals = (Refusal("ValidationException", "ECS service doesn't exist: service/asyncjobs-crash/worker"),) * 2


class Throttles(Behaviour):
    """Every fifth call, in the words of its service."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._calls = 0
        self._words = {
            "ec2": Refusal("RequestLimitExceeded", "Request limit exceeded.", 503),
            "s3": Refusal("SlowDown", "Please reduce your request rate.", 503),
            "apigateway": Refusal("TooManyRequestsException", "Too Many Requests", 429),
            "iam": Refusal("Throttling", "Rate exceeded", 400),
        }

    def before(self, call: Call) -> Reply | None:
        self._calls += 1
        if self._calls % 5 or call.service == "cloudwatch":
            return None
        self.met += 1
        return self._words.get(call.service, Refusal("ThrottlingException", "Rate exceeded"))


class LosesAnswers(Behaviour):
    """The answer to the first call of each operation never comes, and botocore sends it again."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self._lost: set[tuple[str, str]] = set()

    def before(self, call: Call) -> Reply | None:
        # CloudWatch speaks CBOR here, which moto answers elsewhere.
        if (call.service, call.name) in self._lost or call.service == "cloudwatch":
            return None
        self._lost.add((call.service, call.name))
        self.met += 1
        return LostAnswer()


ALL: tuple[type[Behaviour], ...] = (
    DeletedQueueNamesAreKept,
    NewQueuesAreNotThereYet,
    TablesTakeTime,
    TablesGoSlowly,
    TimeToLiveIsSetByAnother,
    BackupsAreBeingEnabled,
    TooManyTablesAtOnce,
    NewRolesAreNotKnown,
    IamIsBusy,
    FirstUseOfEcs,
    NewClustersAreNotKnown,
    ServicesDrain,
    DeploymentsAreActive,
    ClustersAreBusy,
    InterfacesLinger,
    DeletedBucketsAreInTheWay,
    ApiGatewayHasRates,
    LogsAreBusy,
    ScalingIsBusy,
    NewServicesAreNotScalable,
    Throttles,
    LosesAnswers,
)


def behave(session: boto3.session.Session, behaviours: Iterable[Behaviour]) -> None:
    """Have the clients that `session` makes from now on meet these behaviours."""
    _Layer(tuple(behaviours)).install(session)


@contextmanager
def patient(clock: FakeClock) -> Iterator[None]:
    """botocore's own pauses between its retries pass on the fake clock too, and moto leaves alone what was refused."""

    class Time:
        sleep = staticmethod(clock.sleep)

    answer = BotocoreStubber.__call__

    def unless_answered(self: Any, event_name: str, request: Any, **settings: Any) -> Any:
        # botocore asks everybody who answers in place of the network, and takes the first answer.
        return None if hasattr(request, "answered") else answer(self, event_name, request, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.endpoint, "time", Time)
        patch.setattr(BotocoreStubber, "__call__", unless_answered)
        yield


class _Layer:
    def __init__(self, behaviours: tuple[Behaviour, ...]) -> None:
        self._behaviours = behaviours
        # A request is prepared, sent and answered in one thread; only while it is prepared is it known whose it is.
        self._current = threading.local()

    def install(self, session: boto3.session.Session) -> None:
        session.events.register("before-parameter-build.*.*", self._prepared)
        session.events.register_first("before-send.*.*", self._sent)
        session.events.register("after-call.*.*", self._answered)

    def _prepared(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model
        self._current.call = Call(service.service_name, model.name, dict(params))
        self._current.protocol = service.resolved_protocol

    def _sent(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        replies = (behaviour.before(self._current.call) for behaviour in self._behaviours)
        reply = next((reply for reply in replies if reply is not None), None)
        if reply is None:
            return None
        if isinstance(reply, LostAnswer):
            botocore_stubber(event_name, request)
            raise ConnectionClosedError(endpoint_url=request.url)
        request.answered = True
        if isinstance(reply, Refusal):
            return _error(reply, self._current.protocol, request.url)
        return _response(200, json.dumps(reply.body), {}, request.url)

    def _answered(self, http_response: Any, parsed: dict[str, Any], **_: Any) -> None:
        if http_response.status_code < 300:
            for behaviour in self._behaviours:
                behaviour.after(self._current.call, parsed)


def _error(refusal: Refusal, protocol: str, url: str) -> AWSResponse:
    """As each of AWS's protocols writes errors."""
    code, message = refusal.code, refusal.message
    if protocol in ("json", "rest-json"):
        # SQS spoke the query protocol once, and sends its old codes along.
        shape = {"AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist"}.get(code, code.rsplit(".", 1)[-1])
        headers = {"x-amzn-ErrorType": shape, **({"x-amzn-query-error": f"{code};Sender"} if "." in code else {})}
        return _response(refusal.status, json.dumps({"__type": shape, "message": message}), headers, url)
    error = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    body = {
        "query": f"<ErrorResponse>{error}</ErrorResponse>",
        "ec2": f"<Response><Errors>{error}</Errors></Response>",
        "rest-xml": error,
    }[protocol]
    return _response(refusal.status, body, {}, url)


def _response(status: int, body: str, headers: dict[str, str], url: str) -> AWSResponse:
    return AWSResponse(url, status, headers, _Raw(body.encode()))


class _Raw(BytesIO):
    """What urllib3 would hand over."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()
