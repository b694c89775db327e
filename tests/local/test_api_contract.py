"""The HTTP API, deployed to the emulated services and served by the data plane."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from deployed_api import ACCOUNT, REGION, Api, provision, served

from asyncjobs.jobs import ids
from asyncjobs.jobs.api import BotoApi
from asyncjobs.jobs.leases import AlreadyEnded, Claimed, LeaseLostError, NewJob, Result
from asyncjobs.jobs.record import SHARDS, iso_time
from asyncjobs.jobs.store import DynamoJobStore
from asyncjobs.local.dataplane import DataPlane
from asyncjobs.names import Names
from asyncjobs.provision.api_document import ApiSettings, public_document, render

NAMES = Names("contract", ACCOUNT, REGION)
SETTINGS = ApiSettings()
PAGE = '<!doctype html><script>const price = `${1}$`; /* #if \\ */</script><p id="x">#1 "q" é</p>'
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def api(aws: Callable[[str], Any], aws_endpoint: str, state_dir: Path) -> Iterator[Api]:
    document = render(NAMES, SETTINGS, PAGE)
    rest_api_id, key = provision(aws, NAMES, document, SETTINGS)
    plane = DataPlane(rest_api_id, endpoint_url=aws_endpoint, region=REGION, state_dir=state_dir, max_age=0)
    with served(plane) as url:
        api = Api(f"{url}/{SETTINGS.stage}", key, rest_api_id, SETTINGS)
        yield api
        api.close()


@pytest.fixture
def received(aws: Callable[[str], Any]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What the queue holds, taken out of it."""
    sqs = aws("sqs")
    url = sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"]

    def take() -> list[dict[str, Any]]:
        taken = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        messages: list[dict[str, Any]] = taken.get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return messages

    yield take
    assert take() == []


@pytest.fixture
def put_record(aws: Callable[[str], Any]) -> Callable[..., str]:
    def put(**attributes: Any) -> str:
        job_id = ids.mint()
        item = {"jobId": {"S": job_id}, "status": {"S": "RUNNING"}, "submittedAt": {"S": "2026-11-23T06:43:52.123Z"}}
        aws("dynamodb").put_item(TableName=NAMES.table, Item=item | attributes)
        return job_id

    return put


def attributes(message: dict[str, Any]) -> dict[str, str]:
    return {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}


def error(response: Any) -> tuple[int, str]:
    document = response.json()
    assert set(document) == {"error", "message"}
    assert document["message"]
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["content-type"] == "application/json"
    return response.status, document["error"]


# Ids are made when the tests are collected, many minutes before the last of them runs.
FUTURE = 24 * 3600


def job_id_at(offset_seconds: float) -> str:
    return ids.mint(lambda: time.time() + offset_seconds)


