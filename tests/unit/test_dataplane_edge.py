from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.local.dataplane.deployed import Deployed
from asyncjobs.local.dataplane.edge import Edge
from asyncjobs.local.dataplane.model import GatewayError, Request, Route
from asyncjobs.local.dataplane.routing import find_route
from asyncjobs.local.dataplane.throttle import Quota, Throttle

DAY = 86_400


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def request(**headers: str) -> Request:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", "v1", "/jobs/1", {}, sent, b"", "127.0.0.1", "r", 0)


def deployed(plan: dict[str, Any] | None = None, stage: dict[str, Any] | None = None, **parts: Any) -> Deployed:
    plans = {"secret": ("key-id", {"id": "plan", **(plan or {})})}
    return Deployed(stage or {}, {"api": {}, "resources": {"item": []}, "validators": {}, **parts}, plans)


def refusal(edge: Edge, asked: Request, route: Route, api: Deployed) -> str:
    with pytest.raises(GatewayError) as refused:
        edge.admit(asked, route, api)
    return refused.value.kind


KEYED = Route("/jobs/{id}", {"apiKeyRequired": True}, {"id": "1"})


RESOURCES = [
    {"path": "/", "resourceMethods": {"GET": {"n": "root"}}},
    {"path": "/jobs", "resourceMethods": {"POST": {"n": "jobs"}}},
    {"path": "/jobs/{id}", "resourceMethods": {"GET": {"n": "job"}}},
    {"path": "/jobs/stats", "resourceMethods": {"GET": {"n": "stats"}}},
    {"path": "/files/{rest+}", "resourceMethods": {"ANY": {"n": "files"}}},
    {"path": "/empty", "resourceMethods": None},
]


class TestRouting:
    @pytest.mark.parametrize(
        ("method", "path", "name", "parameters"),
        [
            ("GET", "/", "root", {}),
            ("GET", "/jobs/1-a", "job", {"id": "1-a"}),
            ("GET", "/jobs/a%20b%2Fc", "job", {"id": "a b/c"}),
            ("GET", "/jobs/stats", "stats", {}),
            ("POST", "/jobs/", "jobs", {}),
            ("DELETE", "/files/a/b%20c", "files", {"rest": "a/b c"}),
        ],
    )
    def test_found(self, method: str, path: str, name: str, parameters: dict[str, str]) -> None:
        route = find_route(RESOURCES, method, path)
        assert route is not None
        assert (route.method["n"], route.path_parameters) == (name, parameters)

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/jobs"), ("POST", "/jobs/1"), ("GET", "/jobs/1/2"), ("GET", "/files"), ("GET", "/empty")],
    )
    def test_not_found(self, method: str, path: str) -> None:
        assert find_route(RESOURCES, method, path) is None


class TestLimits:
    def test_a_bucket_holds_a_burst_and_fills_at_its_rate(self) -> None:
        clock = Clock()
        throttle = Throttle(clock)
        assert [throttle.allows("k", 2, 3) for _ in range(4)] == [True, True, True, False]
        clock.now = 0.5
        assert [throttle.allows("k", 2, 3) for _ in range(2)] == [True, False]
        clock.now = 100
        assert [throttle.allows("k", 2, 3) for _ in range(4)] == [True, True, True, False]

    def test_subjects_do_not_share_and_a_changed_limit_counts_at_once(self) -> None:
        throttle = Throttle(Clock())
        assert throttle.allows("a", 1, 1)
        assert throttle.allows("b", 1, 1)
        assert not throttle.allows("a", 1, 1)
        assert throttle.allows("a", 1, 5)

    @pytest.mark.parametrize(("period", "days"), [("DAY", 1), ("WEEK", 7), ("MONTH", 31)])
    def test_a_quota_starts_anew_with_its_period(self, period: str, days: int) -> None:
        clock = Clock(1_795_415_032)
        quota = Quota(clock)
        assert [quota.allows("k", 2, period) for _ in range(3)] == [True, True, False]
        clock.now += days * DAY
        assert quota.allows("k", 2, period)


class TestEdge:
    def test_a_key_of_the_stage_is_let_in(self) -> None:
        assert Edge("test").admit(request(x_api_key="secret"), KEYED, deployed()) == "key-id"

    @pytest.mark.parametrize("headers", [{}, {"x_api_key": "other"}, {"x_api_key": ""}])
    def test_others_are_not(self, headers: dict[str, str]) -> None:
        assert refusal(Edge("test"), request(**headers), KEYED, deployed()) == "INVALID_API_KEY"

    def test_the_plans_rate_and_quota(self) -> None:
        clock = Clock()
        edge = Edge("test", monotonic=clock, clock=clock)
        api = deployed(plan={"throttle": {"rateLimit": 1.0, "burstLimit": 1}, "quota": {"limit": 2, "period": "DAY"}})
        asked = request(x_api_key="secret")
        edge.admit(asked, KEYED, api)
        assert refusal(edge, asked, KEYED, api) == "THROTTLED"
        clock.now = 1
        edge.admit(asked, KEYED, api)
        clock.now = 2
        assert refusal(edge, asked, KEYED, api) == "QUOTA_EXCEEDED"

    @pytest.mark.parametrize("setting", ["*/*", "~1jobs~1{id}/GET"])
    def test_the_stages_rate(self, setting: str) -> None:
        api = deployed(stage={"methodSettings": {setting: {"throttlingRateLimit": 1.0, "throttlingBurstLimit": 1}}})
        edge = Edge("test", monotonic=Clock(), clock=Clock())
        edge.admit(request(), Route("/jobs/{id}", {}), api)
        assert refusal(edge, request(), Route("/jobs/{id}", {}), api) == "THROTTLED"
        edge.admit(request(), Route("/other", {}), api)

    @pytest.mark.parametrize(
        ("authorization", "kind"),
        [("", "MISSING_AUTHENTICATION_TOKEN"), ("AWS4-HMAC-SHA256 Credential=other/2026/x", "INVALID_SIGNATURE")],
    )
    def test_a_signed_method(self, authorization: str, kind: str) -> None:
        route = Route("/jobs", {"authorizationType": "AWS_IAM"})
        assert refusal(Edge("test"), request(authorization=authorization), route, deployed()) == kind
        signed = request(authorization="AWS4-HMAC-SHA256 Credential=test/20261123/eu-west-1/execute-api/aws4_request")
        Edge("test").admit(signed, route, deployed())

    def test_required_parameters(self) -> None:
        validators = {"item": [{"id": "v", "validateRequestParameters": True}]}
        method = {
            "requestValidatorId": "v",
            "requestParameters": {
                "method.request.header.X-Must": True,
                "method.request.querystring.q": True,
                "method.request.header.X-May": False,
                "method.request.path.id": True,
            },
        }
        api = deployed(validators=validators)
        with pytest.raises(GatewayError, match=r"\[X-Must, q\]") as refused:
            Edge("test").admit(request(), Route("/jobs/{id}", method, {"id": "1"}), api)
        assert refused.value.kind == "BAD_REQUEST_PARAMETERS"
        Edge("test").admit(request(), Route("/jobs/{id}", {**method, "requestValidatorId": None}), api)
