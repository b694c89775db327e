"""The CloudWatch log group of the workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncjobs.aws import has_code
from asyncjobs.provision.context import Context
from asyncjobs.provision.resource import Inputs, State, require_ours


class LogGroup:
    step = "logs"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._logs = context.clients.logs
        self._name = context.names.log_group
        self.title = f"log group {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {"retention in days": self._context.config.retention.log_days, "tags": self._context.tags}

    def read(self) -> State | None:
        groups = self._logs.describe_log_groups(logGroupNamePrefix=self._name)["logGroups"]
        found = next((group for group in groups if group["logGroupName"] == self._name), None)
        if found is None:
            return None
        # The ARN in `arn` ends in ":*", which the tagging calls refuse.
        tags = self._logs.list_tags_for_resource(resourceArn=self._context.names.log_group_arn)["tags"]
        require_ours(tags, self._context.names.stack, self.title)
        properties = {"retention in days": found.get("retentionInDays"), "tags": self._context.ours(tags)}
        return State({"name": self._name}, properties)

    def create(self, inputs: Inputs) -> State:
        def call() -> None:
            try:
                self._logs.create_log_group(logGroupName=self._name, tags=self._context.tags)
            except self._logs.exceptions.ResourceAlreadyExistsException:
                self.read()  # refuses a namesake

        self._retry(call)
        return self.update(State({"name": self._name}), frozenset({"retention in days"}), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if "retention in days" in changed:
            days = self._context.config.retention.log_days
            self._retry(lambda: self._logs.put_retention_policy(logGroupName=self._name, retentionInDays=days))
        if "tags" in changed:
            self._logs.tag_resource(resourceArn=self._context.names.log_group_arn, tags=self._context.tags)
        return state

    def delete(self, state: State) -> None:
        def call() -> None:
            try:
                self._logs.delete_log_group(logGroupName=self._name)
            except self._logs.exceptions.ResourceNotFoundException:
                return

        self._retry(call)

    def _retry(self, call: Any) -> None:
        self._context.waiter.retry(
            call,
            step=self.step,
            on=has_code("OperationAbortedException"),
            reason="another change of the log group is under way",
            timeout=60,
        )
