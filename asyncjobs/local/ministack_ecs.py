"""Joins ministack's ECS to a TaskRunner: its tasks become real, and stop as ECS stops them.

Without Docker, ministack marks tasks RUNNING and runs nothing; with it, it runs containers and marks a task STOPPED
before the container ended. Both meet in a few of its functions, which are replaced here: the worker that starts one
task's containers, StopTask, and (in `ecs_calls`) the calls whose answer depends on tasks that are still ending.
Scheduling, rollouts, the circuit breaker and every description stay ministack's.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ministack.core.concurrency import resource_lock
from ministack.core.responses import error_response_json, json_response, request_scope
from ministack.services import ecs

from asyncjobs.local import ecs_calls, ecs_events, ecs_health
from asyncjobs.local.backoff import RestartBackoff
from asyncjobs.local.ecs_containers import container_specs
from asyncjobs.local.ecs_protection import Protection
from asyncjobs.local.runners import Runners, is_snapshot
from asyncjobs.local.tasks import ContainerExit, RunningContainer, StartError

Task = dict[str, Any]

ESSENTIAL_EXITED = "Essential container in task exited"
ENGINE_RESTARTED = "The local engine was restarted"
# Reasons ministack gives when its scheduler, not a person, stops a task.
_SCHEDULER = {
    "Service scaling down",
    "Task definition updated",
    "Deployment completed",
    "Deployment capacity limit",
}
_DELETED = "Service deleted"
_UNSTABLE_AFTER = 3
_STOPPED_KEPT_SECONDS = 3600
# A rollout is complete when its tasks have run this long. A handler that cannot be imported ends its worker within a
# second or two on a busy machine, and `up` must not have called that stable by then.
_STEADY_SECONDS = 3.0
_HEALTH_SECONDS = 5.0


@dataclass
class _Live:
    """The worker thread of one task and what it runs."""

    changed: threading.Event = field(default_factory=threading.Event)
    containers: list[RunningContainer] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    started: float = 0.0


class EcsTasks:
    """The task side of the emulated ECS.

    Args:
        runners: Start containers.
        touched: Called with the key of a service whose state changed without a request.
    """

    def __init__(self, runners: Runners, touched: Callable[[str], None]) -> None:
        self._runners = runners
        self._touched = touched
        self._backoff = RestartBackoff(time.monotonic)
        self._live: dict[str, _Live] = {}
        self._lock = threading.Lock()
        self._deferred: set[tuple[str, str, str]] = set()
        self._closing = threading.Event()
        self._health_due = 0.0
        self.protection = Protection()

    def install(self) -> None:
        """Replace ministack's functions. Before its state is loaded: loading starts tasks."""
        # Any true value makes it hand tasks to the worker below; nothing is ever called on it.
        ecs._docker = object()
        ecs._ECS_DEPLOYMENT_STEADY_DELAY = _STEADY_SECONDS
        ecs._deployment_needs_first_task = lambda *_args: False
        ecs._run_task_worker = self._work
        ecs._stop_task = self._stop_task
        ecs._ACTION_MAP.update(
            {
                **ecs_calls.replacements(self._backoff),
                "StopTask": self._stop_task,
                "UpdateTaskProtection": self.protection.update,
                "GetTaskProtection": self.protection.get,
            }
        )

    def running(self) -> dict[str, int]:
        """How many containers run, by how they do."""
        with self._lock:
            snapshots = [is_snapshot(image) for live in self._live.values() for image in live.images]
        return {"processes": snapshots.count(True), "containers": snapshots.count(False)}

    def settle_restored(self) -> None:
        """Say of the tasks that ended with the last engine that they did."""
        for _key, task in ecs._tasks.all_items():
            if task.get("lastStatus") == "STOPPED" and task.get("desiredStatus") != "STOPPED":
                task.update(desiredStatus="STOPPED", stoppedReason=ENGINE_RESTARTED, stopCode="TerminationNotice")
                task["stoppedAt"] = task.get("stoppedAt") or ecs._iso()
        for (account, region, key), service in ecs._services.all_items():
            if service.get("status") == "DRAINING":
                service["status"] = "INACTIVE"
            with request_scope(account, region):
                ecs._refresh_service_state(key.split("/", 1)[0], f"service:{service['serviceName']}")

    def tick(self) -> None:
        """Retry what protection put off, and drop tasks that stopped an hour ago, as ECS does."""
        with self._lock:
            deferred, self._deferred = self._deferred, set()
        for account, region, key in deferred:
            with request_scope(account, region):
                ecs._reconcile_service_tasks(key.split("/", 1)[0], key)
        self._look_after_health()
        oldest = time.time() - _STOPPED_KEPT_SECONDS
        for scoped, task in ecs._tasks.all_items():
            stopped = task.get("lastStatus") == "STOPPED" and ecs._ts_to_epoch(task.get("stoppedAt"))
            if stopped and stopped < oldest:
                ecs._tasks._data.pop(scoped, None)

    def close(self, grace: float) -> None:
        """End every task, giving each its stop timeout but no more than `grace` seconds."""
        self._closing.set()
        with self._lock:
            live = list(self._live.values())
        for each in live:
            each.changed.set()
            for container in each.containers:
                container.stop(grace)
        deadline = time.monotonic() + grace + 5.0
        while self._live and time.monotonic() < deadline:
            time.sleep(0.02)
        self._runners.close()

    # The life of one task, on a thread of its own.

    def _work(
        self, task: Task, definition: dict[str, Any], overrides: Any, _docker: Any, account: str, region: str
    ) -> None:
        live = _Live()
        with self._lock:
            self._live[task["taskArn"]] = live
        try:
            with request_scope(account, region):
                self._run(task, definition, overrides or [], live)
        finally:
            with self._lock:
                self._live.pop(task["taskArn"], None)
            self._touched("ecs")

    def _run(self, task: Task, definition: dict[str, Any], overrides: list[Any], live: _Live) -> None:
        arn, service = task["taskArn"], _service_key(task)
        ecs._mark_task_pending(arn, task)
        try:
            if self._wait_for_turn(task, service, live) and ecs._mark_task_activating(arn, task):
                self._start(task, definition, overrides, live)
        except StartError as error:
            self._halt(live)
            self._ended(task, service, live, str(error), "TaskFailedToStart", {})
            return
        except Exception as error:
            ecs.logger.exception("ECS: task %s could not be started", arn)
            self._halt(live)
            reason = f"CannotStartContainerError: {error}"
            self._ended(task, service, live, reason, "TaskFailedToStart", {})
            return
        if live.containers and ecs._mark_task_running(arn, task):
            self._announce(task, service)
        else:
            self._halt(live)
        codes = self._wait(task, live)
        self._ended(task, service, live, ESSENTIAL_EXITED, "EssentialContainerExited", codes)

    def _wait_for_turn(self, task: Task, service: str, live: _Live) -> bool:
        """Sit out the service's restart back-off; False when the task is not wanted any more."""
        while (delay := self._backoff.delay(service)) > 0 and self._wanted(task):
            live.changed.wait(delay)
            live.changed.clear()
        return self._wanted(task)

    def _wanted(self, task: Task) -> bool:
        return not self._closing.is_set() and bool(ecs._task_is_active(task["taskArn"], task))

    def _start(self, task: Task, definition: dict[str, Any], overrides: list[Any], live: _Live) -> None:
        live.started = time.monotonic()
        specs = container_specs(task, definition, overrides, self._runners.endpoint_for, lambda: self._touched("logs"))
        for index, spec in enumerate(specs):
            container = self._runners.start(spec)
            live.containers.append(container)
            live.images.append(spec.image)
            task["containers"][index]["runtimeId"] = container.runtime_id
            task["containers"][index]["lastStatus"] = "RUNNING"

    def _announce(self, task: Task, service: str) -> None:
        if "/" not in service:
            return
        ecs_events.started(ecs._services.get(service), task)
        cluster = service.split("/", 1)[0]
        ecs._schedule_service_deployment_completion(
            cluster, service, ecs.get_account_id(), ecs.get_region(), healthy_task=task
        )
        self._touched("ecs")

    def _wait(self, task: Task, live: _Live) -> dict[int, int]:
        """Block until an essential container or all of them ended, and then until all have; their exit codes."""
        ended: queue.Queue[tuple[int, ContainerExit]] = queue.Queue()

        def watch(index: int, container: RunningContainer) -> None:
            ended.put((index, container.wait()))

        for index, container in enumerate(live.containers):
            threading.Thread(target=watch, args=(index, container), daemon=True).start()
        if self._closing.is_set() or not ecs._task_is_active(task["taskArn"], task):
            # StopTask may have come before the containers were in its sight.
            self._halt(live)
        codes: dict[int, int] = {}
        essential = task.get("_container_essentials") or []
        while len(codes) < len(live.containers):
            index, exit_ = ended.get()
            codes[index] = exit_.code
            reason = {"reason": exit_.reason} if exit_.reason else {}
            task["containers"][index].update(lastStatus="STOPPED", exitCode=exit_.code, **reason)
            if index >= len(essential) or essential[index]:
                self._halt(live, but=set(codes))
        return codes

    def _halt(self, live: _Live, but: set[int] | None = None) -> None:
        for index, container in enumerate(live.containers):
            if index not in (but or ()):
                container.stop()

    def _ended(self, task: Task, service: str, live: _Live, reason: str, stop_code: str, codes: dict[int, int]) -> None:
        if self._closing.is_set():
            return
        self.protection.forget(task["taskArn"])
        if task.get("desiredStatus") == "STOPPED":
            self._finish_stop(task)
        else:
            lifetime = time.monotonic() - live.started if live.started else 0.0
            failures = self._backoff.died(service, lifetime) if "/" in service else 0
            if failures and failures % _UNSTABLE_AFTER == 0:
                ecs_events.unstable(ecs._services.get(service))
            # Also feeds the circuit breaker and has the service start another.
            exit_code = max(codes.values(), default=None)
            if not ecs._mark_task_stopped(task["taskArn"], task, reason, stop_code, exit_code):
                self._finish_stop(task)  # StopTask came in between
        ecs._cleanup_task_resources(task, None)
        ecs_calls.settle_service(service)

    # Stopping.

    def _stop_task(self, data: dict[str, Any]) -> Any:
        cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
        if cluster is None:
            return error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
        task = ecs._resolve_task(data.get("task", ""), cluster)
        if not task:
            return error_response_json("InvalidParameterException", "The referenced task was not found.", 400)
        reason = data.get("reason", "Task stopped by user")
        if reason in _SCHEDULER and self.protection.holds(task["taskArn"]):
            task = self._unprotected_instead(task, reason)
        if task is not None:
            self._request_stop(task, reason)
        return json_response({"task": ecs._sanitize(task or {})})

    def _look_after_health(self) -> None:
        """Stop the tasks that fail their health check: their service starts others."""
        if time.monotonic() < self._health_due:
            return
        self._health_due = time.monotonic() + _HEALTH_SECONDS
        with self._lock:
            running = {arn: list(live.containers) for arn, live in self._live.items()}
        for account, region, task in ecs_health.failing(running):
            with request_scope(account, region):
                self._request_stop(task, ecs_health.UNHEALTHY)

    def _unprotected_instead(self, task: Task, reason: str) -> Task | None:
        """A protected task stays. Scaling in takes another one instead; the rest is retried at each tick."""
        with self._lock:
            self._deferred.add((ecs.get_account_id(), ecs.get_region(), _service_key(task)))
        if reason != "Service scaling down":
            return None
        others = [
            other
            for other in ecs._tasks.values()
            if other.get("group") == task.get("group")
            and other.get("clusterArn") == task.get("clusterArn")
            and ecs._task_is_active(other["taskArn"], other)
            and not self.protection.holds(other["taskArn"])
        ]
        return max(others, key=lambda other: str(other.get("createdAt")), default=None)

    def _request_stop(self, task: Task, reason: str) -> None:
        arn = task["taskArn"]
        scaling = reason in _SCHEDULER or reason == _DELETED
        with resource_lock("ecs-task", arn):
            if not ecs._task_is_active(arn, task):
                return
            ecs._bump_task_version(task)
            task.update(
                desiredStatus="STOPPED",
                lastStatus="STOPPING",
                stoppingAt=ecs._iso(),
                stoppedReason=_scheduler_reason(task) if scaling else reason,
                stopCode="ServiceSchedulerInitiated" if scaling or reason == ecs_health.UNHEALTHY else "UserInitiated",
            )
        with self._lock:
            live = self._live.get(arn)
        if live is None:
            self._finish_stop(task)
        else:
            live.changed.set()
            for container in list(live.containers):
                container.stop()
            self._refresh(task)
        if not scaling:
            self._replace(_service_key(task))

    def _replace(self, service: str) -> None:
        """Have a service start another task: of itself it does so for one that it stopped, or that failed."""
        if (ecs._services.get(service) or {}).get("status") == "ACTIVE":
            ecs._reconcile_service_tasks(service.split("/", 1)[0], service)

    def _finish_stop(self, task: Task) -> None:
        with resource_lock("ecs-task", task["taskArn"]):
            ecs._bump_task_version(task)
            now = ecs._iso()
            task.update(lastStatus="STOPPED", stoppedAt=now, executionStoppedAt=now)
            for container in task.get("containers", []):
                container["lastStatus"] = "STOPPED"
        ecs_events.stopped(ecs._services.get(_service_key(task)), task)
        self._refresh(task)

    def _refresh(self, task: Task) -> None:
        cluster = ecs._cluster_name_from_arn(task.get("clusterArn", ""))
        if cluster:
            ecs._recount_cluster(cluster)
            ecs._refresh_service_state(cluster, task.get("group", ""))


def _service_key(task: Task) -> str:
    """`cluster/service` for a service's task, the task's own ARN for one that was run by hand."""
    cluster = ecs._cluster_name_from_arn(task.get("clusterArn", ""))
    group = str(task.get("group", ""))
    return f"{cluster}/{group.removeprefix('service:')}" if group.startswith("service:") else _task_id(task)


def _task_id(task: Task) -> str:
    return str(task["taskArn"]).rsplit("/", 1)[-1]


def _scheduler_reason(task: Task) -> str:
    return f"Scaling activity initiated by (deployment {task.get('_deployment_id') or 'unknown'})"