class TestSubmit:
    def test_post(self, api: Api, received: Callable[[], list[dict[str, Any]]]) -> None:
        response = api.request("POST", "/jobs", "Grüße 😀".encode(), content_type="text/plain; charset=utf-8")
        accepted = response.json()
        assert (response.status, accepted["status"]) == (202, "QUEUED")
        assert ids.is_well_formed(accepted["jobId"])
        assert response.headers["location"] == f"/v1/jobs/{accepted['jobId']}"
        assert response.headers["access-control-allow-origin"] == "*"
        (message,) = received()
        assert message["Body"] == "Grüße 😀"
        assert attributes(message) == {
            "jobId": accepted["jobId"],
            "contentType": "text/plain; charset=utf-8",
            "submittedAt": accepted["jobId"][:13],
        }

    def test_put_twice_answers_alike(self, api: Api, received: Callable[[], list[dict[str, Any]]]) -> None:
        job_id = ids.mint()
        answers = [api.request("PUT", f"/jobs/{job_id}", b"{}", content_type="application/json") for _ in range(2)]
        assert [answer.status for answer in answers] == [202, 202]
        assert answers[0].data == answers[1].data
        assert {attributes(message)["jobId"] for message in received()} == {job_id}

    @pytest.mark.parametrize(
        "body",
        [
            b"&MessageAttribute.1.Value.StringValue=x",
            "😀 \u2028 $!{x} #if".encode(),
            b"a\r\nb\tc",
            b"a" * (MIB - 400),
            "😀".encode() * 200_000,
        ],
        ids=["parameters", "velocity", "lines", "large", "large emoji"],
    )
    def test_text_arrives_as_it_is(self, api: Api, received: Callable[[], list[dict[str, Any]]], body: bytes) -> None:
        response = api.request("POST", "/jobs", body, content_type="text/plain")
        assert response.status == 202
        (message,) = received()
        assert message["Body"].encode() == body
        assert attributes(message)["jobId"] == response.json()["jobId"]

    @pytest.mark.parametrize("body", [bytes(range(256)), b"\xff\xfe", b"plain"], ids=["bytes", "not utf-8", "text"])
    def test_bytes_arrive_as_base64(self, api: Api, received: Callable[[], list[dict[str, Any]]], body: bytes) -> None:
        assert api.request("POST", "/jobs", body, content_type="application/octet-stream").status == 202
        (message,) = received()
        assert base64.b64decode(message["Body"]) == body
        assert attributes(message)["encoding"] == "base64"

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    @pytest.mark.parametrize(
        ("body", "content_type", "expected"),
        [
            (b"", "text/plain", (400, "EmptyPayload")),
            (b"", "application/json", (400, "EmptyPayload")),
            (b"", "application/pdf", (400, "EmptyPayload")),
            (b"\xff\xfeabc", "text/plain", (400, "InvalidPayload")),
            (b"a\x00b", "text/plain", (400, "InvalidPayload")),
            (b"\x1b[0m", "application/json", (400, "InvalidPayload")),
            ("\ufffe".encode(), "text/csv", (400, "InvalidPayload")),
            (b"x" * MIB, "text/plain", (413, "PayloadTooLarge")),
            (b"x" * (11 * MIB), "text/plain", (413, "PayloadTooLarge")),
            (b"x" * 900_000, "application/pdf", (413, "PayloadTooLarge")),
            (b"x", "text/plain; charset=iso-8859-1", (415, "UnsupportedCharset")),
            (b"x", "application/x-www-form-urlencoded", (415, "UnsupportedMediaType")),
            (b"Action=PurgeQueue", "text/unknown", (415, "UnsupportedMediaType")),
        ],
    )
    @pytest.mark.usefixtures("received")
    def test_refused(self, api: Api, method: str, body: bytes, content_type: str, expected: tuple[int, str]) -> None:
        path = "/jobs" if method == "POST" else f"/jobs/{ids.mint()}"
        assert error(api.request(method, path, body, content_type=content_type)) == expected

    @pytest.mark.parametrize(
        "job_id",
        [
            "x",
            "123-a",
            "%20",
            f"{job_id_at(0)}%26MessageBody=x",
            job_id_at(FUTURE),
            job_id_at(-5 * 24 * 3600),
            "a" * 300,
        ],
        ids=["x", "short", "space", "injected", "future", "old", "long"],
    )
    @pytest.mark.usefixtures("received")
    def test_a_bad_id_is_refused(self, api: Api, job_id: str) -> None:
        assert error(api.request("PUT", f"/jobs/{job_id}", b"x", content_type="text/plain")) == (400, "InvalidJobId")

    def test_without_a_queue_it_is_no_202(self, api: Api, aws: Callable[[str], Any]) -> None:
        sqs = aws("sqs")
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=NAMES.queue)["QueueUrl"])
        try:
            assert error(api.request("POST", "/jobs", b"x")) == (502, "QueueRefused")
        finally:
            sqs.create_queue(QueueName=NAMES.queue)


