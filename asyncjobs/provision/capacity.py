"""How many tasks the service keeps, by hand: between two `up`s, and within what autoscaling does."""

from __future__ import annotations

from typing import Literal

from asyncjobs.aws import Clients
from asyncjobs.names import Names

NAMESPACE: Literal["ecs"] = "ecs"
DIMENSION: Literal["ecs:service:DesiredCount"] = "ecs:service:DesiredCount"


def keep_tasks(clients: Clients, names: Names, count: int) -> bool:
    """Start or stop tasks until `count` run, and have autoscaling keep at least as many.

    The next `up` sets autoscaling back to its configuration.

    Returns:
        False when there is no such service.
    """
    ecs, autoscaling = clients.ecs, clients.autoscaling
    try:
        found = ecs.describe_services(cluster=names.cluster, services=[names.service])["services"]
    except ecs.exceptions.ClusterNotFoundException:
        return False
    if not found or found[0]["status"] != "ACTIVE":
        return False
    resource = f"service/{names.cluster}/{names.service}"
    targets = autoscaling.describe_scalable_targets(
        ServiceNamespace=NAMESPACE, ResourceIds=[resource], ScalableDimension=DIMENSION
    )["ScalableTargets"]
    if targets:
        # First: it would set a count outside of its limits back.
        autoscaling.register_scalable_target(
            ServiceNamespace=NAMESPACE,
            ResourceId=resource,
            ScalableDimension=DIMENSION,
            MinCapacity=count,
            MaxCapacity=max(count, targets[0]["MaxCapacity"]),
            # It has them already, and keeps them; the permission to register ours asks for the stack's.
            Tags=names.tags,
        )
    ecs.update_service(cluster=names.cluster, service=names.service, desiredCount=count)
    return True
