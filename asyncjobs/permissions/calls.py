"""Every AWS call that a command makes, and the IAM actions and resources it takes: the one place where that is written.

`tests/aws/test_permissions.py` records the calls that the commands really make and holds this table to them, both ways.
Where an action is named otherwise than the call, or a call takes more than one, AWS's documents say so:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html

Resources are templates over `Names`. Some cannot be this stack's alone:

- `ANY`: the action knows no resource. IAM takes nothing but `*` then.
- API Gateway, security groups and scalable targets have ids that AWS makes: the type is named, and a tag or a service
  where AWS documents a condition for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from asyncjobs.names import STACK_TAG

Command = Literal["up", "down", "operate"]
COMMANDS: tuple[Command, ...] = get_args(Command)


@dataclass(frozen=True)
class Grant:
    """Actions on resources.

    Args:
        actions: IAM actions, with their prefix.
        resources: Templates of ARNs over `Names`, or `ANY`.
        condition: A key of an IAM condition and the value (a template too) that it must have; one at most.
    """

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One operation of a service: who makes it, and all it takes."""

    commands: tuple[Command, ...]
    grants: tuple[Grant, ...]


def _arn(service: str, resource: str) -> str:
    return f"arn:{{0.partition}}:{service}:{{0.region}}:{{0.account}}:{resource}"


def _role(path: str) -> str:
    return f"arn:{{0.partition}}:iam::{{0.account}}:role/{path}"


def _to(actions: str, on: tuple[str, ...], **condition: str) -> Grant:
    """`condition`: the names of `_CONDITIONS`, with their values."""
    return Grant(tuple(actions.split()), on, {_CONDITIONS[key]: value for key, value in condition.items()})


def _call(commands: str, *grants: Grant) -> Call:
    return Call(tuple(one for one in COMMANDS if one in commands.split()), grants)


_CONDITIONS = {
    "tagged": f"aws:ResourceTag/{STACK_TAG}",
    "tagging": f"aws:RequestTag/{STACK_TAG}",
    "creating": "ec2:CreateAction",
    "scaling": "application-autoscaling:service-namespace",
    "passed_to": "iam:PassedToService",
    "linked_to": "iam:AWSServiceName",
}
_STACK = "{0.stack}"

ANY = ("*",)
QUEUES = ("{0.queue_arn}", "{0.dead_letter_queue_arn}")
TABLE = ("{0.table_arn}",)
BUCKET, OBJECTS = ("{0.bucket_arn}",), ("{0.bucket_arn}/*",)
REPOSITORY = ("{0.repository_arn}",)
# `--image` may name an image of any of them, which is looked at: for which architecture is it?
REPOSITORIES = (_arn("ecr", "repository/*"),)
_PUSH = (
    "ecr:BatchCheckLayerAvailability ecr:InitiateLayerUpload ecr:UploadLayerPart ecr:CompleteLayerUpload ecr:PutImage"
)
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_LogGroup.html: a policy names a log group
# with ":*" after it, and without for the calls that tag.
LOG_GROUP = ("{0.log_group_arn}", "{0.log_group_arn}:*")
CLUSTER, TASKS = ("{0.cluster_arn}",), ("{0.tasks_arn}",)
SERVICE = (_arn("ecs", "service/{0.cluster}/{0.service}"),)
# ListTasks is checked against the container instances of the cluster, although Fargate has none.
INSTANCES = (_arn("ecs", "container-instance/{0.cluster}/*"),)
DEFINITIONS = (_arn("ecs", "task-definition/{0.task_family}:*"),)
ALARMS = (_arn("cloudwatch", "alarm:{0.base}-busy"), _arn("cloudwatch", "alarm:{0.base}-idle"))
TARGETS = (_arn("application-autoscaling", "scalable-target/*"),)
GROUPS, VPCS = (_arn("ec2", "security-group/*"),), (_arn("ec2", "vpc/*"),)
API_ROLE = (_role("{0.api_role}"),)
ECS_ROLES = (_role("{0.execution_role}"), _role("{0.task_role}"))
ROLES = (*API_ROLE, *ECS_ROLES)
# Roles that AWS's services have for themselves, made once for an account: by its first cluster, and by its first
# scalable target of ECS. The condition says whose; a service has one, of a name that is not ours to choose.
LINKED_ROLES = (_role("aws-service-role/*"),)


