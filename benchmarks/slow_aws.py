"""What takes time on AWS, added to an emulator that answers at once: latencies, changes of state, rates of an account.

All times are seconds of the simulated AWS; a `Clock` lets them pass faster. Waiting happens outside the emulator, so
calls from several threads wait at the same time as they would for AWS.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import boto3

# Of one call there and back. Which, within these, is made of the call's name: the same in every run.
LATENCY = (0.05, 0.15)

ROLE_SECONDS = 10.0  # until a new role can be assumed
TABLE_SECONDS = 8.0  # until a new table is ACTIVE
BACKUPS_SECONDS = 2.0  # from then until point-in-time recovery can be turned on
STABLE_SECONDS = 45.0  # until a new service's first task runs
DRAIN_SECONDS = 30.0  # until a deleted service is INACTIVE
INTERFACE_SECONDS = 25.0  # from then until the tasks' network interfaces are gone
TABLE_GONE_SECONDS = 6.0  # until a deleted table is gone

# Seconds between two calls, for the whole account:
# https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
RATES = {
    "CreateRestApi": 3.0,
    "PutRestApi": 1.0,
    "DeleteRestApi": 30.0,
    "CreateDeployment": 5.0,
    "UpdateUsagePlan": 20.0,
}
READS = ("Describe", "Get", "List", "Head")

Outcome = Literal["done", "refused", "not yet"]


class Clock:
    """Simulated seconds, `speed` of them in a real one."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began = time.monotonic()

    def now(self) -> float:
        return (time.monotonic() - self._began) * self.speed

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds) / self.speed)


@dataclass(frozen=True)
class Gate:
    """Something that is so only some time after a call.

    Args:
        opener: The call.
        seconds: From its answer until it is so.
    """

    opener: str
    seconds: float


GATES = {
    "roles known": Gate("CreateRole", ROLE_SECONDS),
    "table active": Gate("CreateTable", TABLE_SECONDS),
    "backups ready": Gate("CreateTable", TABLE_SECONDS + BACKUPS_SECONDS),
    "table gone": Gate("DeleteTable", TABLE_GONE_SECONDS),
    "service stable": Gate("CreateService", STABLE_SECONDS),
    "service gone": Gate("DeleteService", DRAIN_SECONDS),
    "interfaces gone": Gate("DeleteService", DRAIN_SECONDS + INTERFACE_SECONDS),
    **{f"{call} again": Gate(call, seconds) for call, seconds in RATES.items()},
}

# A call that is refused before the gate opens, with AWS's code and message.
REFUSALS = {
    "CreateService": ("roles known", "InvalidParameterException", "ECS was unable to assume the role"),
    "PutRestApi": ("roles known", "BadRequestException", "Role cannot be assumed"),
    "UpdateTimeToLive": ("table active", "ResourceInUseException", "Table is being created"),
    "UpdateContinuousBackups": (
        "backups ready",
        "ContinuousBackupsUnavailableException",
        "Backups are being enabled for the table",
    ),
    "DeleteCluster": ("service gone", "ClusterContainsServicesException", "The Cluster cannot be deleted"),
    "DeleteSecurityGroup": ("interfaces gone", "DependencyViolation", "resource has a dependent object"),
}


def _starting(answer: Any) -> Any:
    service = answer["service"]
    rollout = [{**one, "rolloutState": "IN_PROGRESS", "runningCount": 0} for one in service["deployments"]]
    return {"services": [{**service, "deployments": rollout, "runningCount": 0}]}


# Until the gate opens a read answers what the opener's own answer says, in the state that AWS would show.
SHOWN: Mapping[str, tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    "DescribeTable": (
        ("table active", lambda answer: {"Table": {**answer["TableDescription"], "TableStatus": "CREATING"}}),
        ("table gone", lambda answer: {"Table": {**answer["TableDescription"], "TableStatus": "DELETING"}}),
    ),
    "DescribeServices": (
        ("service stable", _starting),
        ("service gone", lambda answer: {"services": [{**answer["service"], "status": "DRAINING"}]}),
    ),
}


@dataclass(frozen=True)
class Call:
    """One call as it was made.

    Args:
        step: For which step of the plan.
        sent: What was sent, as text; the same for the same call.
        waits: Gates that had to be open.
    """

    step: str
    operation: str
    sent: str
    latency: float
    waits: tuple[str, ...]
    outcome: Outcome

    @property
    def is_read(self) -> bool:
        return self.operation.startswith(READS)


class SlowAws:
    """Makes the calls of a session's clients as slow as AWS.

    A refused call fails at once, without the retries that botocore makes by itself: these would sleep in real time.
    """

    def __init__(self, session: boto3.session.Session, clock: Clock) -> None:
        self.calls: list[Call] = []
        self._clock = clock
        self._opens: dict[str, float] = {}
        self._answers: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        session.events.register_first("before-call.*.*", self._before)
        session.events.register_last("after-call.*.*", self._after)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Within it, calls of this thread are for that step; those outside of any are for making the plan."""
        before, self._local.step = self._step(), name
        try:
            yield
        finally:
            self._local.step = before

    def _step(self) -> str:
        return getattr(self._local, "step", "plan")

    def _before(self, model: Any, params: Any, context: Any, **_: Any) -> Any:
        operation = model.name
        closed = self._closed(operation)
        context["slow"] = {
            "began": self._clock.now(),
            "sent": f"{params['method']} {params['url']} {params['query_string']} {params['body']!r}",
            "outcome": "done",
        }
        if operation in RATES and f"{operation} again" in closed:
            return self._refuse(context, "TooManyRequestsException", "Too Many Requests")
        if operation in REFUSALS and REFUSALS[operation][0] in closed:
            return self._refuse(context, *REFUSALS[operation][1:])
        for gate, shown in SHOWN.get(operation, ()):
            if gate in closed:
                context["slow"]["outcome"] = "not yet"
                return SimpleNamespace(status_code=200), shown(self._answers[GATES[gate].opener])
        return None

    def _refuse(self, context: Any, code: str, message: str) -> Any:
        context["slow"]["outcome"] = "refused"
        return SimpleNamespace(status_code=400), {"Error": {"Code": code, "Message": message}}

    def _after(self, http_response: Any, parsed: Any, model: Any, context: Any, **_: Any) -> None:
        slow, delay = context["slow"], latency(model.name)
        # What the emulator took is part of it.
        self._clock.sleep(slow["began"] + delay - self._clock.now())
        call = Call(self._step(), model.name, slow["sent"], delay, _gates_of(model.name), slow["outcome"])
        with self._lock:
            self.calls.append(call)
            if http_response.status_code >= 300:
                return
            self._answers[model.name] = parsed
            for name, gate in GATES.items():
                if gate.opener == model.name:
                    self._opens[name] = self._clock.now() + gate.seconds

    def _closed(self, operation: str) -> set[str]:
        with self._lock:
            return {gate for gate in _gates_of(operation) if self._opens.get(gate, 0.0) > self._clock.now()}


def latency(operation: str) -> float:
    least, most = LATENCY
    return least + (most - least) * (zlib.crc32(operation.encode()) % 101) / 100


def _gates_of(operation: str) -> tuple[str, ...]:
    refusal = REFUSALS[operation][:1] if operation in REFUSALS else ()
    rate = (f"{operation} again",) if operation in RATES else ()
    return (*refusal, *rate, *(gate for gate, _ in SHOWN.get(operation, ())))
