"""The worker's image: one that is built and pushed, or one that already exists."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from asyncjobs.errors import ProvisionError, TagTakenError, TokenExpiredError
from asyncjobs.image.recipe import Builder, Recipe, Repository
from asyncjobs.image.reference import is_loopback
from asyncjobs.progress import Event, Progress
from asyncjobs.provision.given_image import MANIFEST_TYPES
from asyncjobs.provision.resource import Inputs, State

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient


class GivenImage:
    """An image that somebody else built and owns: nothing to create and nothing to delete.

    Args:
        uri: What ECS is to run; "" when there is none at hand (`down`).
        architecture: "x86_64" or "arm64".
    """

    step = "image"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, uri: str, architecture: str) -> None:
        self.uri = uri
        self._outputs = {"uri": uri, "architecture": architecture}
        self.title = f"image {uri}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {}

    def read(self) -> State | None:
        return State(self._outputs) if self._outputs["uri"] else None

    def create(self, inputs: Inputs) -> State:
        return State(self._outputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        return state

    def delete(self, state: State) -> None:
        """It is not ours."""


class BuiltImage:
    """Built and pushed when the repository has none of its content; goes with the repository.

    Args:
        repository: Its name in ECR.
        recipe: Called once; it looks the base image up, which is then done with the other reads, at the same time.
    """

    step = "image"
    needs: tuple[str, ...] = ("repository",)
    fixed: frozenset[str] = frozenset()

    def __init__(
        self, ecr: ECRClient, repository: str, builder: Builder, recipe: Callable[[], Recipe], progress: Progress
    ) -> None:
        self._ecr = ecr
        self._name = repository
        self._builder = builder
        self._make_recipe = recipe
        self._progress = progress
        self._known: tuple[Recipe, str] | None = None
        self.title = f"image of the workers, to be built and pushed with {builder.name}"

    def look_up(self) -> None:
        """Look the base image up now, and not with the other reads: where there is another way without it.

        Raises:
            DockerError: It cannot be had.
        """
        self._recipe()

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {"content": self._recipe()[1]}

    def read(self) -> State | None:
        tag = self._recipe()[1]
        try:
            found = self._ecr.describe_repositories(repositoryNames=[self._name])["repositories"][0]
        except self._ecr.exceptions.RepositoryNotFoundException:
            return None
        if digest := self._find(tag):
            self._progress.emit(Event(self.step, "done", f"unchanged ({tag[:12]}), neither built nor pushed"))
            return self._state(found["repositoryUri"], digest)
        return State({}, {"content": ""}) if self._has_others() else None

    def create(self, inputs: Inputs) -> State:
        uri = inputs.get("repository", "uri")
        tag = self._recipe()[1]
        try:
            digest = self._publish(uri)
        except TokenExpiredError:
            digest = self._publish(uri)  # with a new one; what is built and pushed already is not done again
        except TagTakenError:
            # Another `up` was faster. A tag is a hash of the content, so what it pushed will do.
            found = self._find(tag)
            if found is None:
                raise
            digest = found
        return self._state(uri, digest)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        return self.create(inputs)

    def delete(self, state: State) -> None:
        """With its repository."""

    def _recipe(self) -> tuple[Recipe, str]:
        """With its tag: to compute that is to read every file of the project."""
        if self._known is None:
            recipe = self._make_recipe()
            self._known = recipe, recipe.tag
        return self._known

    def _publish(self, uri: str) -> str:
        recipe, tag = self._recipe()
        return self._builder.publish(recipe, self._login(uri), tag, self._progress)

    def _login(self, uri: str) -> Repository:
        """With a token of now: one that Docker keeps may be older than the twelve hours that it lasts."""
        token = self._ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        username, _, password = base64.b64decode(token).decode().partition(":")
        return Repository(uri, username, password, insecure=is_loopback(uri.partition("/")[0]))

    def _find(self, tag: str) -> str | None:
        answer = self._ecr.batch_get_image(
            repositoryName=self._name, imageIds=[{"imageTag": tag}], acceptedMediaTypes=list(MANIFEST_TYPES)
        )
        return answer["images"][0]["imageId"]["imageDigest"] if answer["images"] else None

    def _has_others(self) -> bool:
        return bool(self._ecr.list_images(repositoryName=self._name, maxResults=1)["imageIds"])

    def _state(self, uri: str, digest: str) -> State:
        if not digest.startswith("sha256:"):
            raise ProvisionError(f"{self._name}: the push gave no digest.", hint="Run `asyncjobs up` again.")
        recipe, tag = self._recipe()
        return State({"uri": f"{uri}@{digest}", "architecture": recipe.architecture}, {"content": tag})
