"""Every mapping template, by Apache Velocity 1.7 and by the local renderer: the same text and the same overrides."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncjobs.jobs.record import SHARDS, iso_time
from asyncjobs.local.vtl import Parameters, java_value, render
from asyncjobs.names import Names
from asyncjobs.provision import api_document
from asyncjobs.provision.api_document import ApiSettings, vtl_literal

if TYPE_CHECKING:
    from velocity_engine import Velocity

NOW = 1_795_415_032_123
RETENTION = 4 * 24 * 3600
NAMES = Names("demo", "123456789012", "eu-west-1")
DOCUMENT = api_document.render(NAMES, ApiSettings(queue_retention_seconds=RETENTION), "<p>$x #if</p>")
MANY_ORIGINS = api_document.render(
    NAMES, ApiSettings(cors_origins=("https://a.example", "https://b.example")), "<p></p>"
)

NASTY = [
    "plain words",
    "&MessageAttribute.1.Value.StringValue=x",
    "$!{x} $input.body ${context.stage} $util.urlEncode('x')",
    "#if(true)yes#end #set($x = 1) ## gone #* gone *# #[[ raw ]]#",
    "quotes \" and ' and \\ and \\\\ and \\$x and \\#if",
    "emoji 😀 and e\u0301 and 漢字 and \u00a0",
    "tab\tline\ncarriage\r\nreturn",
    "line\u2028and paragraph\u2029separators",
    "{}",
    '{"json": [1, 2.5, null]}',
    "100% + 50% = ~150*%",
    "</script><!--",
]
REFUSED = ["nul\x00", "\x01", "\x1b[0m", "\ufffd", "\ufffe", "\uffff", "ok\x0b"]

Params = Mapping[str, Mapping[str, str]]


def parameters(job_id: str = "", **headers: str) -> Params:
    header = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"path": {"id": job_id} if job_id else {}, "querystring": {}, "header": header}


def both(
    velocity: Velocity, template: str, body: str, given: Params, epoch: int | str = NOW
) -> tuple[str, dict[str, Any]]:
    """The template's text and overrides, having seen that both engines agree on them."""
    context = {
        "requestTimeEpoch": epoch,
        "requestId": "6f1c9e8a-0000-4000-8000-1234567890ab",
        "stage": "v1",
        "path": f"/v1/jobs/{given['path'].get('id', '')}",
        "responseOverride": {"header": {}},
    }
    java_text, java_override = velocity.render(template, body, given, context)
    local_context = java_value(context)
    local_text = render(template, body=body, parameters=Parameters(**given), context=local_context)
    assert local_text == java_text
    assert local_context["responseOverride"] == java_override
    return java_text, java_override


def request_template(path: str, method: str, media_type: str = "application/json") -> str:
    template: str = DOCUMENT["paths"][path][method]["x-amazon-apigateway-integration"]["requestTemplates"][media_type]
    return template


def response_template(path: str, method: str, pattern: str, document: dict[str, Any] = DOCUMENT) -> str:
    answer = document["paths"][path][method]["x-amazon-apigateway-integration"]["responses"][pattern]
    template: str = next(iter(answer["responseTemplates"].values()))
    return template


def sent(text: str) -> dict[str, str]:
    """The SQS parameters, each of which appears once."""
    values = parse_qs(text, keep_blank_values=True, strict_parsing=True)
    assert all(len(each) == 1 for each in values.values())
    return {name: each[0] for name, each in values.items()}


def expected_message(body: str, job_id: str, content_type: str, encoding: str = "") -> dict[str, str]:
    attributes = [("jobId", "String", job_id), ("contentType", "String", content_type)]
    attributes.append(("submittedAt", "Number", str(int(job_id[:13]))))
    if encoding:
        attributes.append(("encoding", "String", encoding))
    message = {"Action": "SendMessage", "Version": "2012-11-05", "MessageBody": body}
    for number, (name, type_, value) in enumerate(attributes, 1):
        prefix = f"MessageAttribute.{number}"
        message |= {f"{prefix}.Name": name, f"{prefix}.Value.DataType": type_, f"{prefix}.Value.StringValue": value}
    return message