def _api(verb: str, *paths: str) -> Grant:
    """API Gateway's actions are HTTP verbs and its resources paths, without an account:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/permissions.html
    """
    return _to(f"apigateway:{verb}", tuple(f"arn:{{0.partition}}:apigateway:{{0.region}}::/{path}" for path in paths))


# Tags of API Gateway, with a creation too, are put under the path of their own.
_API_TAGS = _api("PUT", "tags/*")
_NOTHING = ()  # https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html: no permission is needed

CALLS: Mapping[str, Mapping[str, Call]] = {
    "sts": {"GetCallerIdentity": _call("up down operate", *_NOTHING)},
    "sqs": {
        "GetQueueUrl": _call("up down operate", _to("sqs:GetQueueUrl", QUEUES)),
        "GetQueueAttributes": _call("up down operate", _to("sqs:GetQueueAttributes", QUEUES)),
        "ListQueueTags": _call("up down operate", _to("sqs:ListQueueTags", QUEUES)),
        # `retry`, as GetItem and UpdateItem of the table, and `submit` of what the API cannot take.
        "SendMessage": _call("operate", _to("sqs:SendMessage", ("{0.queue_arn}",))),
        "CreateQueue": _call("up", _to("sqs:CreateQueue sqs:TagQueue", QUEUES)),
        "SetQueueAttributes": _call("up", _to("sqs:SetQueueAttributes", QUEUES)),
        "TagQueue": _call("up", _to("sqs:TagQueue", QUEUES)),
        "DeleteQueue": _call("down", _to("sqs:DeleteQueue", QUEUES)),
    },
    "dynamodb": {
        "DescribeTable": _call("up down operate", _to("dynamodb:DescribeTable", TABLE)),
        "ListTagsOfResource": _call("up down operate", _to("dynamodb:ListTagsOfResource", TABLE)),
        "DescribeTimeToLive": _call("up down operate", _to("dynamodb:DescribeTimeToLive", TABLE)),
        "DescribeContinuousBackups": _call("up down operate", _to("dynamodb:DescribeContinuousBackups", TABLE)),
        "CreateTable": _call("up", _to("dynamodb:CreateTable dynamodb:TagResource", TABLE)),
        "UpdateTable": _call("up", _to("dynamodb:UpdateTable", TABLE)),
        "UpdateTimeToLive": _call("up", _to("dynamodb:UpdateTimeToLive", TABLE)),
        "UpdateContinuousBackups": _call("up", _to("dynamodb:UpdateContinuousBackups", TABLE)),
        "TagResource": _call("up", _to("dynamodb:TagResource", TABLE)),
        # An item says which `up` makes what AWS lets be made twice; `down`, and an `up` that fails, take it away.
        "PutItem": _call("up", _to("dynamodb:PutItem", TABLE)),
        "DeleteItem": _call("up down", _to("dynamodb:DeleteItem", TABLE)),
        "GetItem": _call("operate", _to("dynamodb:GetItem", TABLE)),
        "UpdateItem": _call("operate", _to("dynamodb:UpdateItem", TABLE)),
        "DeleteTable": _call("down", _to("dynamodb:DeleteTable", TABLE)),
    },
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html has S3's own names.
    "s3": {
        "HeadBucket": _call("up down operate", _to("s3:ListBucket", BUCKET)),
        "GetBucketTagging": _call("up down operate", _to("s3:GetBucketTagging", BUCKET)),
        "GetPublicAccessBlock": _call("up down operate", _to("s3:GetBucketPublicAccessBlock", BUCKET)),
        "GetBucketLifecycleConfiguration": _call("up down operate", _to("s3:GetLifecycleConfiguration", BUCKET)),
        "GetBucketEncryption": _call("up down operate", _to("s3:GetEncryptionConfiguration", BUCKET)),
        "GetBucketOwnershipControls": _call("up down operate", _to("s3:GetBucketOwnershipControls", BUCKET)),
        "GetBucketPolicy": _call("up down operate", _to("s3:GetBucketPolicy", BUCKET)),
        # Ownership and tags that come with the creation are actions of their own.
        "CreateBucket": _call("up", _to("s3:CreateBucket s3:PutBucketOwnershipControls s3:TagResource", BUCKET)),
        "PutPublicAccessBlock": _call("up", _to("s3:PutBucketPublicAccessBlock", BUCKET)),
        "PutBucketOwnershipControls": _call("up", _to("s3:PutBucketOwnershipControls", BUCKET)),
        "PutBucketEncryption": _call("up", _to("s3:PutEncryptionConfiguration", BUCKET)),
        "PutBucketLifecycleConfiguration": _call("up", _to("s3:PutLifecycleConfiguration", BUCKET)),
        "PutBucketPolicy": _call("up", _to("s3:PutBucketPolicy", BUCKET)),
        "PutBucketTagging": _call("up", _to("s3:PutBucketTagging", BUCKET)),
        "ListObjectVersions": _call("down", _to("s3:ListBucketVersions", BUCKET)),
        "DeleteObjects": _call("down", _to("s3:DeleteObject s3:DeleteObjectVersion", OBJECTS)),
        "ListMultipartUploads": _call("down", _to("s3:ListBucketMultipartUploads", BUCKET)),
        "AbortMultipartUpload": _call("down", _to("s3:AbortMultipartUpload", OBJECTS)),
        "DeleteBucket": _call("down", _to("s3:DeleteBucket", BUCKET)),
        "GetObject": _call("operate", _to("s3:GetObject", OBJECTS)),
        "HeadObject": _call("operate", _to("s3:GetObject", OBJECTS)),
        # An upload that breaks off is ended by the bucket's lifecycle where AbortMultipartUpload is not allowed.
        **dict.fromkeys(
            ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
            _call("operate", _to("s3:PutObject", OBJECTS)),
        ),
        # `retry` writes a payload anew, so that it lasts.
        **dict.fromkeys(("CopyObject", "UploadPartCopy"), _call("operate", _to("s3:GetObject s3:PutObject", OBJECTS))),
    },
    "iam": {
        "GetRole": _call("up down", _to("iam:GetRole", ROLES)),
        "GetRolePolicy": _call("up down", _to("iam:GetRolePolicy", ROLES)),
        "CreateRole": _call("up", _to("iam:CreateRole iam:TagRole", ROLES)),
        "UpdateAssumeRolePolicy": _call("up", _to("iam:UpdateAssumeRolePolicy", ROLES)),
        "PutRolePolicy": _call("up", _to("iam:PutRolePolicy", ROLES)),
        "TagRole": _call("up", _to("iam:TagRole", ROLES)),
        "CreateServiceLinkedRole": _call(
            "up", _to("iam:CreateServiceLinkedRole", LINKED_ROLES, linked_to="ecs.amazonaws.com")
        ),
        "ListRolePolicies": _call("down", _to("iam:ListRolePolicies", ROLES)),
        "DeleteRolePolicy": _call("down", _to("iam:DeleteRolePolicy", ROLES)),
        "ListAttachedRolePolicies": _call("down", _to("iam:ListAttachedRolePolicies", ROLES)),
        "DetachRolePolicy": _call("down", _to("iam:DetachRolePolicy", ROLES)),
        "DeleteRole": _call("down", _to("iam:DeleteRole", ROLES)),
    },
    "ecr": {
        "DescribeRepositories": _call("up down operate", _to("ecr:DescribeRepositories", REPOSITORY)),
        "ListTagsForResource": _call("up down operate", _to("ecr:ListTagsForResource", REPOSITORY)),
        "GetLifecyclePolicy": _call("up down operate", _to("ecr:GetLifecyclePolicy", REPOSITORY)),
        "BatchGetImage": _call("up", _to("ecr:BatchGetImage", REPOSITORIES)),
        "GetDownloadUrlForLayer": _call("up", _to("ecr:GetDownloadUrlForLayer", REPOSITORIES)),
        "ListImages": _call("up", _to("ecr:ListImages", REPOSITORY)),
        # A token is for a push, whose HTTP calls are checked as these:
        # https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html
        "GetAuthorizationToken": _call(
            "up", _to("ecr:GetAuthorizationToken", ANY), _to(_PUSH, REPOSITORY), _to("ecr:BatchGetImage", REPOSITORIES)
        ),
        "CreateRepository": _call("up", _to("ecr:CreateRepository ecr:TagResource", REPOSITORY)),
        "PutImageScanningConfiguration": _call("up", _to("ecr:PutImageScanningConfiguration", REPOSITORY)),
        "PutImageTagMutability": _call("up", _to("ecr:PutImageTagMutability", REPOSITORY)),
        "PutLifecyclePolicy": _call("up", _to("ecr:PutLifecyclePolicy", REPOSITORY)),
        "TagResource": _call("up", _to("ecr:TagResource", REPOSITORY)),
        "DeleteRepository": _call("down", _to("ecr:DeleteRepository", REPOSITORY)),
    },
    "logs": {
        "DescribeLogGroups": _call("up down operate", _to("logs:DescribeLogGroups", ANY)),
        "ListTagsForResource": _call("up down operate", _to("logs:ListTagsForResource", LOG_GROUP)),
        "CreateLogGroup": _call("up", _to("logs:CreateLogGroup logs:TagResource", LOG_GROUP)),
        "PutRetentionPolicy": _call("up", _to("logs:PutRetentionPolicy", LOG_GROUP)),
        "TagResource": _call("up", _to("logs:TagResource", LOG_GROUP)),
        "GetLogEvents": _call("up", _to("logs:GetLogEvents", LOG_GROUP)),
        "FilterLogEvents": _call("operate", _to("logs:FilterLogEvents", LOG_GROUP)),
        "DeleteLogGroup": _call("down", _to("logs:DeleteLogGroup", LOG_GROUP)),
    },
    "ec2": {
        "DescribeSecurityGroups": _call("up down", _to("ec2:DescribeSecurityGroups", ANY)),
        "DescribeSubnets": _call("up", _to("ec2:DescribeSubnets", ANY)),
        "DescribeRouteTables": _call("up", _to("ec2:DescribeRouteTables", ANY)),
        # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
        "CreateSecurityGroup": _call(
            "up",
            _to("ec2:CreateSecurityGroup", GROUPS, tagging=_STACK),
            _to("ec2:CreateSecurityGroup", VPCS),
            _to("ec2:CreateTags", GROUPS, creating="CreateSecurityGroup"),
        ),
        "CreateTags": _call("up", _to("ec2:CreateTags", GROUPS, tagged=_STACK)),
        "RevokeSecurityGroupIngress": _call("up", _to("ec2:RevokeSecurityGroupIngress", GROUPS, tagged=_STACK)),
        "DeleteSecurityGroup": _call("down", _to("ec2:DeleteSecurityGroup", GROUPS, tagged=_STACK)),
    },
    "ecs": {
        "DescribeClusters": _call("up down operate", _to("ecs:DescribeClusters", CLUSTER)),
        "CreateCluster": _call("up", _to("ecs:CreateCluster ecs:TagResource", CLUSTER)),
        "PutClusterCapacityProviders": _call("up", _to("ecs:PutClusterCapacityProviders", CLUSTER)),
        "DeleteCluster": _call("down", _to("ecs:DeleteCluster", CLUSTER)),
        "DescribeTaskDefinition": _call("up down", _to("ecs:DescribeTaskDefinition", ANY)),
        "ListTaskDefinitions": _call("up down", _to("ecs:ListTaskDefinitions", ANY)),
        "RegisterTaskDefinition": _call(
            "up",
            _to("ecs:RegisterTaskDefinition ecs:TagResource", DEFINITIONS),
            _to("iam:PassRole", ECS_ROLES, passed_to="ecs-tasks.amazonaws.com"),
        ),
        "DeregisterTaskDefinition": _call("down", _to("ecs:DeregisterTaskDefinition", ANY)),
        "DeleteTaskDefinitions": _call("down", _to("ecs:DeleteTaskDefinitions", DEFINITIONS)),
        "DescribeServices": _call("up down operate", _to("ecs:DescribeServices", SERVICE)),
        "CreateService": _call("up", _to("ecs:CreateService ecs:TagResource", SERVICE)),
        "UpdateService": _call("up down operate", _to("ecs:UpdateService", SERVICE)),
        "DeleteService": _call("down", _to("ecs:DeleteService", SERVICE)),
        "ListTasks": _call("up", _to("ecs:ListTasks", INSTANCES)),
        "DescribeTasks": _call("up", _to("ecs:DescribeTasks", TASKS)),
        "TagResource": _call("up", _to("ecs:TagResource", (*CLUSTER, *DEFINITIONS, *SERVICE))),
    },
    "application-autoscaling": {
        "DescribeScalableTargets": _call(
            "up down operate", _to("application-autoscaling:DescribeScalableTargets", ANY)
        ),
        "DescribeScalingPolicies": _call("up down", _to("application-autoscaling:DescribeScalingPolicies", ANY)),
        "RegisterScalableTarget": _call(
            "up operate",
            _to("application-autoscaling:RegisterScalableTarget", TARGETS, scaling="ecs"),
            _to("application-autoscaling:TagResource", TARGETS, tagging=_STACK),
            _to("iam:CreateServiceLinkedRole", LINKED_ROLES, linked_to="ecs.application-autoscaling.amazonaws.com"),
        ),
        "PutScalingPolicy": _call("up", _to("application-autoscaling:PutScalingPolicy", TARGETS, scaling="ecs")),
        "TagResource": _call("up", _to("application-autoscaling:TagResource", TARGETS, tagging=_STACK)),
        "DeleteScalingPolicy": _call(
            "down", _to("application-autoscaling:DeleteScalingPolicy", TARGETS, scaling="ecs")
        ),
        "DeregisterScalableTarget": _call(
            "down", _to("application-autoscaling:DeregisterScalableTarget", TARGETS, scaling="ecs")
        ),
    },
    "cloudwatch": {
        "DescribeAlarms": _call("up down", _to("cloudwatch:DescribeAlarms", ALARMS)),
        "ListTagsForResource": _call("up down", _to("cloudwatch:ListTagsForResource", ALARMS)),
        "PutMetricAlarm": _call("up", _to("cloudwatch:PutMetricAlarm cloudwatch:TagResource", ALARMS)),
        "TagResource": _call("up", _to("cloudwatch:TagResource", ALARMS)),
        "DeleteAlarms": _call("down", _to("cloudwatch:DeleteAlarms", ALARMS)),
    },
    "apigateway": {
        "GetRestApis": _call("up down operate", _api("GET", "restapis")),
        "GetStages": _call("up down operate", _api("GET", "restapis/*/stages")),
        "GetDeployment": _call("up down operate", _api("GET", "restapis/*/deployments/*")),
        "CreateRestApi": _call("up", _api("POST", "restapis"), _API_TAGS),
        # The document names the role that the integrations work with.
        "PutRestApi": _call(
            "up", _api("PUT", "restapis/*"), _to("iam:PassRole", API_ROLE, passed_to="apigateway.amazonaws.com")
        ),
        "CreateDeployment": _call("up", _api("POST", "restapis/*/deployments")),
        "UpdateStage": _call("up", _api("PATCH", "restapis/*/stages/*")),
        # A call that tags is checked as a change of what it tags, too.
        "TagResource": _call("up", _API_TAGS, _api("PATCH", "restapis/*", "apikeys/*", "usageplans/*")),
        # By `up`: a call that was repeated may have made two, and one of them goes again.
        "DeleteRestApi": _call("up down", _api("DELETE", "restapis/*")),
        "GetApiKeys": _call("up down operate", _api("GET", "apikeys")),
        "GetUsagePlans": _call("up down operate", _api("GET", "usageplans")),
        "GetUsagePlanKeys": _call("up down operate", _api("GET", "usageplans/*/keys")),
        "CreateApiKey": _call("up", _api("POST", "apikeys"), _API_TAGS),
        "CreateUsagePlan": _call("up", _api("POST", "usageplans"), _API_TAGS),
        "CreateUsagePlanKey": _call("up", _api("POST", "usageplans/*/keys")),
        "UpdateUsagePlan": _call("up down", _api("PATCH", "usageplans/*")),
        # By `up`, once the API takes no key any more.
        "DeleteUsagePlan": _call("up down", _api("DELETE", "usageplans/*")),
        "DeleteApiKey": _call("up down", _api("DELETE", "apikeys/*")),
    },
}
