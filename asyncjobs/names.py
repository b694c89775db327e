"""Names and tags of everything a stack owns, derived from the stack's name.

There is no state file: a resource is found again by the name derived here and recognised as ours by its tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STACK_TAG = "asyncjobs:stack"

# 24 keeps the S3 bucket name (63 characters at most, with account and region) and role names (64) legal.
# "-dlq" would make the stack's queue another stack's dead-letter queue.
STACK_PATTERN = re.compile(r"[a-z](?:[a-z0-9-]{0,22}[a-z0-9])?(?<!-dlq)\Z")
STACK_RULE = (
    "1 to 24 characters: lower-case letters, digits and hyphens, starting with a letter, "
    "not ending with a hyphen or -dlq"
)


@dataclass(frozen=True)
class Names:
    """Resource names of one stack in one account and region.

    Roles carry the region because IAM is global: the same stack name may be used in two regions. The bucket carries
    account and region because bucket names are global across all accounts.
    """

    stack: str
    account: str
    region: str

    @property
    def base(self) -> str:
        return f"asyncjobs-{self.stack}"

    table = queue = cluster = task_family = rest_api = api_key = usage_plan = security_group = repository = base

    @property
    def dead_letter_queue(self) -> str:
        return f"{self.base}-dlq"

    @property
    def bucket(self) -> str:
        return f"{self.base}-{self.account}-{self.region}"

    @property
    def log_group(self) -> str:
        return f"/asyncjobs/{self.stack}"

    @property
    def service(self) -> str:
        return "worker"

    @property
    def api_role(self) -> str:
        return f"{self.base}-{self.region}-api"

    @property
    def execution_role(self) -> str:
        return f"{self.base}-{self.region}-execution"

    @property
    def task_role(self) -> str:
        return f"{self.base}-{self.region}-task"

    @property
    def partition(self) -> str:
        if self.region.startswith("cn-"):
            return "aws-cn"
        return "aws-us-gov" if self.region.startswith("us-gov-") else "aws"

    @property
    def queue_arn(self) -> str:
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{self.queue}"

    @property
    def dead_letter_queue_arn(self) -> str:
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{self.dead_letter_queue}"

    @property
    def table_arn(self) -> str:
        return f"arn:{self.partition}:dynamodb:{self.region}:{self.account}:table/{self.table}"

    @property
    def bucket_arn(self) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}"

    @property
    def log_group_arn(self) -> str:
        return f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:{self.log_group}"

    @property
    def cluster_arn(self) -> str:
        return f"arn:{self.partition}:ecs:{self.region}:{self.account}:cluster/{self.cluster}"

    @property
    def tasks_arn(self) -> str:
        """Every task of the cluster, and no other's."""
        return f"arn:{self.partition}:ecs:{self.region}:{self.account}:task/{self.cluster}/*"

    @property
    def repository_arn(self) -> str:
        return f"arn:{self.partition}:ecr:{self.region}:{self.account}:repository/{self.repository}"

    def api_gateway_arn(self, path: str) -> str:
        """For API Gateway's tagging calls: `path` is `/restapis/ID` or the like. These ARNs carry no account."""
        return f"arn:{self.partition}:apigateway:{self.region}::{path}"

    def role_arn(self, role: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{role}"

    @property
    def tags(self) -> dict[str, str]:
        return {STACK_TAG: self.stack}