class TestGet:
    def test_a_fresh_id_is_queued(self, api: Api) -> None:
        job_id = ids.mint()
        response = api.request("GET", f"/jobs/{job_id}")
        job = response.json()
        assert (response.status, job["jobId"], job["status"]) == (200, job_id, "QUEUED")
        submitted = datetime.fromisoformat(job["submittedAt"])
        assert round(submitted.timestamp() * 1000) == ids.submitted_ms(job_id)

    @pytest.mark.parametrize(
        "job_id",
        ["x", "%22%7D", job_id_at(FUTURE), job_id_at(-5 * 24 * 3600)],
        ids=["malformed", "quoted", "future", "old"],
    )
    def test_no_such_job(self, api: Api, job_id: str) -> None:
        assert error(api.request("GET", f"/jobs/{job_id}")) == (404, "JobNotFound")

    def test_a_record(self, api: Api, put_record: Callable[..., str]) -> None:
        job_id = put_record(
            status={"S": "FAILED"},
            attempt={"N": "3"},
            maxAttempts={"N": "3"},
            progress={"M": {"fraction": {"N": "0.5"}}},
            error={"M": {"type": {"S": "E"}, "message": {"S": 'said "no"\n\x01 \u2028'}}},
            result={"S": '{"a": [1, null]}'},
            payload={"S": "secret"},
            leaseToken={"S": "secret"},
        )
        response = api.request("GET", f"/jobs/{job_id}", accept="image/png")
        assert (response.status, response.headers["cache-control"]) == (200, "no-store")
        assert response.json() == {
            "jobId": job_id,
            "status": "FAILED",
            "submittedAt": "2026-11-23T06:43:52.123Z",
            "attempt": 3,
            "maxAttempts": 3,
            "progress": {"fraction": 0.5},
            "error": {"type": "E", "message": 'said "no"\n\x01 \u2028'},
            "result": {"a": [1, None]},
        }

    def test_an_expired_record(self, api: Api, put_record: Callable[..., str]) -> None:
        job_id = put_record(expiresAt={"N": str(int(time.time()) - 1)})
        assert error(api.request("GET", f"/jobs/{job_id}")) == (404, "JobNotFound")

    def test_a_body_is_not_passed_on(self, api: Api) -> None:
        call = json.dumps({"TableName": NAMES.table, "Key": {"jobId": {"S": "x"}}}).encode()
        response = api.request("GET", f"/jobs/{ids.mint()}", call, content_type="application/x-amz-json-1.0")
        assert error(response) == (415, "UnsupportedMediaType")


@pytest.fixture
def record(aws: Callable[[str], Any]) -> Callable[[str], dict[str, Any]]:
    def read(job_id: str) -> dict[str, Any]:
        answer = aws("dynamodb").get_item(TableName=NAMES.table, Key={"jobId": {"S": job_id}}, ConsistentRead=True)
        item: dict[str, Any] = answer.get("Item", {})
        return item

    return read


