"""One maker at a time for what AWS lets be made twice.

Names of REST APIs, API keys and usage plans are not unique, so two `up`s at the same moment would make two of each.
An item in the stack's own table decides who goes first: a conditional write is the one thing in the stack that only
one of them can win.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from asyncjobs.provision.context import Context

T = TypeVar("T")

# No job's id, so no caller of the API reaches it; without `statusShard` no listing shows it.
ITEM = "#provisioning"
# A killed `up` holds back the next one for so long at most. Longer than any one call takes to make something.
LEASE_SECONDS = 60
_EXPIRES_SECONDS = 86_400


class Lock:
    """Held for a lease. An `up` that went well does not give it back: all is there, and nobody asks for it again."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._dynamodb = context.clients.dynamodb
        self._until = 0.0

    def once(
        self,
        find: Callable[[], T | None],
        make: Callable[[], T],
        *,
        step: str,
        limited: Callable[[Exception], bool],
        reason: str,
    ) -> T:
        """What `find` finds, else what `make` makes while nobody else can.

        Args:
            limited: Which errors of `make` pass by themselves: AWS's rate limits. Each try has a lease that lasts.
            reason: What such an error means, for a person.
        """

        def attempt() -> T | None:
            taken = self._take()
            # Only now: it may have been made between an earlier look and the lock.
            found = find()
            if found is not None or not taken:
                return found
            try:
                return make()
            except Exception as error:
                if not limited(error):
                    self.give_back()
                raise

        waiter = self._context.waiter
        return waiter.find(
            lambda: waiter.retry(attempt, step=step, on=limited, reason=reason, timeout=180),
            step=step,
            reason="another `up` of this stack is making it, or was killed doing so",
            timeout=3 * LEASE_SECONDS,
            at_most=LEASE_SECONDS,
        )

    def clear(self) -> None:
        """Forget whoever has it: what it was taken for is being deleted, and the table may stay."""
        with suppress(ClientError, BotoCoreError):
            self._dynamodb.delete_item(TableName=self._context.names.table, Key={"jobId": {"S": ITEM}})

    def give_back(self) -> None:
        """An `up` that failed must not hold back the next one; if this fails too, the lease runs out."""
        self._until = 0.0
        with suppress(ClientError, BotoCoreError):
            self._dynamodb.delete_item(
                TableName=self._context.names.table,
                Key={"jobId": {"S": ITEM}},
                ConditionExpression="#owner = :owner",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": self._context.run}},
            )

    def _take(self) -> bool:
        now = int(self._context.now())
        if now < self._until - LEASE_SECONDS / 2:
            return True
        try:
            self._dynamodb.put_item(
                TableName=self._context.names.table,
                Item={
                    "jobId": {"S": ITEM},
                    "owner": {"S": self._context.run},
                    "leaseUntil": {"N": str(now + LEASE_SECONDS)},
                    "expiresAt": {"N": str(now + _EXPIRES_SECONDS)},
                },
                ConditionExpression="attribute_not_exists(jobId) OR #owner = :owner OR leaseUntil < :now",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": self._context.run}, ":now": {"N": str(now)}},
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        self._until = now + LEASE_SECONDS
        return True
