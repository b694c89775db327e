"""The REST API: one OpenAPI document, deployed to one stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asyncjobs.assets import read_template
from asyncjobs.aws import error_code, error_message, has_code, was_repeated
from asyncjobs.provision.api_document import ApiSettings, render
from asyncjobs.provision.context import Context, differing
from asyncjobs.provision.lock import Lock
from asyncjobs.provision.queue import DAY, MAX_MESSAGE_BYTES
from asyncjobs.provision.resource import Inputs, State, require_ours

if TYPE_CHECKING:
    from mypy_boto3_apigateway.type_defs import PatchOperationTypeDef, RestApiTypeDef

_HASH_PREFIX = "asyncjobs document "
_ALL_METHODS = "/*/*"


class RestApi:
    step = "api"
    # The document names the queue, the table and the role by their derived ARNs, but importing it before the role
    # exists would let a first request meet a missing role.
    needs = ("api-role", "queue", "table")
    fixed = frozenset({"stage"})

    def __init__(self, context: Context, lock: Lock) -> None:
        self._context = context
        self._lock = lock
        self._apigateway = context.clients.apigateway
        self._name = context.names.rest_api
        self._settings = context.config.api
        self.title = f"REST API {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {
            "stage": self._settings.stage,
            "document": _hash(self._document()),
            "rate": float(self._settings.rate),
            "burst": self._settings.burst,
            "tags": self._context.tags,
            "spare copies": [],
        }

    def read(self) -> State | None:
        apis = self._find_all()
        return self._state(*apis) if apis else None

    def _state(self, api: Mapping[str, Any], *spare: Mapping[str, Any]) -> State:
        shared = {"tags": self._context.ours(api.get("tags", {})), "spare copies": [one["id"] for one in spare]}
        stages = self._apigateway.get_stages(restApiId=api["id"]).get("item", [])
        stage = next((one for one in stages if one["stageName"] == self._settings.stage), stages[0] if stages else None)
        if stage is None:
            # Cut off before it was deployed: everything but the API itself is still to be done.
            return State(self._outputs(api["id"]), {"stage": self._settings.stage, **shared})
        limits = stage.get("methodSettings", {}).get("*/*", {})
        return State(
            self._outputs(api["id"], stage["stageName"]),
            {
                "stage": stage["stageName"],
                "document": self._deployed(api["id"], stage["deploymentId"]),
                "rate": limits.get("throttlingRateLimit"),
                "burst": limits.get("throttlingBurstLimit"),
                **shared,
            },
        )

    def create(self, inputs: Inputs) -> State:
        # Made empty, with its tag, and then filled: ImportRestApi takes no tags, so a crash between import and
        # tagging would leave an API that nobody owns, and names are not unique.
        api: Mapping[str, Any] = self._lock.once(
            lambda: next(iter(self._find_all()), None),
            lambda: self._apigateway.create_rest_api(
                name=self._name,
                description=f"asyncjobs stack {self._context.names.stack}",
                endpointConfiguration={"types": ["REGIONAL"]},
                tags=self._context.tags,
            ),
            step=self.step,
            limited=_limited,
            reason="API Gateway takes one new API every 3 seconds",
        )
        # A call that was repeated may have made two; another `up` may have made it, and be filling it now.
        repeated = "ResponseMetadata" in api and was_repeated(api)
        state = (self.read() if repeated else None) or self._state(api)
        return self.update(state, differing(self.desired(inputs), state), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        api = state.outputs["id"]
        if "spare copies" in changed:
            for spare in state.properties["spare copies"]:
                self._delete(spare)
        if "document" in changed:
            document = self._document()
            body = json.dumps(document, ensure_ascii=False).encode()
            self._context.waiter.retry(
                lambda: self._apigateway.put_rest_api(restApiId=api, mode="overwrite", body=body),
                **self._rate_limit("API Gateway takes one import a second"),
            )
            self._deploy(api, _hash(document))
        if changed & {"rate", "burst"}:
            self._throttle(api)
        if "tags" in changed:
            arn = self._context.names.api_gateway_arn(f"/restapis/{api}")
            self._apigateway.tag_resource(resourceArn=arn, tags=self._context.tags)
        return state

    def delete(self, state: State) -> None:
        """Every API of our name and tag."""
        self._lock.clear()
        for api in (state.outputs["id"], *state.properties.get("spare copies", [])):
            self._delete(api)

    def _delete(self, api: str) -> None:
        def call() -> None:
            try:
                self._apigateway.delete_rest_api(restApiId=api)
            except self._apigateway.exceptions.NotFoundException:
                return

        self._context.waiter.retry(call, **self._rate_limit("API Gateway deletes one API every 30 seconds"))

    def _document(self) -> dict[str, Any]:
        settings = ApiSettings(
            auth=self._settings.auth,
            stage=self._settings.stage,
            cors_origins=tuple(self._settings.cors_origins),
            queue_retention_seconds=self._context.config.retention.queue_days * DAY,
            result_seconds=self._context.config.retention.result_days * DAY,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        return render(self._context.names, settings, read_template("frontend/index.html"))

    def _deploy(self, api: str, document_hash: str) -> None:
        """Deploy what was imported to the stage, in one call that also notes which document it was.

        A deployment made apart from its stage would be left behind by a crash between the two.
        """
        self._context.waiter.retry(
            lambda: self._apigateway.create_deployment(
                restApiId=api, stageName=self._settings.stage, description=_HASH_PREFIX + document_hash
            ),
            **self._rate_limit("API Gateway takes one deployment every 5 seconds"),
        )

    def _deployed(self, api: str, deployment: str) -> str:
        """The hash of the document that a deployment was made of."""
        found = self._apigateway.get_deployment(restApiId=api, deploymentId=deployment)
        return found.get("description", "").removeprefix(_HASH_PREFIX)

    def _throttle(self, api: str) -> None:
        values = {
            f"{_ALL_METHODS}/throttling/rateLimit": f"{self._settings.rate:g}",
            f"{_ALL_METHODS}/throttling/burstLimit": str(self._settings.burst),
        }
        operations: list[PatchOperationTypeDef] = [
            {"op": "replace", "path": path, "value": value} for path, value in values.items()
        ]
        self._apigateway.update_stage(restApiId=api, stageName=self._settings.stage, patchOperations=operations)

    def _find_all(self) -> list[RestApiTypeDef]:
        """Names are not unique: of all that bear ours those with our tag, the oldest first."""
        pages = self._apigateway.get_paginator("get_rest_apis").paginate()
        namesakes = [api for page in pages for api in page["items"] if api.get("name") == self._name]
        ours = [api for api in namesakes if api.get("tags", {}) and _is_ours(api, self._context)]
        if not ours and namesakes:
            require_ours(namesakes[0].get("tags", {}), self._context.names.stack, self.title)
        return sorted(ours, key=lambda api: (str(api.get("createdDate")), api["id"]))

    def _outputs(self, api: str, stage: str | None = None) -> dict[str, str]:
        stage = stage or self._settings.stage
        return {"id": api, "stage": stage, "url": self._context.api_url(api, stage)}

    def _rate_limit(self, reason: str) -> dict[str, Any]:
        """API Gateway's control-plane rates are fixed per account: wait, and say what for."""
        return {"step": self.step, "on": _limited, "reason": reason, "timeout": 180}


def _limited(error: Exception) -> bool:
    if has_code("TooManyRequestsException", "ConflictException")(error):
        return True
    # The role that the document names is not known to API Gateway yet.
    return error_code(error) == "BadRequestException" and "role" in error_message(error).lower()


def _is_ours(api: RestApiTypeDef, context: Context) -> bool:
    return context.names.tags.items() <= api.get("tags", {}).items()


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