class TestDelete:
    def test_a_job_without_a_record_gets_one(self, api: Api, record: Callable[[str], dict[str, Any]]) -> None:
        job_id = ids.mint()
        response = api.request("DELETE", f"/jobs/{job_id}")
        job = response.json()
        assert (response.status, response.headers["cache-control"]) == (200, "no-store")
        assert (job.pop("finishedAt")[:4], job) == (
            datetime.now(UTC).strftime("%Y"),
            {"jobId": job_id, "status": "CANCELLED", "submittedAt": iso_time(ids.submitted_ms(job_id))},
        )
        item = record(job_id)
        assert item["generation"] == {"N": "1"}
        assert item["statusShard"]["S"] in {f"CANCELLED#{number}" for number in range(SHARDS)}
        assert abs(int(item["expiresAt"]["N"]) - time.time() - SETTINGS.result_seconds) < 60
        assert api.request("GET", f"/jobs/{job_id}").json() == response.json()

    @pytest.mark.parametrize("status", ["QUEUED", "RUNNING"])
    def test_a_job_at_work(
        self, api: Api, put_record: Callable[..., str], record: Callable[[str], dict[str, Any]], status: str
    ) -> None:
        lease = {"leaseToken": {"S": "token"}, "leaseUntil": {"N": "9999999999999"}}
        job_id = put_record(status={"S": status}, attempt={"N": "2"}, generation={"N": "4"}, **lease)
        job = api.request("DELETE", f"/jobs/{job_id}").json()
        assert (job["status"], job["attempt"], job["submittedAt"]) == ("CANCELLED", 2, "2026-11-23T06:43:52.123Z")
        item = record(job_id)
        assert item["generation"] == {"N": "4"}
        # The token stays, as at any other end.
        assert ("leaseUntil" in item, item["leaseToken"]) == (False, {"S": "token"})

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED"])
    def test_a_job_that_has_ended(
        self, api: Api, put_record: Callable[..., str], record: Callable[[str], dict[str, Any]], status: str
    ) -> None:
        job_id = put_record(status={"S": status}, result={"S": '"kept"'})
        before = record(job_id)
        response = api.request("DELETE", f"/jobs/{job_id}")
        assert error(response) == (409, "JobAlreadyEnded")
        assert status in response.json()["message"]
        assert record(job_id) == before

    @pytest.mark.parametrize(
        "job_id",
        ["x", "%22%7D", job_id_at(FUTURE), job_id_at(-5 * 24 * 3600)],
        ids=["malformed", "quoted", "future", "old"],
    )
    def test_no_such_job(self, api: Api, aws: Callable[[str], Any], job_id: str) -> None:
        before = aws("dynamodb").scan(TableName=NAMES.table, Select="COUNT")["Count"]
        assert error(api.request("DELETE", f"/jobs/{job_id}")) == (404, "JobNotFound")
        assert aws("dynamodb").scan(TableName=NAMES.table, Select="COUNT")["Count"] == before

    def test_an_old_job_that_is_still_at_work(self, api: Api, aws: Callable[[str], Any]) -> None:
        job_id = job_id_at(-20 * 24 * 3600)
        item = {"jobId": {"S": job_id}, "status": {"S": "RUNNING"}, "submittedAt": {"S": "2026-11-23T06:43:52.123Z"}}
        aws("dynamodb").put_item(TableName=NAMES.table, Item=item)
        assert api.request("DELETE", f"/jobs/{job_id}").json()["status"] == "CANCELLED"

    def test_an_expired_record(
        self, api: Api, put_record: Callable[..., str], record: Callable[[str], dict[str, Any]]
    ) -> None:
        job_id = put_record(expiresAt={"N": str(int(time.time()) - 1)})
        assert error(api.request("DELETE", f"/jobs/{job_id}")) == (404, "JobNotFound")
        assert record(job_id)["status"] == {"S": "RUNNING"}

    @pytest.mark.parametrize("content_type", ["application/x-amz-json-1.0", "application/json"])
    def test_a_body_is_not_passed_on(self, api: Api, put_record: Callable[..., str], content_type: str) -> None:
        other = put_record()
        call = json.dumps({"TableName": NAMES.table, "Key": {"jobId": {"S": other}}}).encode()
        response = api.request("DELETE", f"/jobs/{ids.mint()}", call, content_type=content_type)
        assert response.status == (200 if content_type == "application/json" else 415)
        assert api.request("GET", f"/jobs/{other}").json()["status"] == "RUNNING"

    def test_of_many_at_once_one_cancels(self, api: Api, put_record: Callable[..., str]) -> None:
        for job_id in (put_record(), ids.mint()):
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _, each=job_id: api.request("DELETE", f"/jobs/{each}"), range(8)))
            assert sorted(answer.status for answer in answers) == [200] + [409] * 7

    @pytest.mark.usefixtures("received")
    def test_a_claim_and_a_cancellation_at_once(self, api: Api, aws: Callable[[str], Any]) -> None:
        for _ in range(20):
            race_with_a_worker(api, aws("dynamodb"))


def race_with_a_worker(api: Api, dynamodb: Any) -> None:
    """Claim, finish and cancel at once: one of the two ends the job, and both are told which."""
    store = DynamoJobStore(BotoApi(dynamodb), NAMES.table, lease_seconds=30, max_attempts=3, result_days=30)
    job_id = ids.mint()

    async def work() -> str:
        claim = await store.claim(NewJob(job_id, "text/plain", "payload"))
        if not isinstance(claim, Claimed):
            assert claim == AlreadyEnded("CANCELLED")
            return "CANCELLED"
        try:
            await store.succeed(claim.lease, Result(json_text="1"))
        except LeaseLostError as error:
            return error.status
        return "SUCCEEDED"

    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(asyncio.run, work())
        status = api.request("DELETE", f"/jobs/{job_id}").status
        ended = told.result()
    assert (status, ended) in ((200, "CANCELLED"), (409, "SUCCEEDED"))
    assert api.request("GET", f"/jobs/{job_id}").json()["status"] == ended
    # What the queue still holds does not start it again.
    assert asyncio.run(store.claim(NewJob(job_id, "text/plain", "payload"))) == AlreadyEnded(ended)


