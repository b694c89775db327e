"""What each deployment deployed.

The emulator keeps no copy of an API at CreateDeployment, so a change would be served before it is deployed. Here a copy
is taken then, and kept in a directory, because a deployment outlives the process.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from threading import Lock

from asyncjobs.local.dataplane.model import Json

# What makes up an API, by its place in the control API. `limit` is the largest page, which no API here outgrows.
PARTS = {
    "api": "/restapis/{id}",
    "resources": "/restapis/{id}/resources?embed=methods&limit=500",
    "gatewayResponses": "/restapis/{id}/gatewayresponses?limit=500",
    "validators": "/restapis/{id}/requestvalidators?limit=500",
}


class Snapshots:
    """The deployments' copies, by REST API and deployment.

    Args:
        state_dir: The engine's state; the copies are under `rest-apis` in it.
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "rest-apis"
        self._loaded: dict[tuple[str, str], Json] = {}
        self._lock = Lock()

    def keep(self, rest_api_id: str, deployment_id: str, parts: Json) -> None:
        path = self._path(rest_api_id, deployment_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(parts, file)
        Path(temporary).replace(path)
        with self._lock:
            self._loaded[rest_api_id, deployment_id] = parts

    def load(self, rest_api_id: str, deployment_id: str) -> Json | None:
        with self._lock:
            loaded = self._loaded.get((rest_api_id, deployment_id))
        if loaded is not None:
            return loaded
        try:
            parts: Json = json.loads(self._path(rest_api_id, deployment_id).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        with self._lock:
            self._loaded[rest_api_id, deployment_id] = parts
        return parts

    def forget(self, rest_api_id: str) -> None:
        """Drops all of an API that was deleted."""
        with self._lock:
            self._loaded = {key: parts for key, parts in self._loaded.items() if key[0] != rest_api_id}
        shutil.rmtree(self._directory / rest_api_id, ignore_errors=True)

    def _path(self, rest_api_id: str, deployment_id: str) -> Path:
        for part in (rest_api_id, deployment_id):
            if not part.isalnum():
                raise ValueError(f"not an API Gateway id: {part!r}")
        return self._directory / rest_api_id / f"{deployment_id}.json"
