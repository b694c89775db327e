"""The stand-in answers as moto does, call by call; where moto cannot, as DynamoDB's documents say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from tables import TABLE, make_table

from asyncjobs.jobs.api import BotoApi
from asyncjobs.jobs.leases import AlreadyEnded, Busy, Claim, Claimed, LeaseLostError, NewJob, Result
from asyncjobs.jobs.store import DynamoJobStore

ID = "1795416232123-abc"
KEY = {"jobId": {"S": ID}}
N1, N2 = {"N": "1"}, {"N": "2"}


@pytest.fixture
def ours(client: Callable[[str], Any]) -> Any:
    dynamodb = client("dynamodb")
    make_table(dynamodb)
    return dynamodb


@pytest.fixture
def motos(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        dynamodb = boto3.client("dynamodb", "us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing")
        make_table(dynamodb)
        yield dynamodb


def update(expression: str, condition: str = "", returned: str = "ALL_NEW", **values: Any) -> dict[str, Any]:
    """An UpdateItem; values are named after their placeholders, names are the words with a #."""
    words = f"{expression} {condition}".replace("(", " ").replace(")", " ").replace(",", " ").replace(".", " ").split()
    names = {word: word[1:] for word in words if word.startswith("#")}
    request: dict[str, Any] = {"Key": KEY, "UpdateExpression": expression, "ReturnValues": returned}
    if condition:
        request |= {"ConditionExpression": condition, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    if names:
        request["ExpressionAttributeNames"] = names
    if values:
        request["ExpressionAttributeValues"] = {f":{name}": value for name, value in values.items()}
    return request


def answer(client: Any, request: dict[str, Any]) -> Any:
    """What is to be the same: the attributes, or the error's code and its item."""
    try:
        return client.update_item(TableName=TABLE, **request).get("Attributes", {})
    except ClientError as error:
        return error.response["Error"]["Code"], error.response.get("Item")


QUEUED, RUNNING = {"S": "QUEUED"}, {"S": "RUNNING"}
NESTED = {"M": {"fraction": {"N": "0.5"}, "message": {"S": '☕ "half" \\ \n'}}}

# Each in turn on one item: every form of expression that the stores use, and what they could use.
CALLS = [
    update("SET #status = :q", "attribute_exists(jobId)", q=QUEUED),
    update("SET #status = :q, #n = :one", "attribute_not_exists(jobId)", q=QUEUED, one=N1),
    update("SET #status = :q", "attribute_not_exists(jobId)", q=QUEUED),
    update("SET #attempt = if_not_exists(#attempt, :zero) + :one", zero={"N": "0"}, one=N1),
    update("SET #attempt = if_not_exists(#attempt, :zero) + :one", zero={"N": "0"}, one=N1),
    update("SET #n = #n - :one", one=N1),
    update("SET #a = :a REMOVE #n", returned="NONE", a=NESTED),
    update("SET #a = :a", returned="ALL_OLD", a=NESTED),
    update("REMOVE #nothing, #a"),
    update("SET #a = :a", "#status = :r OR (#status = :q AND #attempt < :two)", a=NESTED, q=QUEUED, r=RUNNING, two=N2),
    update("SET #a = :a", "#status = :r OR #attempt <= :two", a=NESTED, r=RUNNING, two=N2),
    update("SET #a = :a", "NOT (#status = :r) AND #attempt >= :two", a=NESTED, r=RUNNING, two=N2),
    update("SET #a = :a", "NOT #status = :q", a=NESTED, q=QUEUED),
    update("SET #a = :a", "#attempt > :two", a=NESTED, two=N2),
    update("SET #a = :a", "#status <> :r AND #missing <> :r", a=NESTED, r=RUNNING),
    update("SET #a = :a", "#missing = :r", a=NESTED, r=RUNNING),
    update("SET #a = :a", "#missing < :two", a=NESTED, two=N2),
    update("SET #a = :a", "#attempt BETWEEN :one AND :two", a=NESTED, one=N1, two=N2),
    update("SET #a = :a", "#status IN (:q, :r)", a=NESTED, q=QUEUED, r=RUNNING),
    update("SET #a = :a", "begins_with(#status, :s)", a=NESTED, s={"S": "QUE"}),
    update("SET #a = :a", "contains(#status, :s)", a=NESTED, s={"S": "ZZ"}),
    update("SET #a = :a", "#a = :a AND size(#status) = :n", a=NESTED, n={"N": "6"}),
    update("SET #a.#message = :m", m={"S": "nested"}),
    update("SET #a.#message = :m", "#a.#fraction < :one", m={"S": "again"}, one=N1),
    update("SET #none.#message = :m", m={"S": "nowhere"}),
    update("SET #b = :b", b={"B": b"\x00\xff bytes"}),
    update("ADD #attempt :one", one=N1),
    update("SET #b = #nothing"),
    update("SET #b = :b", b={"S": "x"}, unused=N1),
    update("SET #b = :undefined", b=N1),
    update("SET #b = :b SET #c = :b", b=N1),
    update("SET #jobId = :b", b={"S": "other"}),
    update("SET #b = :b, #b = :c", b=N1, c=N2),
]


def test_each_call_is_answered_as_moto_answers_it(ours: Any, motos: Any) -> None:
    for call in CALLS:
        assert answer(ours, call) == answer(motos, call), call


def test_where_moto_breaks_the_stand_in_answers(ours: Any) -> None:
    types = update("SET #a = :a", "#a < :two", a={"S": "text"}, two=N2)
    assert answer(ours, types) == ("ConditionalCheckFailedException", None)
    for condition in ("#b = ", "#b = :b AND", "((#b = :b))", "size(#b", "unknown(#b) AND #b = :b", "#b : :b"):
        assert answer(ours, update("SET #b = :b", condition, b=N1))[0] == "ValidationException", condition


def test_an_item_is_put_read_listed(ours: Any, motos: Any) -> None:
    item = KEY | {"status": QUEUED, "flag": {"BOOL": True}, "list": {"L": [N1, {"NULL": True}]}}
    for client in (ours, motos):
        client.put_item(TableName=TABLE, Item=item)
        with pytest.raises(client.exceptions.ConditionalCheckFailedException):
            client.put_item(TableName=TABLE, Item=item, ConditionExpression="attribute_not_exists(jobId)")
        assert client.get_item(TableName=TABLE, Key=KEY)["Item"] == item
        assert "Item" not in client.get_item(TableName=TABLE, Key={"jobId": {"S": "other"}})
        assert client.scan(TableName=TABLE)["Items"] == [item]
        part = {"ProjectionExpression": "#s", "ExpressionAttributeNames": {"#s": "status"}}
        assert client.get_item(TableName=TABLE, Key=KEY, **part)["Item"] == {"status": QUEUED}


def store(client: Any, **settings: Any) -> DynamoJobStore:
    return DynamoJobStore(
        BotoApi(client), TABLE, **{"lease_seconds": 30, "max_attempts": 2, "result_days": 30} | settings
    )


def test_the_job_store_works_on_it(ours: Any) -> None:
    async def journey() -> None:
        job = NewJob(ID, "text/plain", "a text ☕")
        claimed = await store(ours).claim(job)
        assert isinstance(claimed, Claimed)
        assert claimed.job == job
        assert isinstance(await store(ours).claim(job), Busy)
        later = await store(ours, now=lambda: 4e9).claim(job)
        assert isinstance(later, Claimed)
        assert later.lease.attempt == 2
        with pytest.raises(LeaseLostError):
            await store(ours).succeed(claimed.lease, Result("1"))
        await store(ours).succeed(later.lease, Result("2"))
        assert await store(ours).claim(job) == AlreadyEnded("SUCCEEDED")

    asyncio.run(journey())


def test_of_claims_at_once_one_wins(ours: Any) -> None:
    async def race() -> list[Claim]:
        return await asyncio.gather(*(store(ours).claim(NewJob(ID, "text/plain", "x")) for _ in range(32)))

    assert sum(isinstance(claim, Claimed) for claim in asyncio.run(race())) == 1


def test_a_second_outcome_in_a_generation_is_seen(ours: Any, server: Any) -> None:
    end = update("SET #status = :s, #result = :r", returned="NONE", s={"S": "SUCCEEDED"}, r={"S": "1"})
    answer(ours, end)
    answer(ours, end)  # the same again overwrites nothing
    assert server.history() == {"ended": 1, "twice": []}
    answer(ours, update("SET #result = :r", r={"S": "2"}))
    assert server.history() == {"ended": 1, "twice": [ID]}


def statement(text: str, *parameters: Any) -> dict[str, Any]:
    return {
        "Statement": text,
        "Parameters": list(parameters),
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def batch(client: Any, *statements: dict[str, Any]) -> Any:
    return client.batch_execute_statement(Statements=list(statements))["Responses"]


CLAIM = (
    f'UPDATE "{TABLE}" SET "status" = ? SET attempt = attempt + 1 REMOVE old'
    " WHERE jobId = ? AND (\"status\" = 'QUEUED' OR leaseUntil < ?) AND token IS MISSING RETURNING ALL NEW *"
)


def test_statements_have_conditions_and_errors_of_their_own(ours: Any) -> None:
    ours.put_item(TableName=TABLE, Item=KEY | {"status": QUEUED, "attempt": N1, "old": N1})
    missing = statement(CLAIM, RUNNING, {"S": "none"}, N1)
    won, none, lost, odd = batch(
        ours,
        statement(CLAIM, RUNNING, KEY["jobId"], N1),
        missing,
        statement(CLAIM, RUNNING, KEY["jobId"], N1),
        statement(f'UPDATE "{TABLE}" SET a = ? WHERE a = ?', N1, N1),
    )
    claimed = KEY | {"status": RUNNING, "attempt": N2}
    assert won["Item"] == claimed
    assert none["Error"]["Code"] == "ConditionalCheckFailed"
    assert "Item" not in none["Error"]
    assert (lost["Error"]["Code"], lost["Error"]["Item"]) == ("ConditionalCheckFailed", claimed)
    assert odd["Error"]["Code"] == "ValidationError"


def test_insert_makes_an_item_once_and_select_reads_it(ours: Any) -> None:
    insert = statement(f"INSERT INTO \"{TABLE}\" VALUE {{'jobId': ?, 'status': ?}}", KEY["jobId"], QUEUED)
    first, second = batch(ours, insert, insert)
    assert "Error" not in first
    assert second["Error"]["Code"] == "DuplicateItem"
    select = {"Statement": f'SELECT * FROM "{TABLE}" WHERE jobId = ?', "Parameters": [KEY["jobId"]]}
    assert ours.execute_statement(**select)["Items"] == [KEY | {"status": QUEUED}]
    with pytest.raises(ClientError, match="all reads or all writes"):
        batch(ours, select, insert)


@pytest.mark.parametrize(
    "text",
    [
        f'UPDATE "{TABLE}" SET a = ?, b = ? WHERE jobId = ?',
        f'UPDATE "{TABLE}" SET a = if_not_exists(a, ?) WHERE jobId = ? AND b = ?',
        f'UPDATE "{TABLE}" SET a = ? WHERE jobId = ? AND attribute_exists(b) AND b = ?',
        f'UPDATE "{TABLE}" SET a = ? WHERE jobId = ?',
    ],
)
def test_what_partiql_does_not_document_is_refused(ours: Any, text: str) -> None:
    (refused,) = batch(ours, statement(text, N1, KEY["jobId"], KEY["jobId"]))
    assert refused["Error"]["Code"] == "ValidationError"


def test_a_batch_takes_25_statements(ours: Any) -> None:
    one = statement(f'UPDATE "{TABLE}" SET a = ? WHERE jobId = ?', N1, KEY["jobId"])
    assert len(batch(ours, *[one] * 25)) == 25
    with pytest.raises(ClientError, match="less than or equal to 25"):
        batch(ours, *[one] * 26)


def test_faults_are_errors_throttling_and_lost_answers(ours: Any, server: Any) -> None:
    server.configure(fault_rate=0.5, seed=7)
    kinds = set()
    for number in range(60):
        request = update("SET #a = :a", returned="NONE", a={"N": str(number)})
        try:
            kinds.add(str(answer(ours, request)))
        except Exception as error:
            kinds.add(type(error).__name__)
    server.configure(fault_rate=0)
    assert kinds == {
        "{}",
        "ConnectionClosedError",
        "('InternalServerError', None)",
        "('ProvisionedThroughputExceededException', None)",
    }
    assert server.stats()["faults"] > 10