class TestEdge:
    @pytest.mark.parametrize("key", ["", "wrong" * 5])
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/jobs"), ("PUT", "/jobs/x"), ("GET", "/jobs/x"), ("DELETE", "/jobs/x")]
    )
    def test_no_or_wrong_key(self, api: Api, method: str, path: str, key: str) -> None:
        assert error(api.request(method, path, key=key)) == (403, "Forbidden")

    @pytest.mark.parametrize("path", ["/nothing", "/jobs/1/2", "/jobs"])
    def test_no_such_route(self, api: Api, path: str) -> None:
        assert error(api.request("GET", path)) == (404, "NotFound")

    @pytest.mark.parametrize(
        "path",
        ["/jobs", f"/jobs/{job_id_at(0)}", "/", "/openapi.json"],
        ids=["jobs", "job", "page", "document"],
    )
    def test_preflight(self, api: Api, path: str) -> None:
        response = api.request("OPTIONS", path, key="", origin="https://x.example", access_control_request_method="PUT")
        assert (response.status, response.data) == (204, b"")
        assert response.headers["access-control-allow-origin"] == "*"
        assert "X-Api-Key" in response.headers["access-control-allow-headers"]
        assert ("DELETE" in response.headers["access-control-allow-methods"]) is path.startswith("/jobs/")

    def test_the_page(self, api: Api) -> None:
        response = api.request("GET", "/", key="", accept="text/html,application/xhtml+xml")
        assert (response.status, response.data.decode()) == (200, PAGE)
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'sha256-" in response.headers["content-security-policy"]

    def test_the_document(self, api: Api) -> None:
        response = api.request("GET", "/openapi.json", key="")
        assert response.json() == public_document(NAMES, SETTINGS)
        assert "amazon" not in response.data.decode().lower().replace("x-amz", "")

    def test_the_usage_plan_throttles(self, api: Api, aws: Callable[[str], Any]) -> None:
        apigateway = aws("apigateway")
        key = apigateway.create_api_key(name="slow", enabled=True)
        plan = apigateway.create_usage_plan(
            name="slow",
            apiStages=[{"apiId": api.rest_api_id, "stage": "v1"}],
            throttle={"rateLimit": 0.001, "burstLimit": 2},
        )
        apigateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")
        path = f"/jobs/{ids.mint()}"
        answers = [api.request("GET", path, key=key["value"]) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert error(answers[2]) == (429, "TooManyRequests")
        assert answers[2].headers["retry-after"] == "1"

    def test_what_is_not_deployed_does_not_show(self, api: Api, aws: Callable[[str], Any]) -> None:
        apigateway = aws("apigateway")
        changed = json.dumps(render(NAMES, SETTINGS, "<p>changed</p>")).encode()
        apigateway.put_rest_api(restApiId=api.rest_api_id, mode="overwrite", body=changed)
        assert api.request("GET", "/").data.decode() == PAGE
        deployment = apigateway.create_deployment(restApiId=api.rest_api_id)["id"]
        assert api.request("GET", "/").data.decode() == PAGE
        before = apigateway.get_stage(restApiId=api.rest_api_id, stageName="v1")["deploymentId"]
        for deployed, page in ((deployment, "<p>changed</p>"), (before, PAGE)):
            operations = [{"op": "replace", "path": "/deploymentId", "value": deployed}]
            apigateway.update_stage(restApiId=api.rest_api_id, stageName="v1", patchOperations=operations)
            assert api.request("GET", "/").data.decode() == page


class TestImport:
    def test_the_whole_document_is_kept(self, api: Api, aws: Callable[[str], Any]) -> None:
        apigateway = aws("apigateway")
        resources = apigateway.get_resources(restApiId=api.rest_api_id, embed=["methods"], limit=500)["items"]
        put = next(each for each in resources if each["path"] == "/jobs/{id}")["resourceMethods"]["PUT"]
        document = render(NAMES, SETTINGS, PAGE)
        integration = put["methodIntegration"]
        imported = document["paths"]["/jobs/{id}"]["put"]["x-amazon-apigateway-integration"]
        assert put["apiKeyRequired"] is True
        assert put["requestParameters"] == {"method.request.path.id": True}
        assert integration["passthroughBehavior"] == "NEVER"
        assert integration["credentials"] == NAMES.role_arn(NAMES.api_role)
        assert integration["requestTemplates"] == imported["requestTemplates"]
        assert integration["contentHandling"] == "CONVERT_TO_TEXT"
        patterns = {each["selectionPattern"] for each in integration["integrationResponses"].values()}
        assert patterns == {"", "413", r"2\d{2}", r"4(?!13)\d{2}"}

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"paths": {"/": {"get": {}}}}'])
    def test_a_document_that_cannot_be_imported(self, aws: Callable[[str], Any], body: bytes) -> None:
        apigateway = aws("apigateway")
        before = len(apigateway.get_rest_apis()["items"])
        with pytest.raises(apigateway.exceptions.BadRequestException):
            apigateway.import_rest_api(body=body)
        assert len(apigateway.get_rest_apis()["items"]) == before
