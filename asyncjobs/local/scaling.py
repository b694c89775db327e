"""Autoscaling decisions: which desired count the alarms and policies ask for now.

Pure: the clock, the metrics and the service are handed in, so every rule is testable. On AWS, alarms look at one
datapoint a minute. Here the queue is looked at every second: an alarm of one period fires at once, one of several
periods after as many real seconds as on AWS.

https://docs.aws.amazon.com/autoscaling/application/userguide/step-scaling-policy-overview.html
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
# https://docs.aws.amazon.com/autoscaling/application/APIReference/API_StepScalingPolicyConfiguration.html (ECS)
DEFAULT_COOLDOWN = 300.0


@dataclass(frozen=True)
class Alarm:
    """A CloudWatch alarm, as far as scaling needs it.

    Args:
        seconds: How long it must breach before it fires; 0 for an alarm of one period.
    """

    name: str
    threshold: float
    comparison: str
    seconds: float
    actions: tuple[str, ...]

    def breaches(self, value: float) -> bool:
        compare = _COMPARISONS.get(self.comparison)
        return compare is not None and compare(value, self.threshold)


@dataclass(frozen=True)
class Target:
    """A registered scalable target: an ECS service's desired count."""

    resource_id: str
    minimum: int
    maximum: int
    out_suspended: bool = False
    in_suspended: bool = False


@dataclass(frozen=True)
class StepPolicy:
    """A step-scaling policy."""

    arn: str
    adjustment_type: str
    steps: tuple[Mapping[str, Any], ...]
    cooldown: float = DEFAULT_COOLDOWN
    min_magnitude: int = 0

    def capacity(self, current: int, difference: float) -> int | None:
        """The capacity it asks for when the metric is `difference` above (below: negative) the threshold."""
        step = next((each for each in self.steps if _within(each, difference)), None)
        if step is None:
            return None
        change = int(step["ScalingAdjustment"])
        if self.adjustment_type == "ExactCapacity":
            return change
        if self.adjustment_type == "PercentChangeInCapacity":
            change = _percent(current, change, self.min_magnitude)
        return current + change


def _within(step: Mapping[str, Any], difference: float) -> bool:
    lower = step.get("MetricIntervalLowerBound")
    upper = step.get("MetricIntervalUpperBound")
    low = -math.inf if lower is None else float(lower)
    high = math.inf if upper is None else float(upper)
    # Above the threshold the lower bound belongs to the step, below it the upper one does.
    return low <= difference < high if difference >= 0 else low < difference <= high


def _percent(current: int, percent: int, min_magnitude: int) -> int:
    raw = current * percent / 100
    # AWS rounds values above 1 down and values between 0 and 1 up, for decreases likewise.
    size = math.floor(abs(raw)) if abs(raw) > 1 else math.ceil(abs(raw))
    size = max(size, min_magnitude)
    return size if percent >= 0 else -size


@dataclass(frozen=True)
class Decision:
    """A change to make.

    Args:
        capacity: The new desired count.
        reason: A sentence for a person.
    """

    capacity: int
    reason: str


@dataclass
class _Memory:
    breaching_since: dict[str, float] = field(default_factory=dict)
    changed_at: dict[str, float] = field(default_factory=dict)
    cooldown: dict[str, float] = field(default_factory=dict)


class Decider:
    """Remembers since when alarms breach and when each service was last scaled.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._memory = _Memory()

    def observe(self, key: str, alarm: Alarm, value: float | None) -> bool:
        """Note an alarm's metric; whether the alarm is in ALARM now. No value: as on AWS, the alarm waits."""
        if value is None or not alarm.breaches(value):
            self._memory.breaching_since.pop(key, None)
            return False
        since = self._memory.breaching_since.setdefault(key, self._clock())
        return self._clock() - since >= alarm.seconds

    def decide(
        self,
        key: str,
        target: Target,
        current: int,
        fired: Sequence[tuple[StepPolicy, Alarm, float]],
    ) -> Decision | None:
        """The change for one service, if any.

        Args:
            key: Names the service among all regions.
            fired: Policies whose alarm is in ALARM, with the metric's value.
        """
        wanted = [self._asked(key, target, current, *each) for each in fired]
        best = max((each for each in wanted if each is not None), default=None, key=lambda each: each[0])
        capacity, policy, reason = best or (current, None, "")
        bounded = min(max(capacity, target.minimum), target.maximum)
        if bounded == current:
            return None
        if (bounded > current and target.out_suspended) or (bounded < current and target.in_suspended):
            return None
        self._memory.changed_at[key] = self._clock()
        self._memory.cooldown[key] = policy.cooldown if policy else 0.0
        limits = f"the limits are {target.minimum} to {target.maximum}"
        return Decision(bounded, reason or limits)

    def _asked(
        self, key: str, target: Target, current: int, policy: StepPolicy, alarm: Alarm, value: float
    ) -> tuple[int, StepPolicy, str] | None:
        asked = policy.capacity(current, value - alarm.threshold)
        if asked is None:
            return None
        asked = min(max(asked, target.minimum), target.maximum)
        # An exact capacity may rise at any time. Relative changes would add up each second, and fewer tasks
        # right after a change would make the count swing: both wait for the cooldown.
        patient = asked < current or policy.adjustment_type != "ExactCapacity"
        if asked == current or (patient and self._cooling(key)):
            return None
        return asked, policy, f"alarm {alarm.name}: metric is {value:g}"

    def _cooling(self, key: str) -> bool:
        changed = self._memory.changed_at.get(key)
        return changed is not None and self._clock() - changed < self._memory.cooldown.get(key, 0.0)