GOOD_ID = f"{NOW - 5000}-Ab.c_d-9"
MALFORMED = [
    "x",
    "12-a",
    f"{NOW}-",
    f"{NOW}-{'a' * 65}",
    f"{NOW}-a\n",
    f"{NOW}-a&MessageBody=x",
    f"{NOW}-é",
    f"{NOW}a",
    f'{NOW}-"}}}}',
    "١٢٣٤٥٦٧٨٩٠١٢٣-a",
]


class TestSubmit:
    @pytest.mark.parametrize("epoch", [NOW, str(NOW)], ids=["number", "text"])
    @pytest.mark.parametrize("body", NASTY)
    def test_post_sends_the_body_as_it_is(self, velocity: Velocity, body: str, epoch: int | str) -> None:
        given = parameters(content_type="application/json", Content_Length="9")
        text, _ = both(velocity, request_template("/jobs", "post"), body, given, epoch)
        job_id = f"{NOW}-6f1c9e8a-0000-4000-8000-1234567890ab"
        assert sent(text) == expected_message(body, job_id, "application/json")

    @pytest.mark.parametrize("body", NASTY)
    def test_put_sends_the_body_under_the_callers_id(self, velocity: Velocity, body: str) -> None:
        given = parameters(GOOD_ID, **{"content-type": "text/plain; charset=UTF-8", "content-length": "9"})
        text, _ = both(velocity, request_template("/jobs/{id}", "put", "text/plain"), body, given)
        assert sent(text) == expected_message(body, GOOD_ID, "text/plain; charset=UTF-8")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(body=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    def test_any_text_is_sent_whole_or_refused(self, velocity: Velocity, body: str) -> None:
        given = parameters(**{"Content-Type": "text/plain", "Content-Length": "1"})
        text, _ = both(velocity, request_template("/jobs", "post", "text/plain"), body, given)
        values = sent(text)
        refused = any((ord(c) < 32 and c not in "\t\r\n") or c in "\ufffd\ufffe\uffff" for c in body)
        assert values.get("MessageBody") == (None if refused else body)

    @pytest.mark.parametrize(
        "content_type",
        ["text/plain;a=&MessageBody=x", 'text/plain; q="\'$x#if("', "text/plain; é=%26", "  text/plain "],
    )
    def test_a_content_type_injects_nothing(self, velocity: Velocity, content_type: str) -> None:
        given = parameters(GOOD_ID, **{"CONTENT-TYPE": content_type})
        text, _ = both(velocity, request_template("/jobs/{id}", "put", "text/plain"), "b", given)
        assert sent(text) == expected_message("b", GOOD_ID, content_type.strip())

    def test_a_query_parameter_does_not_pass_for_the_content_type(self, velocity: Velocity) -> None:
        given = dict(parameters()) | {"querystring": {"Content-Type": "evil", "id": "x"}}
        text, _ = both(velocity, request_template("/jobs", "post"), "b", given)
        assert sent(text)["MessageAttribute.2.Value.StringValue"] == "application/json"

    def test_headers_named_like_map_methods_do_no_harm(self, velocity: Velocity) -> None:
        given = parameters(**{"get": "x", "keySet": "y", "content-type": "text/csv"})
        text, _ = both(velocity, request_template("/jobs", "post", "text/csv"), "b", given)
        assert sent(text)["MessageAttribute.2.Value.StringValue"] == "text/csv"

    @pytest.mark.parametrize("body", REFUSED)
    def test_what_is_not_clean_text_is_not_sent(self, velocity: Velocity, body: str) -> None:
        text, _ = both(velocity, request_template("/jobs", "post"), body, parameters())
        assert text == "Action=RefuseText&Version=2012-11-05"

    @pytest.mark.parametrize(
        ("body", "headers", "is_sent"),
        [
            ("", {}, False),
            ("{}", {"content-length": "0", "content-type": "application/json"}, False),
            ("{}", {"content-length": "2", "content-type": "application/json"}, True),
            ("{}", {"content-type": "application/json; charset=utf-8"}, True),
            ("{}", {}, False),
        ],
    )
    def test_an_absent_body_is_not_sent(
        self, velocity: Velocity, body: str, headers: dict[str, str], is_sent: bool
    ) -> None:
        text, _ = both(velocity, request_template("/jobs", "post"), body, parameters(**headers))
        assert ("MessageBody" in sent(text)) is is_sent

    @pytest.mark.parametrize(
        ("content_type", "is_sent"),
        [
            ("text/plain; charset=utf-8", True),
            ('text/plain; Charset="UTF-8"', True),
            ("text/plain;charset=utf8; x=y", True),
            ("text/plain; charset = us-ascii", True),
            ("text/plain; charset=iso-8859-1", False),
            ("text/plain; x=y ;charset='UTF-16'", False),
            ("text/plain; charset=utf-8;charset=latin1", False),
        ],
    )
    def test_text_is_taken_as_utf_8_only(self, velocity: Velocity, content_type: str, is_sent: bool) -> None:
        given = parameters(GOOD_ID, **{"content-type": content_type})
        text, _ = both(velocity, request_template("/jobs/{id}", "put", "text/plain"), "b", given)
        assert ("MessageBody" in sent(text)) is is_sent
        if not is_sent:
            refusal = json.dumps({"Error": {"Code": "MissingParameter", "Message": "no MessageBody"}})
            answer, override = both(velocity, response_template("/jobs/{id}", "put", r"4(?!13)\d{2}"), refusal, given)
            assert (json.loads(answer)["error"], override["status"]) == ("UnsupportedCharset", 415)

    @pytest.mark.parametrize("method", ["post", "put"])
    def test_bytes_travel_as_base64(self, velocity: Velocity, method: str) -> None:
        body = base64.b64encode(bytes(range(256))).decode()
        path = "/jobs" if method == "post" else "/jobs/{id}"
        given = parameters(GOOD_ID if method == "put" else "", **{"content-type": "application/pdf"})
        text, _ = both(velocity, request_template(path, method, "application/pdf"), body, given)
        job_id = GOOD_ID if method == "put" else f"{NOW}-6f1c9e8a-0000-4000-8000-1234567890ab"
        assert sent(text) == expected_message(body, job_id, "application/pdf", "base64")

    @pytest.mark.parametrize("body", ["", "{}", "%PDF-1.7\n\ufffd", "AAA=A"])
    def test_bytes_that_did_not_become_base64_are_not_sent(self, velocity: Velocity, body: str) -> None:
        given = parameters(**{"content-type": "application/pdf"})
        text, _ = both(velocity, request_template("/jobs", "post", "application/pdf"), body, given)
        assert "MessageBody" not in sent(text)

    @pytest.mark.parametrize("job_id", [*MALFORMED, f"{NOW + 60_001}-a", f"{NOW - RETENTION * 1000 - 1}-a"])
    @pytest.mark.parametrize("epoch", [NOW, str(NOW)], ids=["number", "text"])
    def test_nothing_is_sent_under_a_bad_id(self, velocity: Velocity, job_id: str, epoch: int | str) -> None:
        given = parameters(job_id, **{"content-type": "text/plain"})
        text, _ = both(velocity, request_template("/jobs/{id}", "put", "text/plain"), "body", given, epoch)
        assert text == "Action=SendMessage&Version=2012-11-05"
        refusal = json.dumps({"Error": {"Code": "MissingParameter", "Message": "no MessageBody"}})
        answer, override = both(
            velocity, response_template("/jobs/{id}", "put", r"4(?!13)\d{2}"), refusal, given, epoch
        )
        assert json.loads(answer)["error"] == "InvalidJobId"
        assert "status" not in override

    @pytest.mark.parametrize("job_id", [f"{NOW + 60_000}-a", f"{NOW - RETENTION * 1000}-a", f"{NOW}-{'z' * 64}"])
    def test_the_edges_of_the_time_window_are_inside(self, velocity: Velocity, job_id: str) -> None:
        given = parameters(job_id, **{"content-type": "text/plain"})
        text, _ = both(velocity, request_template("/jobs/{id}", "put", "text/plain"), "body", given)
        assert sent(text)["MessageBody"] == "body"

    @pytest.mark.parametrize("method", ["post", "put"])
    def test_accepted(self, velocity: Velocity, method: str) -> None:
        path = "/jobs" if method == "post" else "/jobs/{id}"
        job_id = GOOD_ID if method == "put" else f"{NOW}-6f1c9e8a-0000-4000-8000-1234567890ab"
        given = parameters(GOOD_ID if method == "put" else "")
        text, override = both(velocity, response_template(path, method, r"2\d{2}"), '{"SendMessageResponse":{}}', given)
        assert json.loads(text) == {"jobId": job_id, "status": "QUEUED"}
        assert override == {"header": {"Location": f"/v1/jobs/{job_id}"}}

    @pytest.mark.parametrize("method", ["post", "put"])
    @pytest.mark.parametrize(
        ("code", "reason", "error", "status"),
        [
            ("MissingParameter", "The request must contain the parameter MessageBody.", "EmptyPayload", None),
            ("InvalidAction", "The action RefuseText is not valid for this endpoint.", "InvalidPayload", None),
            ("InvalidMessageContents", "Invalid characters.", "InvalidPayload", None),
            ("InvalidParameterValue", "Reason: Message must be shorter than 1048576 bytes.", "PayloadTooLarge", 413),
            ("RequestThrottled", "Slow down.", "QueueBusy", 503),
            ("OverLimit", "Too many.", "QueueBusy", 503),
            ("AccessDenied", 'Access "denied" $x.', "QueueRefused", 502),
            ("AWS.SimpleQueueService.NonExistentQueue", "No queue.", "QueueRefused", 502),
        ],
    )
    def test_refused(
        self, velocity: Velocity, method: str, code: str, reason: str, error: str, status: int | None
    ) -> None:
        path = "/jobs" if method == "post" else "/jobs/{id}"
        body = json.dumps({"Error": {"Code": code, "Message": reason, "Type": "Sender"}, "RequestId": "r"})
        given = parameters(GOOD_ID if method == "put" else "")
        text, override = both(velocity, response_template(path, method, r"4(?!13)\d{2}"), body, given)
        assert (json.loads(text)["error"], override.get("status")) == (error, status)

    @pytest.mark.parametrize("pattern", ["413", "default"])
    def test_other_failures_have_a_sentence(self, velocity: Velocity, pattern: str) -> None:
        text, _ = both(velocity, response_template("/jobs", "post", pattern), "<html>", parameters())
        assert set(json.loads(text)) == {"error", "message"}


def record(**attributes: Any) -> str:
    item = {
        "jobId": {"S": GOOD_ID},
        "status": {"S": "RUNNING"},
        "submittedAt": {"S": "2026-11-23T06:43:47.123Z"},
        "expiresAt": {"N": str(NOW // 1000 + 60)},
    }
    return json.dumps({"Item": item | attributes})


class TestGet:
    def template(self) -> str:
        return response_template("/jobs/{id}", "get", r"2\d{2}")

    @pytest.mark.parametrize("job_id", [GOOD_ID, "1111111111111-old", f"{NOW + 99999}-future"])
    def test_reads_one_record_without_its_payload(self, velocity: Velocity, job_id: str) -> None:
        text, _ = both(velocity, request_template("/jobs/{id}", "get"), "", parameters(job_id))
        call = json.loads(text)
        assert call["Key"] == {"jobId": {"S": job_id}}
        assert call["ConsistentRead"] is True
        assert call["TableName"] == NAMES.table
        names = call["ExpressionAttributeNames"]
        read = {names.get(each, each) for each in call["ProjectionExpression"].split(",")}
        assert read == {
            "jobId",
            "status",
            "submittedAt",
            "startedAt",
            "finishedAt",
            "attempt",
            "maxAttempts",
            "progress",
        } | {
            "contentType",
            "result",
            "resultLocation",
            "error",
            "expiresAt",
        }

    @pytest.mark.parametrize("job_id", MALFORMED)
    def test_a_malformed_id_reaches_neither_call_nor_answer(self, velocity: Velocity, job_id: str) -> None:
        text, _ = both(velocity, request_template("/jobs/{id}", "get"), "", parameters(job_id))
        assert json.loads(text)["Key"] == {"jobId": {"S": "-"}}
        text, override = both(velocity, self.template(), "{}", parameters(job_id))
        assert (json.loads(text)["error"], override["status"]) == ("JobNotFound", 404)

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(when=st.datetimes(datetime(2001, 9, 10), datetime(2200, 1, 1)), epoch_as_text=st.booleans())
    def test_queued_without_a_record_says_when(self, velocity: Velocity, when: datetime, epoch_as_text: bool) -> None:
        when = when.replace(tzinfo=UTC)
        submitted = (int(when.timestamp()) * 1000) + when.microsecond // 1000
        job_id, now = f"{submitted:013d}-x", submitted + 1000
        text, override = both(velocity, self.template(), "{}", parameters(job_id), str(now) if epoch_as_text else now)
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert json.loads(text) == {"jobId": job_id, "status": "QUEUED", "submittedAt": stamp}
        assert "status" not in override

    @pytest.mark.parametrize(
        "moment",
        [
            "2024-02-29T23:59:59.999Z",
            "2024-03-01T00:00:00.000Z",
            "2100-02-28T12:00:00.010Z",
            "2100-03-01T00:00:00.000Z",
        ],
    )
    def test_leap_years(self, velocity: Velocity, moment: str) -> None:
        submitted = round(datetime.fromisoformat(moment).timestamp() * 1000)
        text, _ = both(velocity, self.template(), "{}", parameters(f"{submitted}-x"), submitted)
        assert json.loads(text)["submittedAt"] == moment

    @pytest.mark.parametrize("job_id", [f"{NOW + 60_001}-a", f"{NOW - RETENTION * 1000 - 1}-a"])
    def test_without_a_record_only_a_fresh_id_is_queued(self, velocity: Velocity, job_id: str) -> None:
        text, override = both(velocity, self.template(), "{}", parameters(job_id))
        assert (json.loads(text)["error"], override["status"]) == ("JobNotFound", 404)

    def test_an_old_id_with_a_record_is_found(self, velocity: Velocity) -> None:
        old = f"{NOW - RETENTION * 5000}-a"
        text, override = both(velocity, self.template(), record(jobId={"S": old}), parameters(old))
        assert json.loads(text)["jobId"] == old
        assert "status" not in override

    @pytest.mark.parametrize("expires", [NOW // 1000, NOW // 1000 - 999])
    def test_an_expired_record_is_not_found(self, velocity: Velocity, expires: int) -> None:
        text, override = both(velocity, self.template(), record(expiresAt={"N": str(expires)}), parameters(GOOD_ID))
        assert (json.loads(text)["error"], override["status"]) == ("JobNotFound", 404)

    def test_a_record_of_the_far_future_expires_then(self, velocity: Velocity) -> None:
        text, _ = both(velocity, self.template(), record(expiresAt={"N": "9999999999"}), parameters(GOOD_ID))
        assert json.loads(text)["status"] == "RUNNING"

    def test_what_is_absent_is_left_out(self, velocity: Velocity) -> None:
        text, _ = both(velocity, self.template(), record(), parameters(GOOD_ID))
        assert json.loads(text) == {"jobId": GOOD_ID, "status": "RUNNING", "submittedAt": "2026-11-23T06:43:47.123Z"}

    def test_an_attempt_that_was_not_counted_is_none(self, velocity: Velocity) -> None:
        text, _ = both(
            velocity, self.template(), record(attempt={"N": "0"}, maxAttempts={"N": "3"}), parameters(GOOD_ID)
        )
        job = json.loads(text)
        assert ("attempt" in job, job["maxAttempts"]) == (False, 3)

    def test_a_whole_record(self, velocity: Velocity) -> None:
        body = record(
            status={"S": "SUCCEEDED"},
            startedAt={"S": "2026-11-23T06:43:48.000Z"},
            finishedAt={"S": "2026-11-23T06:43:49.000Z"},
            attempt={"N": "2"},
            maxAttempts={"N": "3"},
            progress={"M": {"fraction": {"N": "0.25"}, "message": {"S": "a \"quarter\" \u2028 'done'"}}},
            contentType={"S": "text/plain; charset=utf-8"},
            result={"S": '{"a":[1,2,{"b":"$x #if"}],"c":null}'},
        )
        text, _ = both(velocity, self.template(), body, parameters(GOOD_ID))
        assert json.loads(text) == {
            "jobId": GOOD_ID,
            "status": "SUCCEEDED",
            "submittedAt": "2026-11-23T06:43:47.123Z",
            "startedAt": "2026-11-23T06:43:48.000Z",
            "finishedAt": "2026-11-23T06:43:49.000Z",
            "attempt": 2,
            "maxAttempts": 3,
            "progress": {"fraction": 0.25, "message": "a \"quarter\" \u2028 'done'"},
            "contentType": "text/plain; charset=utf-8",
            "result": {"a": [1, 2, {"b": "$x #if"}], "c": None},
        }

    @pytest.mark.parametrize("text", [*NASTY, *REFUSED, ""])
    def test_messages_are_json_whatever_they_hold(self, velocity: Velocity, text: str) -> None:
        body = record(
            error={"M": {"type": {"S": "ValueError"}, "message": {"S": text}}},
            progress={"M": {"fraction": {"N": "1"}, "message": {"S": text}}},
            resultLocation={"M": {"bucket": {"S": "b"}, "key": {"S": text or "k"}}},
        )
        answer, _ = both(velocity, self.template(), body, parameters(GOOD_ID))
        job = json.loads(answer)
        assert job["error"] == {"type": "ValueError", "message": text}
        assert job["progress"].get("message", "") == text
        assert job["resultLocation"] == {"bucket": "b", "key": text or "k"}

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        result=st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**53), 2**53)
            | st.text(st.characters(exclude_categories=["Cs"])),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text("ab$#\"'\\", max_size=3), inner, max_size=3)
            ),
        )
    )
    def test_any_result_is_printed_as_it_is(self, velocity: Velocity, result: Any) -> None:
        body = record(result={"S": json.dumps(result, ensure_ascii=False)})
        text, _ = both(velocity, self.template(), body, parameters(GOOD_ID))
        assert json.loads(text)["result"] == result

    @pytest.mark.parametrize(
        ("kind", "error", "status"),
        [
            ("com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "TableBusy", 503),
            ("com.amazon.coral.availability#ThrottlingException", "TableBusy", 503),
            ("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "TableRefused", None),
        ],
    )
    def test_the_table_refuses(self, velocity: Velocity, kind: str, error: str, status: int | None) -> None:
        template = response_template("/jobs/{id}", "get", r"4\d{2}")
        text, override = both(velocity, template, json.dumps({"__type": kind}), parameters(GOOD_ID))
        assert (json.loads(text)["error"], override.get("status")) == (error, status)


OPEN = "(status IN (:queued,:running) AND (attribute_not_exists(expiresAt) OR expiresAt > :now))"


def refusal(**attributes: Any) -> str:
    """DynamoDB's answer when the condition failed: with the record, if there is one."""
    kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
    return json.dumps({"__type": kind, "message": "The conditional request failed", **attributes})


class TestDelete:
    def call(self, velocity: Velocity, job_id: str, epoch: int | str = NOW) -> dict[str, Any]:
        text, _ = both(velocity, request_template("/jobs/{id}", "delete"), "", parameters(job_id), epoch)
        call: dict[str, Any] = json.loads(text)
        # DynamoDB refuses a call with a name or value that no expression uses.
        used = call["UpdateExpression"] + call["ConditionExpression"]
        for name in (*call["ExpressionAttributeNames"], *call["ExpressionAttributeValues"]):
            assert re.search(rf"{name}\b", used)
        return call

    @pytest.mark.parametrize("epoch", [NOW, str(NOW)], ids=["number", "text"])
    def test_cancels_what_has_not_ended_or_has_no_record_yet(self, velocity: Velocity, epoch: int | str) -> None:
        call = self.call(velocity, GOOD_ID, epoch)
        names = call["ExpressionAttributeNames"]
        expression = re.sub(r"#\w", lambda match: names[match[0]], call["UpdateExpression"])
        assert expression == (
            "SET status = :cancelled, statusShard = :shard, finishedAt = :finished, expiresAt = :expires,"
            "submittedAt = if_not_exists(submittedAt, :submitted), generation = if_not_exists(generation, :first) "
            "REMOVE leaseUntil"
        )
        condition = re.sub(r"#\w", lambda match: names[match[0]], call["ConditionExpression"])
        assert condition == f"(attribute_not_exists(jobId) OR {OPEN})"
        assert call["ExpressionAttributeValues"] == {
            ":cancelled": {"S": "CANCELLED"},
            ":shard": {"S": f"CANCELLED#{NOW % SHARDS}"},
            ":finished": {"S": iso_time(NOW)},
            ":submitted": {"S": iso_time(NOW - 5000)},
            ":expires": {"N": str(NOW // 1000 + 30 * 86_400)},
            ":first": {"N": "1"},
            ":queued": {"S": "QUEUED"},
            ":running": {"S": "RUNNING"},
            ":now": {"N": str(NOW // 1000)},
        }
        assert (call["TableName"], call["Key"]) == (NAMES.table, {"jobId": {"S": GOOD_ID}})
        assert call["ReturnValues"] == "ALL_NEW"
        assert call["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"

    @pytest.mark.parametrize("job_id", [*MALFORMED, f"{NOW + 60_001}-a", f"{NOW - RETENTION * 1000 - 1}-a"])
    def test_makes_no_record_under_a_bad_id(self, velocity: Velocity, job_id: str) -> None:
        call = self.call(velocity, job_id)
        names = call["ExpressionAttributeNames"]
        assert re.sub(r"#\w", lambda match: names[match[0]], call["ConditionExpression"]) == OPEN
        assert call["Key"] == {"jobId": {"S": "-" if job_id in MALFORMED else job_id}}

    def test_an_id_ahead_of_the_clock_is_kept_from_its_own_time_on(self, velocity: Velocity) -> None:
        values = self.call(velocity, f"{NOW + 60_000}-a")["ExpressionAttributeValues"]
        assert values[":expires"] == {"N": str(NOW // 1000 + 60 + 30 * 86_400)}

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(now=st.integers(1_000_000_000_000, 4_000_000_000_000), age=st.integers(0, RETENTION * 1000))
    def test_times_are_those_of_the_worker(self, velocity: Velocity, now: int, age: int) -> None:
        values = self.call(velocity, f"{now - age:013d}-x", now)["ExpressionAttributeValues"]
        assert values[":finished"] == {"S": iso_time(now)}
        assert values[":submitted"] == {"S": iso_time(now - age)}

    def test_answers_the_job_as_get_does(self, velocity: Velocity) -> None:
        attributes = {"status": {"S": "CANCELLED"}, "attempt": {"N": "1"}, "maxAttempts": {"N": "3"}}
        attributes |= {"contentType": {"S": 'text/plain; x="$y"'}, "finishedAt": {"S": iso_time(NOW)}}
        found = record(**attributes, payload={"S": "secret"}, leaseToken={"S": "secret"})
        got, _ = both(velocity, response_template("/jobs/{id}", "get", r"2\d{2}"), found, parameters(GOOD_ID))
        cancelled = json.dumps({"Attributes": json.loads(found)["Item"]})
        template = response_template("/jobs/{id}", "delete", r"2\d{2}")
        text, override = both(velocity, template, cancelled, parameters(GOOD_ID))
        assert json.loads(text) == json.loads(got)
        assert override == {"header": {}}

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "CANCELLED"])
    def test_what_has_ended_is_a_conflict(self, velocity: Velocity, status: str) -> None:
        template = response_template("/jobs/{id}", "delete", r"4\d{2}")
        body = refusal(**json.loads(record(status={"S": status})))
        text, override = both(velocity, template, body, parameters(GOOD_ID))
        assert (json.loads(text)["error"], override["status"]) == ("JobAlreadyEnded", 409)
        assert status in json.loads(text)["message"]

    @pytest.mark.parametrize("job_id", [*MALFORMED, f"{NOW + 60_001}-a", f"{NOW - RETENTION * 1000 - 1}-a"])
    def test_a_bad_id_without_a_record_is_not_found(self, velocity: Velocity, job_id: str) -> None:
        template = response_template("/jobs/{id}", "delete", r"4\d{2}")
        text, override = both(velocity, template, refusal(), parameters(job_id))
        assert (json.loads(text)["error"], override["status"]) == ("JobNotFound", 404)

    def test_an_expired_record_is_not_found(self, velocity: Velocity) -> None:
        template = response_template("/jobs/{id}", "delete", r"4\d{2}")
        body = refusal(**json.loads(record(expiresAt={"N": str(NOW // 1000)})))
        text, override = both(velocity, template, body, parameters(GOOD_ID))
        assert (json.loads(text)["error"], override["status"]) == ("JobNotFound", 404)

    @pytest.mark.parametrize(
        ("kind", "error", "status"),
        [
            ("com.amazon.coral.availability#ThrottlingException", "TableBusy", 503),
            ("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "TableRefused", None),
        ],
    )
    def test_the_table_refuses(self, velocity: Velocity, kind: str, error: str, status: int | None) -> None:
        template = response_template("/jobs/{id}", "delete", r"4\d{2}")
        text, override = both(velocity, template, json.dumps({"__type": kind}), parameters(GOOD_ID))
        assert (json.loads(text)["error"], override.get("status")) == (error, status)


class TestPages:
    def test_the_page_arrives_unchanged_with_its_policy(self, velocity: Velocity) -> None:
        text, override = both(velocity, response_template("/", "get", "default"), "{}", parameters())
        assert text == "<p>$x #if</p>"
        assert override["header"]["Content-Security-Policy"].startswith("default-src 'none'; script-src 'none'")

    def test_the_public_document_is_json(self, velocity: Velocity) -> None:
        text, _ = both(velocity, response_template("/openapi.json", "get", "default"), "{}", parameters())
        assert json.loads(text) == api_document.public_document(NAMES, ApiSettings(queue_retention_seconds=RETENTION))

    def test_every_template_of_the_document_renders_alike(self, velocity: Velocity) -> None:
        for document in (DOCUMENT, MANY_ORIGINS):
            for path in document["paths"].values():
                for method, operation in path.items():
                    if method == "parameters":
                        continue
                    integration = operation["x-amazon-apigateway-integration"]
                    answers = integration["responses"].values()
                    templates = set(integration["requestTemplates"].values())
                    templates |= {each for answer in answers for each in answer["responseTemplates"].values()}
                    for template in templates:
                        both(velocity, template, record(), parameters(GOOD_ID, origin="https://b.example"))

    @pytest.mark.parametrize(
        ("origin", "allowed"), [("https://a.example", True), ("https://b.example", True), ("https://c.example", False)]
    )
    def test_one_of_several_origins_is_picked(self, velocity: Velocity, origin: str, allowed: bool) -> None:
        template = response_template("/jobs/{id}", "options", "default", MANY_ORIGINS)
        text, override = both(velocity, template, "{}", parameters(GOOD_ID, Origin=origin))
        assert text == ""
        assert override["header"] == ({"Access-Control-Allow-Origin": origin} if allowed else {})

    @pytest.mark.parametrize(
        "text", [*NASTY, "\n\n lines \n", "  blank", "#", "$", "\\", "\\\\$x", "$$##", "${D}", "#end"]
    )
    def test_a_literal_prints_itself(self, velocity: Velocity, text: str) -> None:
        assert both(velocity, vtl_literal(text), "", parameters())[0] == text

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(st.sampled_from("$#{}!()[]\\\"'*@.-_ \t\nabDHBEif😀\u2028"), max_size=40))
    def test_any_literal_prints_itself(self, velocity: Velocity, text: str) -> None:
        assert both(velocity, vtl_literal(text), "", parameters())[0] == text


@pytest.mark.parametrize("character", ["a", "😀", '"'])
def test_a_payload_of_the_largest_size_is_no_trouble(velocity: Velocity, character: str) -> None:
    body = character * (2 * 1024 * 1024 // len(character.encode()))
    text, _ = both(velocity, request_template("/jobs", "post"), body, parameters())
    assert sent(text)["MessageBody"] == body
