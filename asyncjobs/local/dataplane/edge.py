"""What API Gateway checks before it calls an integration: the caller, limits, parameters."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping

from asyncjobs.local.dataplane.deployed import Deployed
from asyncjobs.local.dataplane.model import GatewayError, Json, Request, Route
from asyncjobs.local.dataplane.throttle import Quota, Throttle


class Edge:
    """Lets a request through, or raises the GatewayError it is answered with.

    Args:
        access_key: Whose signature an IAM-authorized method takes. The signature itself is not computed again: all
            that is asked of a caller on this machine is to sign with the local keys.
    """

    def __init__(
        self,
        access_key: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access_key = access_key
        self._throttle = Throttle(monotonic)
        self._quota = Quota(clock)

    def admit(self, request: Request, route: Route, deployed: Deployed) -> str:
        """Checks all, and returns the id of the caller's API key, if it has to have one."""
        if route.method.get("authorizationType") == "AWS_IAM":
            self._check_signature(request)
        key_id = ""
        if route.method.get("apiKeyRequired"):
            key_id, plan = self._check_key(request, deployed)
            self._check_plan(key_id, plan)
        self._check_stage_limits(request, route, deployed)
        _check_parameters(request, route, deployed.validator(route.method.get("requestValidatorId")))
        return key_id

    def _check_signature(self, request: Request) -> None:
        authorization = request.headers.get("authorization", "")
        if not authorization:
            raise GatewayError("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
        presented = authorization.removeprefix("AWS4-HMAC-SHA256 Credential=").partition("/")[0]
        if not hmac.compare_digest(presented.encode(), self._access_key.encode()):
            raise GatewayError("INVALID_SIGNATURE", "The security token included in the request is invalid.")

    def _check_key(self, request: Request, deployed: Deployed) -> tuple[str, Json]:
        try:
            return deployed.plans[request.headers.get("x-api-key", "")]
        except KeyError:
            raise GatewayError("INVALID_API_KEY", "Forbidden") from None

    def _check_plan(self, key_id: str, plan: Json) -> None:
        limits = plan.get("throttle") or {}
        self._check_rate(("plan", plan["id"], key_id), limits.get("rateLimit"), limits.get("burstLimit"))
        quota = plan.get("quota") or {}
        subject = (plan["id"], key_id)
        if quota and not self._quota.allows(subject, int(quota["limit"]), quota.get("period", "DAY")):
            raise GatewayError("QUOTA_EXCEEDED", "Limit Exceeded")

    def _check_stage_limits(self, request: Request, route: Route, deployed: Deployed) -> None:
        settings = deployed.stage.get("methodSettings") or {}
        own = f"{route.resource_path.replace('/', '~1')}/{request.method}"
        # One bucket per method even under `*/*`: the stage's setting is a default for each.
        limits = settings.get(own) or settings.get("*/*") or {}
        rate, burst = limits.get("throttlingRateLimit"), limits.get("throttlingBurstLimit")
        self._check_rate(("stage", request.stage, own), rate, burst)

    def _check_rate(self, subject: tuple[str, ...], rate: float | None, burst: float | None) -> None:
        if rate is None or float(rate) < 0:
            return
        if not self._throttle.allows(subject, float(rate), float(rate if burst is None else burst)):
            raise GatewayError("THROTTLED", "Too Many Requests")


def _check_parameters(request: Request, route: Route, validator: Json) -> None:
    """Required parameters, when the method's validator looks at them. Bodies are not validated here."""
    if not validator.get("validateRequestParameters"):
        return
    places: dict[str, Mapping[str, str]] = {
        "path": route.path_parameters,
        "querystring": request.query,
        "header": request.headers,
    }
    missing = []
    for parameter, required in (route.method.get("requestParameters") or {}).items():
        place, name = parameter.removeprefix("method.request.").split(".", 1)
        if required and not places[place].get(name.lower() if place == "header" else name):
            missing.append(name)
    if missing:
        raise GatewayError("BAD_REQUEST_PARAMETERS", f"Missing required request parameters: [{', '.join(missing)}]")
