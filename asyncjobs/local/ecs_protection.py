"""Task scale-in protection: UpdateTaskProtection, GetTaskProtection and the agent's endpoint inside a task.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import ecs

_DEFAULT_MINUTES = 120
_LONGEST_MINUTES = 2880


class Protection:
    """Which tasks a service may not stop by itself, and until when."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}

    def holds(self, arn: str) -> bool:
        with self._lock:
            return self._until.get(arn, 0.0) > time.time()

    def forget(self, arn: str) -> None:
        with self._lock:
            self._until.pop(arn, None)

    def update(self, data: dict[str, Any]) -> Any:
        """UpdateTaskProtection."""
        minutes = data.get("expiresInMinutes") or _DEFAULT_MINUTES
        if not 1 <= int(minutes) <= _LONGEST_MINUTES:
            return error_response_json(
                "InvalidParameterException", f"expiresInMinutes must be between 1 and {_LONGEST_MINUTES}.", 400
            )
        return self._answer(data, lambda arn: self._set(arn, bool(data.get("protectionEnabled")), int(minutes)))

    def get(self, data: dict[str, Any]) -> Any:
        """GetTaskProtection."""
        return self._answer(data, lambda arn: None)

    def agent(self, method: str, task_id: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """`PUT` or `GET $ECS_AGENT_URI/task-protection/v1/state`: status and JSON."""
        arn = next((key[2] for key, _ in ecs._tasks.all_items() if key[2].endswith(f"/{task_id}")), None)
        if arn is None:
            return 404, {"error": {"Code": "ResourceNotFoundException", "Message": "The task was not found."}}
        if method == "PUT":
            try:
                wanted = json.loads(body)
                enabled = bool(wanted["ProtectionEnabled"])
                minutes = int(wanted.get("ExpiresInMinutes") or _DEFAULT_MINUTES)
            except (ValueError, TypeError, KeyError, AttributeError):
                message = "Invalid request: does not contain 'ProtectionEnabled' field"
                return 400, {"error": {"Arn": arn, "Code": "InvalidParameterException", "Message": message}}
            self._set(arn, enabled, min(max(minutes, 1), _LONGEST_MINUTES))
        state = self._describe(arn)
        answer = {"ProtectionEnabled": state["protectionEnabled"], "TaskArn": arn}
        if "expirationDate" in state:
            answer["ExpirationDate"] = datetime.fromtimestamp(state["expirationDate"], UTC).isoformat()
        return 200, {"protection": answer}

    def _set(self, arn: str, enabled: bool, minutes: int) -> None:
        with self._lock:
            if enabled:
                self._until[arn] = time.time() + 60 * minutes
            else:
                self._until.pop(arn, None)

    def _describe(self, arn: str) -> dict[str, Any]:
        held = self.holds(arn)
        return {
            "taskArn": arn,
            "protectionEnabled": held,
            **({"expirationDate": self._until[arn]} if held else {}),
        }

    def _answer(self, data: dict[str, Any], act: Any) -> Any:
        cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
        protected, failures = [], []
        for reference in data.get("tasks") or self._of_cluster(cluster):
            task = ecs._resolve_task(reference, cluster)
            if task is None:
                failures.append({"arn": reference, "reason": "TASK_NOT_VALID"})
                continue
            act(task["taskArn"])
            protected.append(self._describe(task["taskArn"]))
        return json_response({"protectedTasks": protected, "failures": failures})

    def _of_cluster(self, cluster: str | None) -> list[str]:
        with self._lock:
            return [arn for arn in self._until if f":task/{cluster}/" in arn]
