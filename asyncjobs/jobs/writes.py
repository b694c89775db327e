"""Conditional writes of one record each: by UpdateItem, or 25 at a time as PartiQL statements.

Each statement of a BatchExecuteStatement has a condition and an error of its own, so nothing is given up for it: a
batch is as many single writes in one call. What it cannot say (`if_not_exists`) and what is big goes by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from asyncjobs.jobs.api import Api
from asyncjobs.jobs.aws_errors import error_code
from asyncjobs.jobs.coalesce import Coalescer
from asyncjobs.jobs.record import Item

MOST_STATEMENTS = 25  # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html
# A statement that is slow to send would hold up 24 others.
LARGEST_IN_BATCH = 16 * 1024
OFF_SECONDS = 60.0  # without batches after an endpoint refused one
_PLACEHOLDER = re.compile(r":([A-Za-z]+)")
_NAME = re.compile(r"#([A-Za-z]+)")
_NOT_THERE = "attribute_not_exists(#jobId)"


@dataclass(frozen=True)
class Written:
    """The write is done; `item` is the whole record where it was asked for."""

    item: Item


_DONE = Written({})


@dataclass(frozen=True)
class Refused:
    """The condition did not hold; `item` is the record that was in the way, empty if there is none."""

    item: Item


@dataclass(slots=True)
class Update:
    """What a write changes; values are in DynamoDB's wire form.

    Args:
        sets: New values, by attribute.
        removes: Attributes.
        given: What the condition compares with besides, by placeholder.
        once: Values of attributes that are kept where they are there already.
        counts: An attribute that becomes one more.
    """

    sets: dict[str, Any]
    removes: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict)
    once: dict[str, Any] = field(default_factory=dict)
    counts: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether PartiQL can say it."""
        return not (self.once or self.counts)

    @property
    def is_small(self) -> bool:
        result = self.sets.get("result")
        return result is None or len(result["S"]) < LARGEST_IN_BATCH

    @property
    def expression(self) -> str:
        # Every name goes through a placeholder: `status`, `error` and `result` are or may become reserved words.
        changes = [f"#{name} = :{name}" for name in self.sets]
        changes += [f"#{name} = if_not_exists(#{name}, :{name})" for name in self.once]
        changes += [f"#{name} = if_not_exists(#{name}, :zero) + :one" for name in (self.counts,) if name]
        remove = f" REMOVE {', '.join(f'#{name}' for name in self.removes)}" if self.removes else ""
        return f"SET {', '.join(changes)}{remove}"

    @property
    def values(self) -> dict[str, Any]:
        """All that an UpdateItem needs, by placeholder."""
        counted = {"zero": {"N": "0"}, "one": {"N": "1"}} if self.counts else {}
        return {f":{name}": value for name, value in {**self.sets, **self.once, **self.given, **counted}.items()}


@dataclass(slots=True)
class _Entry:
    """One write on its way into a batch."""

    statement: str
    parameters: list[Any]
    job_id: str
    update: Update  # the same as an UpdateItem
    condition: str


