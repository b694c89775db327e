"""The DynamoDB table that holds the job records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, has_code
from asyncjobs.jobs.record import INDEX_ATTRIBUTES, INDEX_NAME
from asyncjobs.provision.context import Context
from asyncjobs.provision.resource import Inputs, NotOursError, State, require_ours, tag_dict, tag_list

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TableDescriptionTypeDef

TTL_ATTRIBUTE = "expiresAt"


class Table:
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
        return {"key": "jobId", "time to live": TTL_ATTRIBUTE, "point-in-time recovery": True}

    def read(self) -> State | None:
        table = self._describe()
        if table is not None and table["TableStatus"] == "DELETING":
            self._until_gone()
            table = None
        if table is None:
            return None
        tags = self._dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])
        require_ours(tag_dict(tags.get("Tags")), self._context.names.stack, self.title)
        return State(
            {"name": self._name, "arn": table["TableArn"]},
            {
                "key": ",".join(key["AttributeName"] for key in table["KeySchema"]),
                "time to live": self._time_to_live(),
                "point-in-time recovery": self._point_in_time_recovery(),
            },
        )

    def create(self, inputs: Inputs) -> State:
        try:
            self._dynamodb.create_table(
                TableName=self._name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[
                    {"AttributeName": "jobId", "AttributeType": "S"},
                    {"AttributeName": "statusShard", "AttributeType": "S"},
                ],
                KeySchema=[{"AttributeName": "jobId", "KeyType": "HASH"}],
                GlobalSecondaryIndexes=[
                    {
                        "IndexName": INDEX_NAME,
                        "KeySchema": [
                            {"AttributeName": "statusShard", "KeyType": "HASH"},
                            {"AttributeName": "jobId", "KeyType": "RANGE"},
                        ],
                        "Projection": {
                            "ProjectionType": "INCLUDE",
                            "NonKeyAttributes": list(INDEX_ATTRIBUTES),
                        },
                    }
                ],
                Tags=tag_list(self._context.tags),
            )
        except ClientError as error:
            # Another `up` was first, or an earlier one was cut off: ours by tag, or refused by `read`.
            if error_code(error) != "ResourceInUseException":
                raise
        self._until_active()
        state = self.read()
        if state is None:
            raise NotOursError(
                f"{self.title} was deleted while it was being created.", hint="Run `asyncjobs up` again."
            )
        return self.update(state, self._changed(state), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        self._until_active()
        if "time to live" in changed:
            self._dynamodb.update_time_to_live(
                TableName=self._name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
            )
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
        return state

    def delete(self, state: State) -> None:
        def call() -> None:
            try:
                self._dynamodb.delete_table(TableName=self._name)
            except self._dynamodb.exceptions.ResourceNotFoundException:
                return

        self._context.waiter.retry(
            call,
            step=self.step,
            on=has_code("ResourceInUseException", "LimitExceededException"),
            reason="the table is being changed",
            timeout=300,
        )
        self._until_gone()

    def _changed(self, state: State) -> frozenset[str]:
        desired = self.desired(Inputs({}))
        return frozenset(key for key, value in desired.items() if state.properties[key] != value)

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
