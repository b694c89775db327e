"""The application-autoscaling API, which the emulator lacks: targets, step-scaling policies, tags.

Requests are validated against botocore's own model of the service, so a request that AWS would refuse for its shape
is refused here too. https://docs.aws.amazon.com/autoscaling/application/APIReference/
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationNotFoundError, ServiceModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

from asyncjobs.local.scaling_store import Record, ScalingStore

TARGET_PREFIX = "AnyScaleFrontendService."
_DIMENSION = "ecs:service:DesiredCount"
_DEFAULT_PAGE = 50

ServiceExists = Callable[[str, str, str], bool]


class ScalingError(Exception):
    """An error of the service.

    Args:
        code: `ValidationException` and the like.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ScalingApi:
    """Answers JSON 1.1 requests.

    Args:
        store: Where targets and policies are kept.
        service_exists: Whether ECS has (region, cluster, service).
        changed: Called after a change, so that scaling looks at once.
    """

    def __init__(self, store: ScalingStore, service_exists: ServiceExists, changed: Callable[[], None]) -> None:
        self._store = store
        self._service_exists = service_exists
        self._changed = changed
        self._model = ServiceModel(Loader().load_service_model("application-autoscaling", "service-2"))
        self._operations: dict[str, Callable[[str, Record], Record]] = {
            "RegisterScalableTarget": self._register_target,
            "DeregisterScalableTarget": self._deregister_target,
            "DescribeScalableTargets": self._describe_targets,
            "PutScalingPolicy": self._put_policy,
            "DeleteScalingPolicy": self._delete_policy,
            "DescribeScalingPolicies": self._describe_policies,
            "TagResource": self._tag,
            "UntagResource": self._untag,
            "ListTagsForResource": self._list_tags,
        }

    def handle(self, action: str, region: str, body: bytes) -> tuple[int, Record]:
        """Status and JSON answer of one request."""
        try:
            request = self._parse(action, body)
            return 200, self._operations[action](region, request)
        except ScalingError as error:
            return 400, {"__type": error.code, "Message": str(error)}

    def _parse(self, action: str, body: bytes) -> Record:
        try:
            operation = self._model.operation_model(action)
        except OperationNotFoundError:
            raise ScalingError("UnknownOperationException", f"Unknown operation {action}") from None
        if action not in self._operations:
            raise ScalingError("ValidationException", f"The local engine does not implement {action}.")
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            raise ScalingError("SerializationException", "The body is not JSON.") from None
        shape = operation.input_shape
        if shape is None or not isinstance(request, dict):
            raise ScalingError("SerializationException", "The body is not a JSON object.")
        report = ParamValidator().validate(request, shape)
        problems = [report.generate_report()] if report.has_errors() else list(_enum_problems(request, shape, ""))
        if problems:
            count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''} detected"
            raise ScalingError("ValidationException", f"{count}: {'; '.join(problems)}")
        return request

    # Targets.

    def _register_target(self, region: str, request: Record) -> Record:
        cluster, service = _ecs_service(request)
        known = self._store.target(region, request)
        minimum = request.get("MinCapacity", known and known["MinCapacity"])
        maximum = request.get("MaxCapacity", known and known["MaxCapacity"])
        if minimum is None or maximum is None:
            raise ScalingError("ValidationException", "MinCapacity and MaxCapacity must be specified for a new target.")
        if not 0 <= minimum <= maximum:
            message = "Maximum capacity cannot be less than minimum capacity, and neither can be negative"
            raise ScalingError("ValidationException", message)
        if not self._service_exists(region, cluster, service):
            message = f"ECS service doesn't exist: {request['ResourceId']}"
            raise ScalingError("ValidationException", message)
        fields = {key: value for key, value in request.items() if key != "RoleARN"}
        fields |= {"MinCapacity": minimum, "MaxCapacity": maximum}
        if known and "SuspendedState" in request:
            fields["SuspendedState"] = {**known["SuspendedState"], **request["SuspendedState"]}
        record = self._store.put_target(region, fields)
        self._changed()
        return {"ScalableTargetARN": record["ScalableTargetARN"]}

    def _deregister_target(self, region: str, request: Record) -> Record:
        if not self._store.delete_target(region, request):
            raise _no_target(request)
        return {}

    def _describe_targets(self, region: str, request: Record) -> Record:
        ids = request.get("ResourceIds")
        found = [
            record
            for record in self._store.list_targets(region)
            if _matches(record, request, "ServiceNamespace", "ScalableDimension")
            and (not ids or record["ResourceId"] in ids)
        ]
        return _page("ScalableTargets", found, request)

    # Policies.

    def _put_policy(self, region: str, request: Record) -> Record:
        if self._store.target(region, request) is None:
            raise _no_target(request)
        known = next((each for each in self._store.list_policies(region) if _same_policy(each, request)), {})
        kind = request.get("PolicyType") or known.get("PolicyType") or "StepScaling"
        if kind != "StepScaling":
            message = f"The local engine scales by StepScaling policies only; {kind} is not implemented."
            raise ScalingError("ValidationException", message)
        step = request.get("StepScalingPolicyConfiguration") or known.get("StepScalingPolicyConfiguration")
        if not step or not step.get("AdjustmentType") or not step.get("StepAdjustments"):
            message = "AdjustmentType and StepAdjustments must be specified for a step scaling policy"
            raise ScalingError("ValidationException", message)
        _check_steps(step["StepAdjustments"])
        fields = {**request, "PolicyType": kind, "StepScalingPolicyConfiguration": step}
        record = self._store.put_policy(region, fields)
        self._changed()
        return {"PolicyARN": record["PolicyARN"], "Alarms": []}

    def _delete_policy(self, region: str, request: Record) -> Record:
        if not self._store.delete_policy(region, request):
            message = f"No scaling policy found for service namespace: {_where(request)}"
            raise ScalingError("ObjectNotFoundException", message)
        return {}

    def _describe_policies(self, region: str, request: Record) -> Record:
        names = request.get("PolicyNames")
        found = [
            {**record, "Alarms": []}
            for record in self._store.list_policies(region)
            if _matches(record, request, "ServiceNamespace", "ResourceId", "ScalableDimension")
            and (not names or record["PolicyName"] in names or record["PolicyARN"] in names)
        ]
        return _page("ScalingPolicies", found, request)

    # Tags.

    def _tag(self, region: str, request: Record) -> Record:
        self._store.set_tags(request["ResourceARN"], {**self._tags(request), **request["Tags"]})
        return {}

    def _untag(self, region: str, request: Record) -> Record:
        kept = {key: value for key, value in self._tags(request).items() if key not in request["TagKeys"]}
        self._store.set_tags(request["ResourceARN"], kept)
        return {}

    def _list_tags(self, region: str, request: Record) -> Record:
        return {"Tags": self._tags(request)}

    def _tags(self, request: Record) -> dict[str, str]:
        tags = self._store.tags(request["ResourceARN"])
        if tags is None:
            message = f"No scalable target found for resource ARN: {request['ResourceARN']}"
            raise ScalingError("ResourceNotFoundException", message)
        return tags


