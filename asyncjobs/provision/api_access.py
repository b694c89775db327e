"""Who may call the API: a key, and the usage plan that limits it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from asyncjobs.aws import has_code, was_repeated
from asyncjobs.provision.context import Context, differing
from asyncjobs.provision.lock import Lock
from asyncjobs.provision.resource import Inputs, State, require_ours

if TYPE_CHECKING:
    from mypy_boto3_apigateway.type_defs import PatchOperationTypeDef, UsagePlanResponseTypeDef

_PARTS = {"key id", "plan id"}
_USAGE_PLAN_RATE = "API Gateway takes one usage-plan change every 20 seconds"
_limited = has_code("TooManyRequestsException")


class ApiAccess:
    """The API key and its usage plan. There only where `api.auth` is "api-key": deleted once it is not."""

    step = "api-key"
    needs = ("api",)
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context, lock: Lock) -> None:
        self._context = context
        self._lock = lock
        self._apigateway = context.clients.apigateway
        self._settings = context.config.api
        self.title = f"API key and usage plan {context.names.api_key}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any] | None:
        return self._wanted(inputs) if self._settings.auth == "api-key" else None

    def _wanted(self, inputs: Inputs) -> dict[str, Any]:
        return {
            "rate": float(self._settings.rate),
            "burst": self._settings.burst,
            "monthly quota": self._settings.quota,
            "stages": [f"{inputs.get('api', 'id')}:{inputs.get('api', 'stage')}"],
            "key": True,
            "tags": self._context.tags,
            "spare copies": [],
        }

    def read(self) -> State | None:
        keys, plans = self._find_keys(), self._find_plans()
        if not (keys or plans):
            return None
        key, plan = next(iter(keys), None), next(iter(plans), None)
        outputs = {"key id": key["id"], "key": key.get("value", "")} if key else {}
        properties: dict[str, Any] = {"key": False}
        if plan:
            outputs["plan id"] = plan["id"]
            members = self._apigateway.get_usage_plan_keys(usagePlanId=plan["id"]).get("items", [])
            properties = {
                "rate": plan.get("throttle", {}).get("rateLimit"),
                "burst": plan.get("throttle", {}).get("burstLimit"),
                "monthly quota": plan.get("quota", {}).get("limit"),
                "stages": _stages(plan),
                "tags": self._tags(key, plan),
                "key": bool(key) and any(member["id"] == outputs["key id"] for member in members),
            }
        return State(outputs, {**properties, "spare copies": [*keys[1:], *plans[1:]]})

    def create(self, inputs: Inputs) -> State:
        found = State()

        def find() -> State | None:
            nonlocal found
            found = self.read() or State()
            return found if found.outputs.keys() >= _PARTS else None

        state = self._lock.once(
            find, lambda: self._make(found, inputs), step=self.step, limited=_limited, reason=_USAGE_PLAN_RATE
        )
        return self.update(state, differing(self._wanted(inputs), state), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if not state.outputs.keys() >= _PARTS:
            return self.create(inputs)
        plan = state.outputs["plan id"]
        if "spare copies" in changed:
            self._delete_spares(state)
        if changed & {"rate", "burst", "monthly quota", "stages"}:
            self._update_plan(plan, state, inputs)
        if "key" in changed:
            self._join(plan, state.outputs["key id"])
        if "tags" in changed:
            self._tag(state)
        return state

    def _make(self, found: State, inputs: Inputs) -> State:
        """What is missing of the two; names are not unique, so making what is there would make another."""
        outputs, repeated = dict(found.outputs), False
        if "key id" not in outputs:
            key = self._apigateway.create_api_key(
                name=self._context.names.api_key,
                description=f"asyncjobs stack {self._context.names.stack}",
                enabled=True,
                tags=self._context.tags,
            )
            outputs |= {"key id": key["id"], "key": key["value"]}
            repeated = was_repeated(key)
        properties = found.properties
        if "plan id" not in outputs:
            plan = self._create_plan(inputs)
            outputs["plan id"], properties = plan["id"], self._wanted(inputs)
            repeated = repeated or was_repeated(plan)
        made = State(outputs, {**properties, "key": False})
        return (self.read() if repeated else None) or made

    def delete(self, state: State) -> None:
        """Every key and plan of our name and tag."""
        self._delete_spares(state)
        if "plan id" in state.outputs:
            self._delete_plan(state.outputs["plan id"], state.properties["stages"])
        if "key id" in state.outputs:
            self._delete_key(state.outputs["key id"])

    def _delete_spares(self, state: State) -> None:
        for spare in state.properties["spare copies"]:
            if "value" in spare:
                self._delete_key(spare["id"])
            else:
                self._delete_plan(spare["id"], _stages(spare))

    def _delete_plan(self, plan: str, stages: Iterable[str]) -> None:
        # AWS refuses to delete a plan that still has stages.
        for stage in stages:
            self._patch(plan, [{"op": "remove", "path": "/apiStages", "value": stage}])
        self._gone(lambda: self._apigateway.delete_usage_plan(usagePlanId=plan))

    def _delete_key(self, key: str) -> None:
        self._gone(lambda: self._apigateway.delete_api_key(apiKey=key))

    def _create_plan(self, inputs: Inputs) -> UsagePlanResponseTypeDef:
        return self._apigateway.create_usage_plan(
            name=self._context.names.usage_plan,
            description=f"asyncjobs stack {self._context.names.stack}",
            apiStages=[{"apiId": inputs.get("api", "id"), "stage": inputs.get("api", "stage")}],
            throttle={"rateLimit": self._settings.rate, "burstLimit": self._settings.burst},
            quota={"limit": self._settings.quota, "period": "MONTH"},
            tags=self._context.tags,
        )

    def _update_plan(self, plan: str, state: State, inputs: Inputs) -> None:
        values = {
            "/throttle/rateLimit": f"{self._settings.rate:g}",
            "/throttle/burstLimit": str(self._settings.burst),
            "/quota/limit": str(self._settings.quota),
            "/quota/period": "MONTH",
        }
        operations: list[PatchOperationTypeDef] = [
            {"op": "replace", "path": path, "value": value} for path, value in values.items()
        ]
        wanted, found = self._wanted(inputs)["stages"], state.properties["stages"]
        operations += [{"op": "remove", "path": "/apiStages", "value": s} for s in found if s not in wanted]
        operations += [{"op": "add", "path": "/apiStages", "value": s} for s in wanted if s not in found]
        self._patch(plan, operations)

    def _tags(self, key: Any, plan: Any) -> dict[str, str]:
        """What both have."""
        found = [one.get("tags", {}) for one in (key, plan) if one]
        shared = {name: text for name, text in found[0].items() if all(tags.get(name) == text for tags in found)}
        return self._context.ours(shared)

    def _tag(self, state: State) -> None:
        """What was there before; what was made just now has its tags."""
        for path, output in (("/apikeys/", "key id"), ("/usageplans/", "plan id")):
            if output in state.outputs:
                arn = self._context.names.api_gateway_arn(path + state.outputs[output])
                self._apigateway.tag_resource(resourceArn=arn, tags=self._context.tags)

    def _join(self, plan: str, key: str) -> None:
        try:
            self._apigateway.create_usage_plan_key(usagePlanId=plan, keyId=key, keyType="API_KEY")
        except self._apigateway.exceptions.ConflictException:
            return  # it is in the plan already

    def _patch(self, plan: str, operations: list[PatchOperationTypeDef]) -> None:
        self._retry(
            lambda: self._gone(lambda: self._apigateway.update_usage_plan(usagePlanId=plan, patchOperations=operations))
        )

    def _gone(self, call: Any) -> None:
        try:
            call()
        except self._apigateway.exceptions.NotFoundException:
            return

    def _find_keys(self) -> list[Any]:
        name = self._context.names.api_key
        pages = self._apigateway.get_paginator("get_api_keys").paginate(nameQuery=name, includeValues=True)
        return self._ours([key for page in pages for key in page["items"] if key.get("name") == name])

    def _find_plans(self) -> list[Any]:
        name = self._context.names.usage_plan
        pages = self._apigateway.get_paginator("get_usage_plans").paginate()
        return self._ours([plan for page in pages for plan in page["items"] if plan.get("name") == name])

    def _ours(self, namesakes: list[Any]) -> list[Any]:
        """Names are not unique: of all that bear ours, those with our tag."""
        tag = self._context.names.tags.items()
        ours = [one for one in namesakes if tag <= one.get("tags", {}).items()]
        if namesakes and not ours:
            require_ours(namesakes[0].get("tags", {}), self._context.names.stack, self.title)
        return sorted(ours, key=lambda one: one["id"])

    def _retry(self, call: Any) -> Any:
        return self._context.waiter.retry(call, step=self.step, on=_limited, reason=_USAGE_PLAN_RATE, timeout=180)


def _stages(plan: Any) -> list[str]:
    return [f"{stage['apiId']}:{stage['stage']}" for stage in plan.get("apiStages", [])]
