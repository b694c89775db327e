"""Where tasks run: subnets, and a security group that lets everything out and nothing in."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, has_code
from asyncjobs.errors import ConfigError
from asyncjobs.names import STACK_TAG
from asyncjobs.provision.context import Context
from asyncjobs.provision.resource import Inputs, State, require_ours, tag_dict, tag_list

if TYPE_CHECKING:
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_ec2.type_defs import RouteTableTypeDef, SecurityGroupTypeDef, SubnetTypeDef


class Network:
    step = "network"
    needs: tuple[str, ...] = ()
    # A security group stays in its VPC, and tasks in another could not use it.
    fixed = frozenset({"vpc"})

    def __init__(self, context: Context, placement: Placement) -> None:
        self._context = context
        self._placement = placement
        self._name = context.names.security_group
        self.title = f"security group {self._name}"

    @property
    def _ec2(self) -> EC2Client:
        # Made when it is needed: its model is the largest of all, and `info` has no use for it.
        return self._context.clients.ec2

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        # What goes out is not among them: a group lets everything out from the start, and an operator may know the
        # few addresses that a handler needs.
        return {"inbound rules": 0, "vpc": self._placement.vpc, "tags": self._context.tags}

    def read(self) -> State | None:
        group = self._find()
        if group is None:
            return None
        return State(
            self._outputs(group),
            {
                "inbound rules": len(group.get("IpPermissions", [])),
                "vpc": group.get("VpcId", ""),
                "tags": self._context.ours(tag_dict(group.get("Tags"))),
            },
        )

    def create(self, inputs: Inputs) -> State:
        try:
            # A new group lets everything out and nothing in: all that a worker needs.
            self._ec2.create_security_group(
                GroupName=self._name,
                Description=f"asyncjobs stack {self._context.names.stack}: workers, outbound only",
                VpcId=self._placement.vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": tag_list(self._context.tags)}],
            )
        except ClientError as error:
            # Another `up` was first: ours by its tag, or refused below.
            if error_code(error) != "InvalidGroup.Duplicate":
                raise
        group = self._context.waiter.find(
            self._find, step=self.step, reason="the security group is not visible yet", timeout=60
        )
        return State(self._outputs(group))

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        group = state.outputs["security group"]
        if "inbound rules" in changed:
            found = self._ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
            self._ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=found["IpPermissions"])
        if "tags" in changed:
            self._ec2.create_tags(Resources=[group], Tags=tag_list(self._context.tags))
        return state

    def delete(self, state: State) -> None:
        def call() -> None:
            try:
                self._ec2.delete_security_group(GroupId=state.outputs["security group"])
            except ClientError as error:
                if error_code(error) != "InvalidGroup.NotFound":
                    raise

        self._context.waiter.retry(
            call,
            step=self.step,
            on=has_code("DependencyViolation"),
            reason="Fargate still holds network interfaces in the security group; that takes minutes",
            timeout=900,
        )

    def _find(self) -> SecurityGroupTypeDef | None:
        groups = self._ec2.describe_security_groups(
            Filters=[{"Name": "group-name", "Values": [self._name]}],
        )["SecurityGroups"]
        ours = [group for group in groups if tag_dict(group.get("Tags")).get(STACK_TAG) == self._context.names.stack]
        if groups and not ours:
            require_ours(tag_dict(groups[0].get("Tags")), self._context.names.stack, self.title)
        # Each VPC has names of its own: beside ours there may be a namesake in another one.
        return ours[0] if ours else None

    def _outputs(self, group: SecurityGroupTypeDef) -> dict[str, str]:
        return {"security group": group["GroupId"], "vpc": group.get("VpcId", "")}


class Placement:
    """The subnets of the tasks and whether these need a public address: asked for once, though several want to know."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()

    @property
    def vpc(self) -> str:
        return self._subnets[0]["VpcId"]

    @property
    def subnets(self) -> list[str]:
        return [subnet["SubnetId"] for subnet in self._subnets]

    @property
    def public_ip(self) -> bool:
        with self._lock:
            return self._public_ip

    @property
    def _subnets(self) -> list[SubnetTypeDef]:
        with self._lock:
            return self._found

    @cached_property
    def _found(self) -> list[SubnetTypeDef]:
        return find_subnets(self._context)

    @cached_property
    def _public_ip(self) -> bool:
        return needs_public_ip(self._context, self._found)


def find_subnets(context: Context) -> list[SubnetTypeDef]:
    """The configured subnets, else those of the default VPC.

    Raises:
        ConfigError: There is neither, or they are of several VPCs.
    """
    wanted = context.config.network.subnets
    filters = [{"Name": "default-for-az", "Values": ["true"]}]
    found = (
        context.clients.ec2.describe_subnets(SubnetIds=wanted)
        if wanted
        else context.clients.ec2.describe_subnets(Filters=filters)  # type: ignore[arg-type]
    )
    subnets = sorted(found["Subnets"], key=lambda subnet: subnet["SubnetId"])
    if not subnets:
        raise ConfigError(
            f"There is no default VPC in {context.names.region}.",
            hint="Put `subnets` (and `security_groups`) under [network] in asyncjobs.toml, "
            "or make one with `aws ec2 create-default-vpc`.",
        )
    if len({subnet["VpcId"] for subnet in subnets}) > 1:
        raise ConfigError(
            "[network] subnets: they are in more than one VPC.",
            why="A service's tasks, and their security group, are in one.",
        )
    return subnets


def needs_public_ip(context: Context, subnets: list[SubnetTypeDef]) -> bool:
    """Whether tasks in these subnets reach ECR and SQS only with a public address.

    A subnet is public when its route table leads to an internet gateway; there, a task without a public address
    cannot even pull its image.
    """
    configured = context.config.network.assign_public_ip
    if configured is not None:
        return configured
    tables = context.clients.ec2.describe_route_tables(
        Filters=[{"Name": "vpc-id", "Values": [subnets[0]["VpcId"]]}],
    )["RouteTables"]
    return any(_is_public(subnet["SubnetId"], tables) for subnet in subnets)


def _is_public(subnet: str, tables: list[RouteTableTypeDef]) -> bool:
    own = [table for table in tables if any(a.get("SubnetId") == subnet for a in table.get("Associations", []))]
    main = [table for table in tables if any(a.get("Main") for a in table.get("Associations", []))]
    routes = [route for table in (own or main) for route in table.get("Routes", [])]
    return any(route.get("GatewayId", "").startswith("igw-") for route in routes)
