"""The list of a stack's resources, and the only place that knows them all."""

from __future__ import annotations

from asyncjobs.provision.api_access import ApiAccess
from asyncjobs.provision.bucket import Bucket
from asyncjobs.provision.cluster import Cluster
from asyncjobs.provision.context import Context
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.lock import Lock
from asyncjobs.provision.log_group import LogGroup
from asyncjobs.provision.network import Network, Placement
from asyncjobs.provision.queue import Queue
from asyncjobs.provision.repository import Repository
from asyncjobs.provision.resource import Resource
from asyncjobs.provision.rest_api import RestApi
from asyncjobs.provision.roles import Role, api_role, execution_role, task_role
from asyncjobs.provision.scaling import Scaling
from asyncjobs.provision.service import Service
from asyncjobs.provision.table import Table
from asyncjobs.provision.task_definition import TaskDefinition


def stack_resources(context: Context, image: Resource) -> list[Resource]:
    """Every resource of a stack, each after those it needs.

    Args:
        image: What puts the worker's image where tasks can be started from; its step is "image".
    """
    names, config = context.names, context.config
    # Known before anything is made, so that the role need not wait for the image.
    given = image.uri if isinstance(image, GivenImage) else ""
    secrets = tuple(config.worker.secrets.values())
    placement, lock = Placement(context), Lock(context)
    return [
        # Roles come first: nothing speeds up the time they take to be known across AWS.
        Role(context, api_role(names)),
        Role(context, task_role(names)),
        Role(context, execution_role(names, image=given, secrets=secrets)),
        Repository(context),
        image,
        Table(context),
        Queue(context, dead_letters=True),
        Queue(context),
        Bucket(context),
        LogGroup(context),
        Network(context, placement),
        Cluster(context),
        TaskDefinition(context),
        Service(context, placement),
        Scaling(context),
        RestApi(context, lock),
        ApiAccess(context, lock),
    ]
