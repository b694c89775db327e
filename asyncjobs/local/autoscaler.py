"""The thread that scales services: reads alarms and live metrics, asks `scaling` for a decision, updates ECS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from asyncjobs.local.metric_math import MetricMathError, evaluate
from asyncjobs.local.scaling import Alarm, Decider, StepPolicy, Target

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
SHORTEST_SECONDS = 0.2
_SQS_METRICS = {
    "ApproximateNumberOfMessagesVisible": "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible": "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed": "ApproximateNumberOfMessagesDelayed",
}


class Cloud(Protocol):
    """What autoscaling needs of one region."""

    def alarms(self) -> Sequence[Mapping[str, Any]]:
        """`MetricAlarms` of DescribeAlarms."""

    def queue(self, name: str) -> Mapping[str, str] | None:
        """All attributes of a queue; None when there is none."""

    def desired_count(self, cluster: str, service: str) -> int | None:
        """The service's desired count; None when there is no such active service."""

    def set_desired_count(self, cluster: str, service: str, count: int) -> None: ...

    def set_alarm_state(self, name: str, state: str, reason: str) -> None: ...


class Registry(Protocol):
    """The registered targets and policies, by region."""

    def regions(self) -> list[str]: ...
    def targets(self, region: str) -> list[tuple[Target, list[StepPolicy]]]: ...


class Autoscaler:
    """Looks at every scalable target each second, and at once when woken.

    Args:
        registry: The targets and policies.
        cloud: The APIs of a region.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry,
        cloud: Callable[[str], Cloud],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._cloud = cloud
        self._decider = Decider(clock)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="autoscaler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """A message was sent: look now rather than within a second."""
        self._wake.set()

    def close(self) -> None:
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            for region in self._registry.regions():
                try:
                    self.scale(region)
                except Exception:
                    # A stack being deleted takes its alarms, queue and service away one by one.
                    logger.debug("autoscaling in %s", region, exc_info=True)
            # A burst of messages must not become a burst of looks.
            self._closing.wait(SHORTEST_SECONDS)
            self._wake.wait(INTERVAL_SECONDS - SHORTEST_SECONDS)
            self._wake.clear()

    def scale(self, region: str) -> None:
        """Look once at every target of a region."""
        cloud = self._cloud(region)
        alarms = cloud.alarms()
        for target, policies in self._registry.targets(region):
            _namespace, cluster, service = target.resource_id.split("/", 2)
            current = cloud.desired_count(cluster, service)
            if current is None:
                continue
            fired = [each for policy in policies for each in self._fired(region, cloud, alarms, policy)]
            decision = self._decider.decide(f"{region}/{target.resource_id}", target, current, fired)
            if decision is not None and not self._closing.is_set():
                logger.info("%s: %s -> %s (%s)", target.resource_id, current, decision.capacity, decision.reason)
                cloud.set_desired_count(cluster, service, decision.capacity)

    def _fired(
        self, region: str, cloud: Cloud, alarms: Sequence[Mapping[str, Any]], policy: StepPolicy
    ) -> list[tuple[StepPolicy, Alarm, float]]:
        fired = []
        for raw in alarms:
            if policy.arn not in raw.get("AlarmActions", []) or not raw.get("ActionsEnabled", True):
                continue
            alarm, value = parse_alarm(raw), metric_value(raw, cloud)
            firing = self._decider.observe(f"{region}/{alarm.name}", alarm, value)
            state = "ALARM" if firing else "OK"
            if value is not None and raw.get("StateValue") != state:
                cloud.set_alarm_state(alarm.name, state, f"The metric is {value:g}.")
            if firing and value is not None:
                fired.append((policy, alarm, value))
        return fired


def parse_alarm(raw: Mapping[str, Any]) -> Alarm:
    """An alarm of DescribeAlarms."""
    periods = int(raw.get("EvaluationPeriods", 1))
    periods = int(raw.get("DatapointsToAlarm") or periods)
    period = float(raw.get("Period") or _metric_period(raw) or 60)
    return Alarm(
        name=str(raw["AlarmName"]),
        threshold=float(raw.get("Threshold", 0.0)),
        comparison=str(raw.get("ComparisonOperator", "")),
        seconds=0.0 if periods == 1 else periods * period,
        actions=tuple(raw.get("AlarmActions", ())),
    )


def _metric_period(raw: Mapping[str, Any]) -> float | None:
    for query in raw.get("Metrics", ()):
        period = query.get("Period") or query.get("MetricStat", {}).get("Period")
        if period:
            return float(period)
    return None


def metric_value(raw: Mapping[str, Any], cloud: Cloud) -> float | None:
    """The alarm's metric now; None when it has no value or is not one that can be read live."""
    if not raw.get("Metrics"):
        return _queue_metric(raw, cloud)
    values: dict[str, float] = {}
    expressions: list[Mapping[str, Any]] = []
    for query in raw["Metrics"]:
        if "Expression" in query:
            expressions.append(query)
            continue
        value = _queue_metric(query["MetricStat"]["Metric"], cloud)
        if value is None:
            return None
        values[query["Id"]] = value
    returned = next((query["Id"] for query in raw["Metrics"] if query.get("ReturnData", True)), "")
    try:
        for query in expressions:
            values[query["Id"]] = evaluate(query["Expression"], values)
    except MetricMathError as error:
        logger.warning("alarm %s: %s", raw["AlarmName"], error)
        return None
    return values.get(returned)


def _queue_metric(metric: Mapping[str, Any], cloud: Cloud) -> float | None:
    attribute = _SQS_METRICS.get(str(metric.get("MetricName")))
    if metric.get("Namespace") != "AWS/SQS" or attribute is None:
        return None
    name = next((each["Value"] for each in metric.get("Dimensions", ()) if each["Name"] == "QueueName"), "")
    attributes = cloud.queue(name)
    return None if attributes is None else float(attributes.get(attribute, 0))
