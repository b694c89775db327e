"""What one stage serves at the moment: its deployment's copy, its settings, its keys and their plans."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from asyncjobs.local.dataplane.control import ControlApi
from asyncjobs.local.dataplane.model import Json
from asyncjobs.local.dataplane.snapshots import PARTS, Snapshots


@dataclass(frozen=True)
class Deployed:
    """One stage.

    Args:
        parts: The deployment's copy, see `snapshots.PARTS`.
        plans: The usage plan of each enabled key of this stage, by the key's value, with the key's id.
    """

    stage: Json
    parts: Json
    plans: dict[str, tuple[str, Json]]

    @property
    def resources(self) -> list[Json]:
        items: list[Json] = self.parts["resources"]["item"]
        return items

    @property
    def binary_media_types(self) -> list[str]:
        return self.parts["api"].get("binaryMediaTypes") or []

    def gateway_response(self, kind: str) -> Json | None:
        items = self.parts["gatewayResponses"].get("item") or []
        return next((each for each in items if each["responseType"] == kind), None)

    def validator(self, validator_id: str | None) -> Json:
        items = self.parts["validators"].get("item") or []
        return next((each for each in items if each["id"] == validator_id), {})


class Deployments:
    """Reads stages, and reads them anew when what it knows is older than `max_age` seconds."""

    def __init__(
        self,
        control: ControlApi,
        snapshots: Snapshots,
        rest_api_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_age: float = 0.2,
    ) -> None:
        self._control = control
        self._snapshots = snapshots
        self._rest_api_id = rest_api_id
        self._clock = clock
        self._max_age = max_age
        self._known: dict[str, tuple[float, Deployed | None]] = {}
        self._lock = Lock()

    def current(self, stage_name: str) -> Deployed | None:
        """What the stage serves, None when there is no such stage."""
        # One reader at a time: under load the others wait for its answer instead of asking the same.
        with self._lock:
            read_at, deployed = self._known.get(stage_name, (float("-inf"), None))
            if self._clock() - read_at >= self._max_age:
                deployed = self._read(stage_name)
                self._known[stage_name] = (self._clock(), deployed)
            return deployed

    def _read(self, stage_name: str) -> Deployed | None:
        stage = self._control.get(f"/restapis/{self._rest_api_id}/stages/{stage_name}")
        if not stage or not stage.get("deploymentId"):
            return None
        return Deployed(stage, self._parts(stage["deploymentId"]), self._plans(stage_name))

    def _parts(self, deployment_id: str) -> Json:
        parts = self._snapshots.load(self._rest_api_id, deployment_id)
        if parts is None:
            # Deployed where nobody kept a copy: as it is now is the nearest to what was deployed.
            parts = {name: self._control.get(path.format(id=self._rest_api_id)) or {} for name, path in PARTS.items()}
            self._snapshots.keep(self._rest_api_id, deployment_id, parts)
        return parts

    def _plans(self, stage_name: str) -> dict[str, tuple[str, Json]]:
        here = {"apiId": self._rest_api_id, "stage": stage_name}
        plans = [
            plan
            for plan in self._control.items("/usageplans")
            if any(here.items() <= place.items() for place in plan.get("apiStages") or [])
        ]
        keys = {key["id"]: key for key in self._control.items("/apikeys", {"includeValues": "true"})} if plans else {}
        return {
            keys[member["id"]]["value"]: (member["id"], plan)
            for plan in plans
            for member in self._control.items(f"/usageplans/{plan['id']}/keys")
            if keys.get(member["id"], {}).get("enabled")
        }
