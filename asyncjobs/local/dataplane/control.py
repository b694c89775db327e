"""Reads REST APIs through API Gateway's own API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from asyncjobs.local.dataplane.http import SignedHttp
from asyncjobs.local.dataplane.model import Json

_TIMEOUT_SECONDS = 10.0


class ControlApi:
    def __init__(self, http: SignedHttp) -> None:
        self._http = http

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json | None:
        """A document, None when there is none.

        Raises:
            urllib3.exceptions.HTTPError: No answer.
            RuntimeError: An answer that is neither 200 nor 404.
        """
        target = f"{path}?{urlencode(query)}" if query else path
        answer = self._http.send(
            "apigateway", "GET", target, headers={"Accept": "application/json"}, timeout=_TIMEOUT_SECONDS
        )
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise RuntimeError(f"GET {target}: {answer.status} {answer.body[:200]!r}")
        document: Json = json.loads(answer.body)
        return document

    def items(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        """All of a collection, page after page."""
        found: list[Json] = []
        position: dict[str, str] = {}
        while True:
            page = self.get(path, {"limit": "500", **(query or {}), **position}) or {}
            # On the wire the collection is called `item`; newer answers say `_embedded.item`.
            found += page.get("item") or []
            if not page.get("position"):
                return found
            position = {"position": page["position"]}
