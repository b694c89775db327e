"""The ECS cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncjobs.aws import has_code
from asyncjobs.provision.context import Context, differing
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list
from asyncjobs.provision.service_linked_role import with_service_linked_role

_PROVIDERS = ("FARGATE", "FARGATE_SPOT")


class Cluster:
    step = "cluster"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ecs = context.clients.ecs
        self._name = context.names.cluster
        self.title = f"ECS cluster {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        # Container Insights is not among them: it costs by task and metric, so the account's own default stands.
        return {"capacity providers": sorted(_PROVIDERS), "tags": self._context.tags}

    def read(self) -> State | None:
        clusters = self._ecs.describe_clusters(clusters=[self._name], include=["TAGS"])["clusters"]
        found = next((cluster for cluster in clusters if cluster["status"] != "INACTIVE"), None)
        if found is None:
            return None
        tags = tag_dict(found.get("tags"), key="key", value="value")
        require_ours(tags, self._context.names.stack, self.title)
        return State(
            {"name": self._name, "arn": found["clusterArn"]},
            {
                "capacity providers": sorted(found.get("capacityProviders", [])),
                "tags": self._context.ours(tags),
            },
        )

    def create(self, inputs: Inputs) -> State:
        def call() -> None:
            self._ecs.create_cluster(
                clusterName=self._name,
                capacityProviders=list(_PROVIDERS),
                tags=tag_list(self._context.tags, key="key", value="value"),
            )

        with_service_linked_role(self._context, self.step, call)
        # CreateCluster answers a cluster of that name as if it had made it: whose it is, its tags say.
        state = self._context.waiter.find(
            self.read, step=self.step, reason="the new cluster is not visible yet", timeout=60
        )
        return self.update(state, differing(self.desired(inputs), state), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if "capacity providers" in changed:
            self._ecs.put_cluster_capacity_providers(
                cluster=self._name, capacityProviders=list(_PROVIDERS), defaultCapacityProviderStrategy=[]
            )
        if "tags" in changed:
            self._ecs.tag_resource(
                resourceArn=state.outputs["arn"], tags=tag_list(self._context.tags, key="key", value="value")
            )
        return state

    def delete(self, state: State) -> None:
        def call() -> None:
            try:
                self._ecs.delete_cluster(cluster=self._name)
            except self._ecs.exceptions.ClusterNotFoundException:
                return

        self._context.waiter.retry(
            call,
            step=self.step,
            on=has_code(
                "ClusterContainsServicesException",
                "ClusterContainsTasksException",
                "ClusterContainsContainerInstancesException",
                "UpdateInProgressException",
            ),
            reason="tasks are still ending in the cluster",
            timeout=600,
        )
