"""Scalable targets and scaling policies, kept in one small file."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asyncjobs.local.paths import EnginePaths, read_json, write_json
from asyncjobs.local.scaling import DEFAULT_COOLDOWN, StepPolicy, Target

Record = dict[str, Any]
_BOUNDS = ("MetricIntervalLowerBound", "MetricIntervalUpperBound")


class ScalingStore:
    """What application-autoscaling remembers, by region and resource. Written at each change: changes are rare."""

    def __init__(self, paths: EnginePaths, account: str) -> None:
        self._file = paths.scaling
        self._account = account
        self._lock = threading.Lock()
        self._state = _well_formed(read_json(self._file))

    def put_target(self, region: str, fields: Record) -> Record:
        with self._lock:
            key = _key(region, fields)
            old = self._state["targets"].get(key)
            record = dict(old) if old else self._new_target(region, fields)
            record.update({name: value for name, value in fields.items() if name != "Tags"})
            self._state["targets"][key] = record
            if fields.get("Tags"):
                self._state["tags"][record["ScalableTargetARN"]] = dict(fields["Tags"])
            self._write()
            return record

    def target(self, region: str, fields: Record) -> Record | None:
        return self._state["targets"].get(_key(region, fields))

    def list_targets(self, region: str) -> list[Record]:
        with self._lock:
            found = self._state["targets"].items()
            return [dict(record) for key, record in found if key.startswith(f"{region}|")]

    def delete_target(self, region: str, fields: Record) -> bool:
        """Remove a target with its policies; False when there was none."""
        with self._lock:
            key = _key(region, fields)
            record = self._state["targets"].pop(key, None)
            if record is None:
                return False
            self._state["tags"].pop(record["ScalableTargetARN"], None)
            for name in [name for name in self._state["policies"] if name.startswith(f"{key}|")]:
                del self._state["policies"][name]
            self._write()
            return True

    def put_policy(self, region: str, fields: Record) -> Record:
        with self._lock:
            key = f"{_key(region, fields)}|{fields['PolicyName']}"
            record = dict(self._state["policies"].get(key) or self._new_policy(region, fields))
            record.update(fields)
            self._state["policies"][key] = record
            self._write()
            return record

    def list_policies(self, region: str) -> list[Record]:
        with self._lock:
            found = self._state["policies"].items()
            return [dict(record) for key, record in found if key.startswith(f"{region}|")]

    def delete_policy(self, region: str, fields: Record) -> bool:
        with self._lock:
            key = f"{_key(region, fields)}|{fields['PolicyName']}"
            found = self._state["policies"].pop(key, None) is not None
            self._write()
            return found

    def tags(self, arn: str) -> dict[str, str] | None:
        """Tags of a scalable target; None when no target has this ARN."""
        with self._lock:
            known = any(record["ScalableTargetARN"] == arn for record in self._state["targets"].values())
            return dict(self._state["tags"].get(arn, {})) if known else None

    def set_tags(self, arn: str, tags: dict[str, str]) -> None:
        with self._lock:
            self._state["tags"][arn] = tags
            self._write()

    # The view of autoscaler.Registry.

    def regions(self) -> list[str]:
        with self._lock:
            return sorted({key.split("|", 1)[0] for key in self._state["targets"]})

    def targets(self, region: str) -> list[tuple[Target, list[StepPolicy]]]:
        policies = self.list_policies(region)
        return [
            (_target(each), [_policy(one) for one in policies if _same(one, each)])
            for each in self.list_targets(region)
        ]

    def _new_target(self, region: str, fields: Record) -> Record:
        identifier = uuid.uuid4().hex[:12]
        arn = f"arn:aws:application-autoscaling:{region}:{self._account}:scalable-target/{identifier}"
        return {
            "ScalableTargetARN": arn,
            "CreationTime": time.time(),
            "RoleARN": f"arn:aws:iam::{self._account}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
            "AWSServiceRoleForApplicationAutoScaling_ECSService",
            "SuspendedState": {
                "DynamicScalingInSuspended": False,
                "DynamicScalingOutSuspended": False,
                "ScheduledScalingSuspended": False,
            },
        }

    def _new_policy(self, region: str, fields: Record) -> Record:
        resource = f"{fields['ServiceNamespace']}/{fields['ResourceId']}"
        arn = (
            f"arn:aws:autoscaling:{region}:{self._account}:scalingPolicy:{uuid.uuid4()}:"
            f"resource/{resource}:policyName/{fields['PolicyName']}"
        )
        return {"PolicyARN": arn, "CreationTime": time.time()}

    def _write(self) -> None:
        write_json(self._file, self._state)


def _well_formed(stored: Any) -> dict[str, dict[str, Record]]:
    """What can be worked with of scaling.json, which may have been damaged."""
    checks: dict[str, Callable[[str, Any], object]] = {"targets": _check_target, "policies": _check_policy}
    state: dict[str, dict[str, Record]] = {"targets": {}, "policies": {}, "tags": {}}
    for kind, kept in state.items():
        entries = stored.get(kind) if isinstance(stored, dict) else None
        for key, record in entries.items() if isinstance(entries, dict) else ():
            with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
                checks.get(kind, _check_tags)(key, record)
                kept[key] = record
    return state


def _check_target(key: str, record: Any) -> None:
    _expect(key == _key(key.partition("|")[0], record))
    _expect(isinstance(record["ScalableTargetARN"], str))
    _expect(len(_target(record).resource_id.split("/")) == 3)


def _check_policy(key: str, record: Any) -> None:
    _expect(key == f"{_key(key.partition('|')[0], record)}|{record['PolicyName']}")
    policy = _policy(record)
    _expect(isinstance(policy.arn, str))
    for step in policy.steps:
        numbers = (step["ScalingAdjustment"], *(step.get(bound, 0) for bound in _BOUNDS))
        _expect(all(isinstance(number, int | float) for number in numbers))


def _check_tags(_arn: str, tags: Any) -> None:
    _expect(all(isinstance(value, str) for value in tags.values()))


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError


def _key(region: str, fields: Record) -> str:
    return f"{region}|{fields['ServiceNamespace']}|{fields['ResourceId']}|{fields['ScalableDimension']}"


def _same(policy: Record, target: Record) -> bool:
    return all(policy[name] == target[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension"))


def _target(record: Record) -> Target:
    suspended = record.get("SuspendedState", {})
    return Target(
        resource_id=record["ResourceId"],
        minimum=int(record["MinCapacity"]),
        maximum=int(record["MaxCapacity"]),
        out_suspended=bool(suspended.get("DynamicScalingOutSuspended")),
        in_suspended=bool(suspended.get("DynamicScalingInSuspended")),
    )


def _policy(record: Record) -> StepPolicy:
    step = record["StepScalingPolicyConfiguration"]
    return StepPolicy(
        arn=record["PolicyARN"],
        adjustment_type=step["AdjustmentType"],
        steps=tuple(step["StepAdjustments"]),
        cooldown=float(step.get("Cooldown", DEFAULT_COOLDOWN)),
        min_magnitude=int(step.get("MinAdjustmentMagnitude", 0)),
    )
