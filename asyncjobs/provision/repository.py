"""The ECR repository that the workers' images are pushed to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from asyncjobs.provision.context import Context, differing
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list

# Enough to go back to by hand; the service itself runs the newest, by digest.
KEPT_IMAGES = 20

# https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html: the rule for any image must come last.
_UNTAGGED = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1}
_BEYOND = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": KEPT_IMAGES}
LIFECYCLE: dict[str, Any] = {
    "rules": [
        {"rulePriority": 1, "description": "untagged", "selection": _UNTAGGED, "action": {"type": "expire"}},
        {"rulePriority": 2, "description": "the oldest", "selection": _BEYOND, "action": {"type": "expire"}},
    ]
}


class Repository:
    """Encrypted with AES-256, as every repository is that asks for nothing else; that is fixed at its creation."""

    step = "repository"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ecr = context.clients.ecr
        self._name = context.names.repository
        self.title = f"ECR repository {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {"scan on push": True, "tag mutability": "IMMUTABLE", "lifecycle": LIFECYCLE, "tags": self._context.tags}

    def read(self) -> State | None:
        try:
            found = self._ecr.describe_repositories(repositoryNames=[self._name])["repositories"][0]
            tags = tag_dict(self._ecr.list_tags_for_resource(resourceArn=found["repositoryArn"]).get("tags"))
        except self._ecr.exceptions.RepositoryNotFoundException:
            return None
        require_ours(tags, self._context.names.stack, self.title)
        return State(
            self._outputs(found),
            {
                "scan on push": found.get("imageScanningConfiguration", {}).get("scanOnPush", False),
                "tag mutability": found.get("imageTagMutability"),
                "lifecycle": self._lifecycle(),
                "tags": self._context.ours(tags),
            },
        )

    def create(self, inputs: Inputs) -> State:
        try:
            made = self._ecr.create_repository(
                repositoryName=self._name,
                imageTagMutability="IMMUTABLE",
                imageScanningConfiguration={"scanOnPush": True},
                tags=tag_list(self._context.tags),
            )["repository"]
        except self._ecr.exceptions.RepositoryAlreadyExistsException:
            state = self.read()  # refuses a namesake; another `up` of this stack may just have made it
            if state is None:
                raise
            return self.update(state, differing(self.desired(inputs), state), inputs)
        return self.update(State(self._outputs(made)), frozenset({"lifecycle"}), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if "scan on push" in changed:
            self._ecr.put_image_scanning_configuration(
                repositoryName=self._name, imageScanningConfiguration={"scanOnPush": True}
            )
        if "tag mutability" in changed:
            self._ecr.put_image_tag_mutability(repositoryName=self._name, imageTagMutability="IMMUTABLE")
        if "lifecycle" in changed:
            self._ecr.put_lifecycle_policy(repositoryName=self._name, lifecyclePolicyText=json.dumps(LIFECYCLE))
        if "tags" in changed:
            self._ecr.tag_resource(resourceArn=state.outputs["arn"], tags=tag_list(self._context.tags))
        return state

    def delete(self, state: State) -> None:
        """With its images: `state` comes from `read`, which has seen our tag."""
        try:
            self._ecr.delete_repository(repositoryName=self._name, force=True)
        except self._ecr.exceptions.RepositoryNotFoundException:
            return

    def _lifecycle(self) -> Any:
        try:
            return json.loads(self._ecr.get_lifecycle_policy(repositoryName=self._name)["lifecyclePolicyText"])
        except self._ecr.exceptions.LifecyclePolicyNotFoundException:
            return {}

    def _outputs(self, repository: Any) -> dict[str, str]:
        return {"name": self._name, "arn": repository["repositoryArn"], "uri": repository["repositoryUri"]}
