"""The emulator's ECR as the registry needs it: which repositories there are, their manifests and tags.

It is made to name itself where it can be reached, on 127.0.0.1, where Docker takes plain HTTP without any setting.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import json_response, request_scope
from ministack.services import ecr

from asyncjobs.local.ministack_app import DEFAULT_ACCOUNT

USER = "AWS"
_TOKEN_SECONDS = 12 * 3600

Answer = tuple[int, dict[str, str], bytes]


def registry_password(access_key: str) -> str:
    """What GetAuthorizationToken hands out: for the registry only, and telling nothing of the access key."""
    return hmac.new(access_key.encode(), b"ecr registry", hashlib.sha256).hexdigest()


class EcrImages:
    """Manifests and tags in the emulator's ECR.

    Args:
        host: Where the registry answers, as "127.0.0.1:PORT".
        password: What GetAuthorizationToken hands out.
        deleted: Called with the name of a repository that was deleted.
    """

    def __init__(self, host: str, password: str, deleted: Callable[[str], None]) -> None:
        self._host = host
        self._password = password
        self._deleted = deleted

    def install(self) -> None:
        """Replace the emulator's functions that answer with addresses, and notice deleted repositories."""
        shape, delete = ecr._repo_shape, ecr._delete_repository

        def repository_shape(repository: dict[str, Any]) -> dict[str, Any]:
            # Not as stored: the port may be another one after a restart.
            return {**shape(repository), "repositoryUri": f"{self._host}/{repository['repositoryName']}"}

        def delete_repository(data: dict[str, Any]) -> Any:
            answer = delete(data)
            name = str(data.get("repositoryName", ""))
            if answer[0] == 200:
                ecr._manifest_blobs.pop(name, None)
                if self._region(name) is None:  # the same name may be in use in another region
                    self._deleted(name)
            return answer

        ecr._repo_shape = repository_shape
        ecr._delete_repository = delete_repository
        ecr._get_authorization_token = self._authorization_token

    def _authorization_token(self, _data: dict[str, Any]) -> Any:
        token = {
            "authorizationToken": base64.b64encode(f"{USER}:{self._password}".encode()).decode(),
            "expiresAt": int(time.time()) + _TOKEN_SECONDS,
            "proxyEndpoint": f"http://{self._host}",
        }
        return json_response({"authorizationData": [token]})

    def has(self, repository: str) -> bool:
        return self._region(repository) is not None

    def put_manifest(self, repository: str, reference: str, content_type: str, manifest: bytes) -> Answer:
        """Store a manifest under its digest, and under a tag if the reference is one. An immutable tag stays."""
        return self._ask(repository, ecr._v2_put_manifest, reference, {"content-type": content_type}, manifest)

    def manifest(self, repository: str, reference: str) -> Answer:
        return self._ask(repository, ecr._v2_get_manifest, reference)

    def delete_manifest(self, repository: str, reference: str) -> Answer:
        return self._ask(repository, ecr._v2_delete_manifest, reference)

    def tags(self, repository: str) -> Answer:
        return self._ask(repository, ecr._v2_list_tags, {})

    def _ask(self, repository: str, function: Callable[..., Any], *arguments: Any) -> Answer:
        with request_scope(DEFAULT_ACCOUNT, self._region(repository)):
            status, headers, body = function(repository, *arguments)
        return int(status), {str(name): str(value) for name, value in headers.items()}, bytes(body)

    @staticmethod
    def _region(repository: str) -> str | None:
        """Its region: a push does not name one. Of the same name in two regions, one is taken for both."""
        scoped = ecr._repositories.all_items()
        return min((str(region) for (_account, region, name), _ in scoped if name == repository), default=None)


def referenced_blobs(manifest: bytes) -> list[str]:
    """The digests that an image manifest names; none for an index, whose manifests were checked one by one.

    Raises:
        ValueError: It is no manifest.
    """
    document = json.loads(manifest)
    if not isinstance(document, dict):
        raise ValueError("a manifest is a JSON object")
    try:
        entries = [document["config"], *document["layers"]] if "layers" in document else []
        return [str(entry["digest"]) for entry in entries]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an image manifest: {error!r}") from error
