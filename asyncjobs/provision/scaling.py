"""Autoscaling of the workers: from zero on the first message, by backlog per task, and back when all is done.

The number of tasks needed is the greater of (waiting + running jobs) / backlog_per_task and what the running jobs
occupy: jobs in flight make a queue look empty, and would else be scaled away under their workers. Two CloudWatch
alarms watch that number: `busy` (at least 1) sets the capacity to it step by step, `idle` (below 1 for five minutes)
sets it to the minimum. Target tracking would not leave zero by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from asyncjobs.aws import has_code
from asyncjobs.provision.capacity import DIMENSION, NAMESPACE
from asyncjobs.provision.context import Context
from asyncjobs.provision.resource import Inputs, Outputs, State, require_ours, tag_dict, tag_list

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling.type_defs import ScalingPolicyTypeDef
    from mypy_boto3_cloudwatch.type_defs import MetricAlarmTypeDef

MOST_STEPS = 20  # https://docs.aws.amazon.com/general/latest/gr/as-app.html: step adjustments per policy
IDLE_MINUTES = 5
Which = Literal["busy", "idle"]
_BOTH: tuple[Which, ...] = ("busy", "idle")


class Scaling:
    step = "scaling"
    needs = ("service", "queue")
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._autoscaling = context.clients.autoscaling
        self._cloudwatch = context.clients.cloudwatch
        self._settings = context.config.scaling
        self._resource = f"service/{context.names.cluster}/{context.names.service}"
        self.title = f"autoscaling of {self._resource}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {
            "min": self._settings.min,
            "max": self._settings.max,
            "busy policy": self._steps("busy"),
            "idle policy": self._steps("idle"),
            **{f"{which} alarm": self._watched(which) for which in _BOTH},
            "tags": self._context.tags,
        }

    def read(self) -> State | None:
        targets = self._autoscaling.describe_scalable_targets(
            ServiceNamespace=NAMESPACE, ResourceIds=[self._resource], ScalableDimension=DIMENSION
        )["ScalableTargets"]
        alarms = self._cloudwatch.describe_alarms(AlarmNames=[self._alarm("busy"), self._alarm("idle")])["MetricAlarms"]
        if not (targets or alarms):
            return None
        tags = [self._alarm_tags(alarm) for alarm in alarms]
        # Policies go with their target.
        policies = self._policies() if targets else []
        parts = {alarm["AlarmName"]: alarm["AlarmArn"] for alarm in alarms}
        if targets:
            parts["target"] = targets[0]["ScalableTargetARN"]
        steps = {policy["PolicyName"]: _read_steps(policy) for policy in policies}
        arns = {policy["PolicyName"]: policy["PolicyARN"] for policy in policies}
        rules = {alarm["AlarmName"]: _read_alarm(alarm, arns) for alarm in alarms}
        return State(
            parts,
            {
                "min": targets[0]["MinCapacity"] if targets else None,
                "max": targets[0]["MaxCapacity"] if targets else None,
                **{f"{which} policy": steps.get(self._alarm(which)) for which in _BOTH},
                **{f"{which} alarm": rules.get(self._alarm(which)) for which in _BOTH},
                "tags": self._shared(tags),
            },
        )

    def create(self, inputs: Inputs) -> State:
        return self.update(State(), frozenset(self.desired(inputs)), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if changed & {"min", "max"}:
            self._retry(self._register)
        for which in _BOTH:
            # The alarm names the policy by its ARN, which only the answer to PutScalingPolicy tells.
            if changed & {f"{which} policy", f"{which} alarm"}:
                self._put_alarm(which, self._put_policy(which))
        if "tags" in changed:
            self._tag(state.outputs)
        return state

    def delete(self, state: State) -> None:
        self._cloudwatch.delete_alarms(AlarmNames=[self._alarm("busy"), self._alarm("idle")])

        for which in _BOTH:
            self._delete(
                lambda which=which: self._autoscaling.delete_scaling_policy(
                    PolicyName=self._alarm(which),
                    ServiceNamespace=NAMESPACE,
                    ResourceId=self._resource,
                    ScalableDimension=DIMENSION,
                )
            )
        self._delete(
            lambda: self._autoscaling.deregister_scalable_target(
                ServiceNamespace=NAMESPACE, ResourceId=self._resource, ScalableDimension=DIMENSION
            )
        )

    def _delete(self, call: Any) -> None:
        def unless_gone() -> None:
            try:
                call()
            except self._autoscaling.exceptions.ObjectNotFoundException:
                return

        self._retry(unless_gone)

    def _register(self) -> None:
        self._autoscaling.register_scalable_target(
            ServiceNamespace=NAMESPACE,
            ResourceId=self._resource,
            ScalableDimension=DIMENSION,
            MinCapacity=self._settings.min,
            MaxCapacity=self._settings.max,
            Tags=self._context.tags,
        )

    def _put_policy(self, which: Which) -> str:
        arn: str = self._retry(
            lambda: self._autoscaling.put_scaling_policy(
                PolicyName=self._alarm(which),
                ServiceNamespace=NAMESPACE,
                ResourceId=self._resource,
                ScalableDimension=DIMENSION,
                PolicyType="StepScaling",
                StepScalingPolicyConfiguration={
                    "AdjustmentType": "ExactCapacity",
                    "StepAdjustments": self._steps(which),
                    "Cooldown": 60,
                    "MetricAggregationType": "Maximum",
                },
            )["PolicyARN"]
        )
        return arn

    def _put_alarm(self, which: Which, policy_arn: str) -> None:
        self._cloudwatch.put_metric_alarm(
            AlarmName=self._alarm(which),
            AlarmDescription=f"asyncjobs stack {self._context.names.stack}: tasks needed for the queue's jobs",
            AlarmActions=[policy_arn],
            Metrics=self._metrics(),
            **self._rule(which),
            Tags=tag_list(self._context.tags),
        )

    def _watched(self, which: Which) -> dict[str, Any]:
        return {**self._rule(which), "Expression": self._expression(), "acts": True}

    def _rule(self, which: Which) -> Any:
        busy = which == "busy"
        return {
            "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold" if busy else "LessThanThreshold",
            "EvaluationPeriods": 1 if busy else IDLE_MINUTES,
            # SQS reports nothing of a queue that nobody used for six hours: that is idle.
            "TreatMissingData": "notBreaching" if busy else "breaching",
        }

    def _policies(self) -> list[ScalingPolicyTypeDef]:
        return self._autoscaling.describe_scaling_policies(
            ServiceNamespace=NAMESPACE, ResourceId=self._resource, ScalableDimension=DIMENSION
        )["ScalingPolicies"]

    def _alarm_tags(self, alarm: MetricAlarmTypeDef) -> dict[str, str]:
        tags = tag_dict(self._cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"])
        require_ours(tags, self._context.names.stack, f"CloudWatch alarm {alarm['AlarmName']}")
        return tags

    def _shared(self, found: list[dict[str, str]]) -> dict[str, str]:
        """Of our tags those that all parts have."""
        return {key: text for key, text in self._context.tags.items() if all(tags.get(key) == text for tags in found)}

    def _tag(self, parts: Outputs) -> None:
        """PutMetricAlarm and RegisterScalableTarget leave the tags of what is there already as they are.

        The target comes first: `read` looks at the alarms' tags, so these say that all have been set.
        """
        if "target" in parts:
            self._autoscaling.tag_resource(ResourceARN=parts["target"], Tags=self._context.tags)
        for which in _BOTH:
            if arn := parts.get(self._alarm(which)):
                self._cloudwatch.tag_resource(ResourceARN=arn, Tags=tag_list(self._context.tags))

    def _steps(self, which: Which) -> Any:
        """Bounds are relative to the alarms' threshold of 1 task."""
        if which == "idle":
            return [{"MetricIntervalUpperBound": 0.0, "ScalingAdjustment": self._settings.min}]
        counts = capacity_steps(self._settings.max)
        steps: list[dict[str, Any]] = []
        for index, count in enumerate(counts):
            lower = 0.0 if index == 0 else float(counts[index - 1])
            step: dict[str, Any] = {"MetricIntervalLowerBound": lower, "ScalingAdjustment": count}
            if index + 1 < len(counts):
                step["MetricIntervalUpperBound"] = float(count)
            steps.append(step)
        return steps

    def _expression(self) -> str:
        backlog, slots = self._settings.backlog_per_task, self._context.config.worker.concurrency
        return f"CEIL(MAX([(visible + inflight) / {backlog}, inflight / {slots}]))"

    def _metrics(self) -> Any:
        return [
            {"Id": "tasks", "Expression": self._expression(), "Label": "tasks needed", "ReturnData": True},
            self._metric("visible", "ApproximateNumberOfMessagesVisible"),
            self._metric("inflight", "ApproximateNumberOfMessagesNotVisible"),
        ]

    def _metric(self, name: str, metric: str) -> dict[str, Any]:
        dimensions = [{"Name": "QueueName", "Value": self._context.names.queue}]
        return {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": "AWS/SQS", "MetricName": metric, "Dimensions": dimensions},
                "Period": 60,
                "Stat": "Maximum",
            },
            "ReturnData": False,
        }

    def _alarm(self, which: str) -> str:
        return f"{self._context.names.base}-{which}"

    def _retry(self, call: Any) -> Any:
        return self._context.waiter.retry(
            call,
            step=self.step,
            on=_is_passing,
            reason="another change of the scaling is under way, or the new service is not known everywhere yet",
            timeout=60,
        )