class Writer:
    """Writes records of one table.

    Args:
        coalesce: From how many writes on, wanted at the same time, they go out as one call; 0: never.
    """

    def __init__(self, api: Api, table: str, *, coalesce: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._table = table
        self._coalesce = coalesce
        self._clock = clock
        self._off_until = 0.0
        self._batch: Coalescer[_Entry, Written | Refused] = Coalescer(self._send, most=MOST_STATEMENTS)

    @property
    def coalesces(self) -> bool:
        return self._coalesce > 0 and self._clock() >= self._off_until

    def write(self, job_id: str, update: Update, condition: str, *, new: bool = False) -> Awaitable[Written | Refused]:
        """Args: new: The written record is wanted.

        Raises:
            ClientError, BotoCoreError: The table refused, or could not be reached.
        """
        if new or not (self.coalesces and update.is_plain and update.is_small):
            return self._update(job_id, update, condition, new)
        statement, names = _update_statement(self._table, tuple(update.sets), update.removes, condition)
        given = update.given
        parameters = [*update.sets.values(), {"S": job_id}, *[given[name] for name in names]]
        return self._batch(_Entry(statement, parameters, job_id, update, condition))

    def insert(self, job_id: str, attributes: dict[str, Any]) -> Awaitable[Written | Refused]:
        """Make a record that is not there yet; refused, it does not say what is there."""
        statement = _insert_statement(self._table, ("jobId", *attributes))
        parameters = [{"S": job_id}, *attributes.values()]
        # By itself it would be an UpdateItem, which is all that a worker's role allows.
        return self._batch(_Entry(statement, parameters, job_id, Update(attributes), _NOT_THERE))

    async def _send(self, entries: Sequence[_Entry]) -> list[Written | Refused | Exception]:
        if len(entries) >= self._coalesce and self.coalesces:
            request = {
                "Statements": [
                    {
                        "Statement": entry.statement,
                        "Parameters": entry.parameters,
                        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
                    }
                    for entry in entries
                ]
            }
            try:
                answers = (await self._api.call("BatchExecuteStatement", request))["Responses"]
                return [
                    await self._failed(entry, error) if (error := answer.get("Error")) else _DONE
                    for entry, answer in zip(entries, answers, strict=True)
                ]
            except ClientError:
                # An endpoint that has no PartiQL, or a role that may not use it: single writes do the same.
                self._off_until = self._clock() + OFF_SECONDS
            except (BotoCoreError, LookupError, ValueError):
                pass
        return [await self._alone(entry) for entry in entries]

    async def _failed(self, entry: _Entry, error: Any) -> Written | Refused | Exception:
        if error["Code"] in ("ConditionalCheckFailed", "DuplicateItem"):
            return Refused(error.get("Item", {}))
        # Throttled, or refused for a reason that the single call says better.
        return await self._alone(entry)

    async def _alone(self, entry: _Entry) -> Written | Refused | Exception:
        try:
            return await self._update(entry.job_id, entry.update, entry.condition, False)
        except Exception as error:
            return error

    async def _update(self, job_id: str, update: Update, condition: str, new: bool) -> Written | Refused:
        request = {
            "TableName": self._table,
            "Key": {"jobId": {"S": job_id}},
            "UpdateExpression": update.expression,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": _names(f"{update.expression} {condition}"),
            "ExpressionAttributeValues": update.values,
            "ReturnValues": "ALL_NEW" if new else "NONE",
        }
        return await self._conditional("UpdateItem", request)

    async def _conditional(self, operation: str, request: dict[str, Any]) -> Written | Refused:
        try:
            answer = await self._api.call(operation, {**request, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"})
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            item: Any = error.response.get("Item", {})
            return Refused(item)
        return Written(answer.get("Attributes", {}))


@lru_cache(maxsize=256)
def _names(expressions: str) -> dict[str, str]:
    return {f"#{name}": name for name in _NAME.findall(expressions)}


@lru_cache(maxsize=256)
def _update_statement(
    table: str, sets: tuple[str, ...], removes: tuple[str, ...], condition: str
) -> tuple[str, tuple[str, ...]]:
    """The statement, and whose values follow those that it sets and the job's id.

    UPDATE "jobs" SET "status" = ? … REMOVE "leaseUntil" … WHERE "jobId" = ? AND "leaseToken" = ? AND …
    """
    changes = [f'SET "{name}" = ?' for name in sets] + [f'REMOVE "{name}"' for name in removes]
    where = _PLACEHOLDER.sub("?", _NAME.sub(r'"\1"', condition))
    return f'UPDATE "{table}" {" ".join(changes)} WHERE "jobId" = ? AND {where}', tuple(_PLACEHOLDER.findall(condition))


@lru_cache(maxsize=256)
def _insert_statement(table: str, names: tuple[str, ...]) -> str:
    pairs = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table}" VALUE {{{pairs}}}'
