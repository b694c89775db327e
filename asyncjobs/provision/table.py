"""The DynamoDB table that holds the job records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, has_code
from asyncjobs.jobs.record import INDEX_ATTRIBUTES, INDEX_NAME
from asyncjobs.provision.context import Context, differing
from asyncjobs.provision.resource import Inputs, NotOursError, State, require_ours, tag_dict, tag_list

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TableDescriptionTypeDef

TTL_ATTRIBUTE = "expiresAt"
# The same code without that word is an account's number of tables, which waiting does not change.
_TOO_MANY_AT_ONCE = has_code("LimitExceededException", message="simultaneous")
ATTRIBUTES: Any = [
    {"AttributeName": "jobId", "AttributeType": "S"},
    {"AttributeName": "statusShard", "AttributeType": "S"},
]
INDEX: Any = {
    "IndexName": INDEX_NAME,
    "KeySchema": [
        {"AttributeName": "statusShard", "KeyType": "HASH"},
        {"AttributeName": "jobId", "KeyType": "RANGE"},
    ],
    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(INDEX_ATTRIBUTES)},
}


class Table:
    """On-demand, and encrypted with DynamoDB's own key, as every table is that asks for nothing else.

    Deletion protection is not asked for, because `down` deletes; where somebody turned it on, `down` says so and stops.
    """

    step = "table"
    needs: tuple[str, ...] = ()
    # Tables made by hand under our tag could have another key; nothing can change a table's key.
    fixed = frozenset({"key"})

    def __init__(self, context: Context) -> None:
        self._context = context
        self._dynamodb = context.clients.dynamodb
        self._name = context.names.table
        self.title = f"DynamoDB table {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {
            "key": "jobId",
            "billing": "PAY_PER_REQUEST",
            "listing index": _index_shape(INDEX),
            "time to live": TTL_ATTRIBUTE,
            "point-in-time recovery": True,
            "tags": self._context.tags,
        }

    def read(self) -> State | None:
        table = self._describe()
        if table is not None and table["TableStatus"] == "DELETING":
            self._until_gone()
            table = None
        if table is None:
            return None
        tags = tag_dict(self._dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"]).get("Tags"))
        require_ours(tags, self._context.names.stack, self.title)
        indexes: Any = table.get("GlobalSecondaryIndexes", [])
        return State(
            self._outputs(),
            {
                "key": ",".join(key["AttributeName"] for key in table["KeySchema"]),
                # Absent for a table that was provisioned from the start.
                "billing": table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED"),
                "listing index": next((_index_shape(one) for one in indexes if _is_listing(one)), {}),
                "time to live": self._time_to_live(),
                "point-in-time recovery": self._point_in_time_recovery(),
                "tags": self._context.ours(tags),
            },
        )

    def create(self, inputs: Inputs) -> State:
        try:
            self._context.waiter.retry(
                lambda: self._dynamodb.create_table(
                    TableName=self._name,
                    BillingMode="PAY_PER_REQUEST",
                    AttributeDefinitions=ATTRIBUTES,
                    KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
                    GlobalSecondaryIndexes=[INDEX],
                    Tags=tag_list(self._context.tags),
                ),
                step=self.step,
                on=_TOO_MANY_AT_ONCE,
                reason="DynamoDB is making as many tables as it does at once",
                timeout=300,
            )
        except ClientError as error:
            # Another `up` was first, or an earlier one was cut off: ours by tag, or refused by `read`.
            if error_code(error) != "ResourceInUseException":
                raise
        else:
            self._until_active()
            return self._apply(State(self._outputs()), frozenset({"time to live", "point-in-time recovery"}))
        self._until_active()
        state = self.read()
        if state is None:
            raise NotOursError(
                f"{self.title} was deleted while it was being created.", hint="Run `asyncjobs up` again."
            )
        return self._apply(state, differing(self.desired(inputs), state))

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        self._until_active()
        return self._apply(state, changed)

    def _apply(self, state: State, changed: frozenset[str]) -> State:
        if "billing" in changed:
            self._update_table(BillingMode="PAY_PER_REQUEST")
        if "listing index" in changed:
            self._make_index(there=bool(state.properties["listing index"]))
        if "time to live" in changed:
            self._set_time_to_live()
        if "point-in-time recovery" in changed:
            self._context.waiter.retry(
                lambda: self._dynamodb.update_continuous_backups(
                    TableName=self._name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
                ),
                step=self.step,
                on=has_code("ContinuousBackupsUnavailableException"),
                reason="backups are still being enabled for the new table",
                timeout=300,
            )
        if "tags" in changed:
            self._dynamodb.tag_resource(ResourceArn=state.outputs["arn"], Tags=tag_list(self._context.tags))
        return state

    def _set_time_to_live(self) -> None:
        wanted: Any = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        try:
            self._dynamodb.update_time_to_live(TableName=self._name, TimeToLiveSpecification=wanted)
        except ClientError as error:
            # DynamoDB refuses a second change within the hour; another `up` may just have made the first.
            if error_code(error) != "ValidationException" or self._time_to_live() != TTL_ATTRIBUTE:
                raise

    def _make_index(self, *, there: bool) -> None:
        """An index holds nothing that the table does not: one of another shape is replaced, and fills by itself."""
        if there:
            self._update_table(GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": INDEX_NAME}}])
        self._update_table(AttributeDefinitions=ATTRIBUTES, GlobalSecondaryIndexUpdates=[{"Create": INDEX}])

    def _update_table(self, **settings: Any) -> None:
        """DynamoDB takes one change of a table at a time, and of indexes one a call."""
        self._context.waiter.retry(
            lambda: self._dynamodb.update_table(TableName=self._name, **settings),
            step=self.step,
            on=_is_busy,
            reason="the table is still being changed",
            timeout=900,
        )

    def delete(self, state: State) -> None:
        def call() -> None:
            try:
                self._dynamodb.delete_table(TableName=self._name)
            except self._dynamodb.exceptions.ResourceNotFoundException:
                return

        self._context.waiter.retry(
            call,
            step=self.step,
            on=_is_busy,
            reason="the table is being changed",
            timeout=300,
        )
        self._until_gone()

    def _outputs(self) -> dict[str, str]:
        return {"name": self._name, "arn": self._context.names.table_arn}

    def _describe(self) -> TableDescriptionTypeDef | None:
        try:
            return self._dynamodb.describe_table(TableName=self._name)["Table"]
        except self._dynamodb.exceptions.ResourceNotFoundException:
            return None

    def _time_to_live(self) -> str:
        description = self._dynamodb.describe_time_to_live(TableName=self._name)["TimeToLiveDescription"]
        # ENABLING counts: AWS refuses a second change within the hour.
        enabled = description.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
        return description.get("AttributeName", "") if enabled else ""

    def _point_in_time_recovery(self) -> bool:
        answer = self._dynamodb.describe_continuous_backups(TableName=self._name)
        recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        return recovery.get("PointInTimeRecoveryStatus") == "ENABLED"

    def _until_active(self) -> None:
        def active() -> bool:
            table = self._describe()  # eventually consistent: not found just after CreateTable is no error
            return table is not None and table["TableStatus"] in ("ACTIVE", "UPDATING")

        self._context.waiter.until(
            active, step=self.step, reason="the table is being created", timeout=300, first_wait=0.2
        )

    def _until_gone(self) -> None:
        self._context.waiter.until(
            lambda: self._describe() is None,
            step=self.step,
            reason="the table is being deleted",
            timeout=600,
            first_wait=0.2,
        )


def _is_busy(error: Exception) -> bool:
    return error_code(error) == "ResourceInUseException" or _TOO_MANY_AT_ONCE(error)


def _is_listing(index: Any) -> bool:
    return bool(index["IndexName"] == INDEX_NAME and index.get("IndexStatus") != "DELETING")


def _index_shape(index: Any) -> dict[str, Any]:
    """What makes an index ours to query; DynamoDB may answer lists in another order."""
    keys = {key["KeyType"]: key["AttributeName"] for key in index["KeySchema"]}
    return {"keys": keys, "attributes": sorted(index["Projection"].get("NonKeyAttributes", []))}