def _ecs_service(request: Record) -> tuple[str, str]:
    """Cluster and service of an ECS resource id; nothing else is scaled here."""
    parts = request["ResourceId"].split("/")
    if request["ServiceNamespace"] != "ecs" or request["ScalableDimension"] != _DIMENSION:
        message = f"The local engine scales {_DIMENSION} only."
        raise ScalingError("ValidationException", message)
    if len(parts) != 3 or parts[0] != "service" or not all(parts):
        message = "Unsupported service namespace, resource type or scalable dimension"
        raise ScalingError("ValidationException", message)
    return parts[1], parts[2]


def _check_steps(steps: list[Record]) -> None:
    """The rules for intervals: no overlap, and at most one without a lower and one without an upper bound."""
    infinity = float("inf")
    bounds = sorted(
        (
            float(step.get("MetricIntervalLowerBound", -infinity)),
            float(step.get("MetricIntervalUpperBound", infinity)),
        )
        for step in steps
    )
    if any(low >= high for low, high in bounds):
        message = "The lower bound of a step adjustment must be less than its upper bound"
        raise ScalingError("ValidationException", message)
    if any(first[1] > second[0] for first, second in itertools.pairwise(bounds)):
        raise ScalingError("ValidationException", "StepAdjustment intervals can't overlap")
    if any(first[1] != second[0] for first, second in itertools.pairwise(bounds)):
        raise ScalingError("ValidationException", "There is a gap between the StepAdjustment intervals")


def _enum_problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Values outside of an enumeration, which botocore's validator leaves to the service."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        for name, member in shape.members.items():
            if name in value:
                yield from _enum_problems(value[name], member, f"{path}.{name}" if path else name)
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for index, each in enumerate(value):
            yield from _enum_problems(each, shape.member, f"{path}[{index}]")
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for key, each in value.items():
            yield from _enum_problems(each, shape.value, f"{path}.{key}")
    elif isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        allowed = ", ".join(shape.enum)
        yield (
            f"Value '{value}' at '{path}' failed to satisfy constraint: Member must satisfy enum value set: [{allowed}]"
        )


def _matches(record: Record, request: Record, *names: str) -> bool:
    return all(name not in request or record[name] == request[name] for name in names)


def _same_policy(record: Record, request: Record) -> bool:
    return _matches(record, request, "ServiceNamespace", "ResourceId", "ScalableDimension", "PolicyName")


def _where(request: Record) -> str:
    return f"{request['ServiceNamespace']}, resource ID: {request['ResourceId']}, scalable dimension: " + str(
        request["ScalableDimension"]
    )


def _no_target(request: Record) -> ScalingError:
    message = f"No scalable target registered for service namespace: {_where(request)}"
    return ScalingError("ObjectNotFoundException", message)


def _page(name: str, found: list[Record], request: Record) -> Record:
    try:
        start = int(request.get("NextToken", 0))
    except ValueError:
        raise ScalingError("InvalidNextTokenException", "The next token is not valid.") from None
    end = start + int(request.get("MaxResults") or _DEFAULT_PAGE)
    return {name: found[start:end], **({"NextToken": str(end)} if end < len(found) else {})}
