"""The SQS queues: jobs waiting for a worker, and the dead-letter queue for what no worker could take."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from asyncjobs.aws import has_code
from asyncjobs.provision.context import Context, differing, policy
from asyncjobs.provision.resource import Inputs, State, require_ours

T = TypeVar("T")

DAY = 86_400
LONG_POLL_SECONDS = 20
LEASE_SECONDS = 30
MAX_MESSAGE_BYTES = 1_048_576
# Deliveries beyond `max_attempts` that cost no attempt: duplicates, hand-backs, a busy lease.
SPARE_RECEIVES = 10

# In the order they are shown; SQS wants and answers every value as text.
_SHOWN = (
    "VisibilityTimeout",
    "MessageRetentionPeriod",
    "MaximumMessageSize",
    "ReceiveMessageWaitTimeSeconds",
    "SqsManagedSseEnabled",
)


class Queue:
    """A standard queue. `dead_letters` makes it the dead-letter queue instead of the job queue."""

    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context, *, dead_letters: bool = False) -> None:
        names = context.names
        self._context = context
        self._sqs = context.clients.sqs
        self._dead_letters = dead_letters
        self._name = names.dead_letter_queue if dead_letters else names.queue
        self._arn = names.dead_letter_queue_arn if dead_letters else names.queue_arn
        self.step = "dead-letter-queue" if dead_letters else "queue"
        # SQS checks that the dead-letter queue exists when the redrive policy is set.
        self.needs: tuple[str, ...] = () if dead_letters else ("dead-letter-queue",)
        self.title = f"SQS queue {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        retention = self._context.config.retention
        days = 14 if self._dead_letters else retention.queue_days
        wanted: dict[str, Any] = {
            "VisibilityTimeout": str(LEASE_SECONDS),
            "MessageRetentionPeriod": str(days * DAY),
            "MaximumMessageSize": str(MAX_MESSAGE_BYTES),
            "ReceiveMessageWaitTimeSeconds": str(LONG_POLL_SECONDS),
            "SqsManagedSseEnabled": "true",
            "Policy": self._tls_only(),
            "tags": self._context.tags,
        }
        if not self._dead_letters:
            wanted["RedrivePolicy"] = {
                "deadLetterTargetArn": self._context.names.dead_letter_queue_arn,
                "maxReceiveCount": self._context.config.worker.max_attempts + SPARE_RECEIVES,
            }
        return wanted

    def read(self) -> State | None:
        try:
            url = self._sqs.get_queue_url(QueueName=self._name)["QueueUrl"]
            attributes: Any = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        except self._sqs.exceptions.QueueDoesNotExist:
            return None
        tags = self._tags(url)
        if tags is None:
            return None
        require_ours(tags, self._context.names.stack, self.title)
        found: dict[str, Any] = {key: attributes.get(key) for key in _SHOWN}
        found["Policy"] = json.loads(attributes.get("Policy") or "{}")
        redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
        if redrive:
            redrive["maxReceiveCount"] = int(redrive["maxReceiveCount"])  # AWS may answer it as text
        found["RedrivePolicy"] = redrive
        found["tags"] = self._context.ours(tags)
        return State(self._outputs(url), found)

    def create(self, inputs: Inputs) -> State:
        attributes = {key: value for key, value in self.desired(inputs).items() if key != "tags"}
        retry = self._context.waiter.retry

        def call() -> str:
            return self._sqs.create_queue(
                QueueName=self._name,
                Attributes=_wire(attributes),  # type: ignore[arg-type]
                tags=self._context.tags,
            )["QueueUrl"]

        def until_dead_letters_are_known() -> str:
            return retry(
                call,
                step=self.step,
                on=has_code("InvalidParameterValue", "InvalidAttributeValue", message="dead letter target"),
                reason="SQS does not know the new dead-letter queue everywhere yet",
                timeout=60,
            )

        try:
            url = retry(
                until_dead_letters_are_known,
                step=self.step,
                on=has_code("AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"),
                reason="SQS keeps a deleted queue's name for 60 seconds",
                timeout=90,
                at_most=60,
            )
        except self._sqs.exceptions.QueueNameExists:
            # Another `up` with other settings was first, or a namesake, which `read` refuses.
            state = self._visible(self.read)
            return self.update(state, differing(self.desired(inputs), state), inputs)
        # CreateQueue answers an equal queue's URL as if it had made it: whose it is, its tags say.
        tags = self._visible(lambda: self._tags(url))
        require_ours(tags, self._context.names.stack, self.title)
        return State(self._outputs(url))

    def _visible(self, look: Callable[[], T | None]) -> T:
        """A new queue can be used a second after CreateQueue has answered, which is when SQS has it everywhere."""

        return self._context.waiter.find(look, step=self.step, reason="the new queue is not visible yet", timeout=60)

    def _tags(self, url: str) -> dict[str, str] | None:
        try:
            return self._sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
        except self._sqs.exceptions.QueueDoesNotExist:
            return None

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        url, desired = state.outputs["url"], self.desired(inputs)
        attributes = _wire({key: desired[key] for key in changed - {"tags"}})
        if attributes:
            self._sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)  # type: ignore[arg-type]
        if "tags" in changed:
            self._sqs.tag_queue(QueueUrl=url, Tags=self._context.tags)
        return state

    def delete(self, state: State) -> None:
        try:
            self._sqs.delete_queue(QueueUrl=state.outputs["url"])
        except self._sqs.exceptions.QueueDoesNotExist:
            return

    def _outputs(self, url: str) -> dict[str, str]:
        return {"url": url, "arn": self._arn}

    def _tls_only(self) -> dict[str, Any]:
        return policy(
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": self._arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        )


def _wire(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in attributes.items()}