def _is_passing(error: Exception) -> bool:
    new = has_code("ValidationException", message="service doesn't exist")
    return has_code("ConcurrentUpdateException")(error) or new(error)


def capacity_steps(most: int) -> list[int]:
    """Task counts to step through, 1 to `most`, at most twenty: all of them, or further and further apart."""
    if most <= MOST_STEPS:
        return list(range(1, most + 1))
    ratio = most ** (1 / (MOST_STEPS - 1))
    return sorted({*range(1, 6), *(round(ratio**power) for power in range(5, MOST_STEPS))} - {0})[-MOST_STEPS:]


def _read_steps(policy: Any) -> list[dict[str, Any]]:
    return [dict(step) for step in policy.get("StepScalingPolicyConfiguration", {}).get("StepAdjustments", [])]


def _read_alarm(alarm: Any, policy_arns: Mapping[str, str]) -> dict[str, Any]:
    """Its rule, and whether it does anything: an alarm has the name of its policy."""
    rule = {key: alarm.get(key) for key in ("ComparisonOperator", "EvaluationPeriods", "TreatMissingData")}
    expressions = [metric["Expression"] for metric in alarm.get("Metrics", []) if "Expression" in metric]
    acts = alarm.get("ActionsEnabled", True) and policy_arns.get(alarm["AlarmName"]) in alarm.get("AlarmActions", [])
    return {**rule, "Threshold": float(alarm["Threshold"]), "Expression": "".join(expressions), "acts": acts}
