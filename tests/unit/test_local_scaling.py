"""Autoscaling decisions, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.local.autoscaler import Autoscaler, metric_value, parse_alarm
from asyncjobs.local.metric_math import MetricMathError, evaluate
from asyncjobs.local.paths import EnginePaths
from asyncjobs.local.scaling import Alarm, Decider, StepPolicy, Target
from asyncjobs.local.scaling_api import ScalingApi
from asyncjobs.local.scaling_store import ScalingStore

STEPS = (
    {"MetricIntervalLowerBound": 0, "MetricIntervalUpperBound": 1, "ScalingAdjustment": 1},
    {"MetricIntervalLowerBound": 1, "MetricIntervalUpperBound": 10, "ScalingAdjustment": 2},
    {"MetricIntervalLowerBound": 10, "ScalingAdjustment": 9},
)
BUSY = StepPolicy("busy", "ExactCapacity", STEPS, cooldown=60)
BUSY_ALARM = Alarm("busy", 1, "GreaterThanOrEqualToThreshold", 0, ("busy",))
IDLE_ALARM = Alarm("idle", 1, "LessThanThreshold", 300, ("idle",))
TARGET = Target("service/c/worker", 0, 5)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("backlog", "wanted"),
    [(1, 1), (1.5, 1), (2, 2), (10.9, 2), (11, 9), (1000, 9), (0.5, None)],
)
def test_steps_are_relative_to_the_threshold(backlog: float, wanted: int | None) -> None:
    assert BUSY.capacity(0, backlog - BUSY_ALARM.threshold) == wanted


def test_below_the_threshold_the_upper_bound_belongs_to_the_step() -> None:
    policy = StepPolicy(
        "p",
        "ChangeInCapacity",
        (
            {"MetricIntervalUpperBound": -5, "ScalingAdjustment": -2},
            {"MetricIntervalLowerBound": -5, "MetricIntervalUpperBound": 0, "ScalingAdjustment": -1},
        ),
    )
    assert policy.capacity(4, -5) == 2
    assert policy.capacity(4, -4.9) == 3


@pytest.mark.parametrize(
    ("current", "percent", "magnitude", "wanted"),
    [(10, 25, 0, 12), (1, 10, 0, 2), (10, -25, 0, 8), (3, 10, 2, 5), (0, 50, 0, 0)],
)
def test_percent_changes_round_as_aws_does(current: int, percent: int, magnitude: int, wanted: int) -> None:
    policy = StepPolicy("p", "PercentChangeInCapacity", ({"ScalingAdjustment": percent},), min_magnitude=magnitude)
    assert policy.capacity(current, 0) == wanted


def test_one_period_fires_at_once_and_several_take_their_real_time() -> None:
    clock = Clock()
    decider = Decider(clock)
    assert decider.observe("busy", BUSY_ALARM, 1)
    assert not decider.observe("idle", IDLE_ALARM, 0)
    clock.now += 299
    assert not decider.observe("idle", IDLE_ALARM, 0)
    clock.now += 1
    assert decider.observe("idle", IDLE_ALARM, 0)
    assert not decider.observe("idle", IDLE_ALARM, 1)
    clock.now += 100
    assert not decider.observe("idle", IDLE_ALARM, 0), "one look above the threshold starts the wait anew"


def test_no_value_means_no_alarm() -> None:
    assert not Decider(Clock()).observe("idle", IDLE_ALARM, None)


def test_capacity_stays_within_the_limits() -> None:
    decision = Decider(Clock()).decide("k", TARGET, 0, [(BUSY, BUSY_ALARM, 100)])
    assert decision is not None
    assert decision.capacity == 5


def test_a_count_outside_of_the_limits_is_brought_back_without_any_alarm() -> None:
    decider = Decider(Clock())
    assert decider.decide("k", Target("r", 2, 5), 0, []).capacity == 2  # type: ignore[union-attr]
    assert decider.decide("k", Target("r", 0, 3), 4, []).capacity == 3  # type: ignore[union-attr]
    assert decider.decide("k", Target("r", 0, 3), 3, []) is None


def test_scaling_out_may_follow_at_once_and_scaling_in_waits_for_the_cooldown() -> None:
    clock = Clock()
    decider = Decider(clock)
    assert decider.decide("k", TARGET, 0, [(BUSY, BUSY_ALARM, 1)]).capacity == 1  # type: ignore[union-attr]
    assert decider.decide("k", TARGET, 1, [(BUSY, BUSY_ALARM, 5)]).capacity == 2  # type: ignore[union-attr]
    clock.now += 59
    assert decider.decide("k", TARGET, 2, [(BUSY, BUSY_ALARM, 1)]) is None
    clock.now += 1
    assert decider.decide("k", TARGET, 2, [(BUSY, BUSY_ALARM, 1)]).capacity == 1  # type: ignore[union-attr]


def test_relative_changes_wait_for_the_cooldown_too() -> None:
    clock = Clock()
    decider = Decider(clock)
    policy = StepPolicy("p", "ChangeInCapacity", ({"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1},), 30)
    assert decider.decide("k", TARGET, 0, [(policy, BUSY_ALARM, 1)]).capacity == 1  # type: ignore[union-attr]
    assert decider.decide("k", TARGET, 1, [(policy, BUSY_ALARM, 1)]) is None
    clock.now += 30
    assert decider.decide("k", TARGET, 1, [(policy, BUSY_ALARM, 1)]).capacity == 2  # type: ignore[union-attr]


def test_suspended_directions_are_left_alone() -> None:
    decider = Decider(Clock())
    paused = Target("r", 1, 5, out_suspended=True, in_suspended=True)
    assert decider.decide("k", paused, 0, [(BUSY, BUSY_ALARM, 5)]) is None
    assert decider.decide("k", paused, 9, []) is None


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("visible + inflight", 9),
        ("CEIL(MAX([(visible + inflight) / 2, inflight / 1]))", 5),
        ("IF(inflight > 1 && 1, 1, 0)".replace("&&", "and"), 1),
        ("FILL(visible, 0) - -1", 8),
        ("SUM([visible, inflight]) / 0", 0),
    ],
)
def test_metric_math(expression: str, value: float) -> None:
    assert evaluate(expression, {"visible": 7, "inflight": 2}) == value


@pytest.mark.parametrize("expression", ["", "visible +", "missing", "__import__('os')", "visible.real", "ABS(1, 2)"])
def test_metric_math_refuses_the_rest(expression: str) -> None:
    with pytest.raises(MetricMathError):
        evaluate(expression, {"visible": 7})


class FakeCloud:
    """One queue, one service, two alarms."""

    def __init__(self, policies: Mapping[str, str]) -> None:
        self.visible = 0
        self.desired = 0
        self.states: dict[str, str] = {}
        self._policies = policies

    def alarms(self) -> Sequence[Mapping[str, Any]]:
        return [
            self._alarm("busy", "GreaterThanOrEqualToThreshold", 1),
            self._alarm("idle", "LessThanThreshold", 5),
        ]

    def queue(self, name: str) -> Mapping[str, str] | None:
        counts = {"ApproximateNumberOfMessages": str(self.visible), "ApproximateNumberOfMessagesNotVisible": "0"}
        return counts if name == "jobs" else None

    def desired_count(self, cluster: str, service: str) -> int | None:
        return self.desired

    def set_desired_count(self, cluster: str, service: str, count: int) -> None:
        self.desired = count

    def set_alarm_state(self, name: str, state: str, reason: str) -> None:
        self.states[name] = state

    def _alarm(self, name: str, comparison: str, periods: int) -> Mapping[str, Any]:
        return {
            "AlarmName": name,
            "AlarmActions": [self._policies[name]],
            "ComparisonOperator": comparison,
            "Threshold": 1.0,
            "EvaluationPeriods": periods,
            "StateValue": self.states.get(name, "INSUFFICIENT_DATA"),
            "Metrics": [
                {"Id": "tasks", "Expression": "visible + inflight", "ReturnData": True},
                _metric("visible", "ApproximateNumberOfMessagesVisible"),
                _metric("inflight", "ApproximateNumberOfMessagesNotVisible"),
            ],
        }


def _metric(identifier: str, name: str, queue: str = "jobs") -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/SQS",
        "MetricName": name,
        "Dimensions": [{"Name": "QueueName", "Value": queue}],
    }
    return {"Id": identifier, "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}, "ReturnData": False}


WHERE = {"ServiceNamespace": "ecs", "ResourceId": "service/c/worker", "ScalableDimension": "ecs:service:DesiredCount"}


class Api:
    """The application-autoscaling API over a store in a directory."""

    def __init__(self, directory: Path) -> None:
        self.store = ScalingStore(EnginePaths(directory), "000000000000")
        self._api = ScalingApi(self.store, lambda region, cluster, service: cluster == "c", lambda: None)

    def ok(self, action: str, **request: Any) -> dict[str, Any]:
        status, answer = self._call(action, request)
        assert status == 200, answer
        return answer

    def error(self, action: str, **request: Any) -> tuple[str, str]:
        status, answer = self._call(action, request)
        assert status == 400
        return answer["__type"], answer["Message"]

    def _call(self, action: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        import json

        return self._api.handle(action, "eu-west-1", json.dumps(request).encode())


def policy(name: str, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    step = {"AdjustmentType": "ExactCapacity", "StepAdjustments": list(steps), "Cooldown": 60}
    return {**WHERE, "PolicyName": name, "PolicyType": "StepScaling", "StepScalingPolicyConfiguration": step}


def test_from_zero_by_backlog_and_back_after_the_idle_time(tmp_path: Path) -> None:
    api, clock = Api(tmp_path), Clock()
    api.ok("RegisterScalableTarget", **WHERE, MinCapacity=0, MaxCapacity=4)
    busy = api.ok("PutScalingPolicy", **policy("busy", STEPS))["PolicyARN"]
    idle = api.ok("PutScalingPolicy", **policy("idle", [{"MetricIntervalUpperBound": 0, "ScalingAdjustment": 0}]))
    cloud = FakeCloud({"busy": busy, "idle": idle["PolicyARN"]})
    scaler = Autoscaler(api.store, lambda region: cloud, clock)
    scaler.scale("eu-west-1")
    assert cloud.desired == 0
    assert cloud.states == {"busy": "OK", "idle": "OK"}
    cloud.visible = 1
    scaler.scale("eu-west-1")
    assert cloud.desired == 1
    assert cloud.states["busy"] == "ALARM"
    cloud.visible = 50
    scaler.scale("eu-west-1")
    assert cloud.desired == 4
    cloud.visible = 0
    for _ in range(5):
        scaler.scale("eu-west-1")
        assert cloud.desired == 4
        clock.now += 60
    scaler.scale("eu-west-1")
    assert cloud.desired == 0


def test_an_alarm_on_an_unknown_queue_or_metric_has_no_value() -> None:
    cloud = FakeCloud({"busy": "b", "idle": "i"})
    unknown = {"AlarmName": "a", "Metrics": [_metric("m", "ApproximateNumberOfMessagesVisible", "other")]}
    assert metric_value(unknown, cloud) is None
    assert metric_value({"AlarmName": "a", "Metrics": [_metric("m", "NumberOfMessagesSent")]}, cloud) is None
    bad = {"AlarmName": "a", "Metrics": [{"Id": "e", "Expression": "SEARCH('x')"}]}
    assert metric_value(bad, cloud) is None
    assert parse_alarm({"AlarmName": "a", "Period": 10, "EvaluationPeriods": 3, "DatapointsToAlarm": 2}).seconds == 20


def test_targets_and_policies_survive_a_restart_and_go_together(tmp_path: Path) -> None:
    first = Api(tmp_path)
    arn = first.ok("RegisterScalableTarget", **WHERE, MinCapacity=0, MaxCapacity=4, Tags={"a": "b"})
    policy_arn = first.ok("PutScalingPolicy", **policy("busy", STEPS))["PolicyARN"]
    again = Api(tmp_path)
    assert again.ok("RegisterScalableTarget", **WHERE, MaxCapacity=9) == arn
    target = again.ok("DescribeScalableTargets", ServiceNamespace="ecs")["ScalableTargets"][0]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 9)
    assert again.ok("PutScalingPolicy", **policy("busy", STEPS[:1]))["PolicyARN"] == policy_arn
    tagged = again.ok("ListTagsForResource", ResourceARN=arn["ScalableTargetARN"])
    assert tagged["Tags"] == {"a": "b"}
    again.ok("TagResource", ResourceARN=arn["ScalableTargetARN"], Tags={"c": "d"})
    again.ok("UntagResource", ResourceARN=arn["ScalableTargetARN"], TagKeys=["a"])
    assert again.ok("ListTagsForResource", ResourceARN=arn["ScalableTargetARN"])["Tags"] == {"c": "d"}
    again.ok("DeregisterScalableTarget", **WHERE)
    assert again.ok("DescribeScalingPolicies", ServiceNamespace="ecs")["ScalingPolicies"] == []
    assert again.error("DeregisterScalableTarget", **WHERE)[0] == "ObjectNotFoundException"


def test_what_aws_refuses_is_refused(tmp_path: Path) -> None:
    api = Api(tmp_path)
    assert "Missing required parameter" in api.error("RegisterScalableTarget", ServiceNamespace="ecs")[1]
    assert "enum value set" in api.error("RegisterScalableTarget", **{**WHERE, "ServiceNamespace": "x"})[1]
    missing = {**WHERE, "ResourceId": "service/other/worker"}
    assert "doesn't exist" in api.error("RegisterScalableTarget", **missing, MinCapacity=0, MaxCapacity=1)[1]
    assert api.error("RegisterScalableTarget", **WHERE, MinCapacity=2, MaxCapacity=1)[0] == "ValidationException"
    assert api.error("RegisterScalableTarget", **WHERE, MinCapacity=2)[0] == "ValidationException"
    assert api.error("PutScalingPolicy", **policy("busy", STEPS))[0] == "ObjectNotFoundException"
    api.ok("RegisterScalableTarget", **WHERE, MinCapacity=0, MaxCapacity=1)
    overlapping = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}] * 2
    assert "overlap" in api.error("PutScalingPolicy", **policy("p", overlapping))[1]
    assert "gap" in api.error("PutScalingPolicy", **policy("p", [STEPS[0], STEPS[2]]))[1]
    tracking = {**WHERE, "PolicyName": "t", "PolicyType": "TargetTrackingScaling"}
    assert "StepScaling" in api.error("PutScalingPolicy", **tracking)[1]
    assert api.error("DeleteScalingPolicy", **WHERE, PolicyName="none")[0] == "ObjectNotFoundException"
    assert api.error("Nonsense")[0] == "UnknownOperationException"
