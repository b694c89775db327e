"""The S3 bucket for payloads and results too big for the record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from botocore.exceptions import ClientError

from asyncjobs.aws import error_code, has_code
from asyncjobs.errors import ProvisionError
from asyncjobs.provision.context import Context, differing, policy
from asyncjobs.provision.resource import Inputs, NotOursError, State, require_ours, tag_dict, tag_list

_ALL_BLOCKED: Any = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)

_ACLS_OFF: Literal["BucketOwnerEnforced"] = "BucketOwnerEnforced"
_SSE: Literal["AES256"] = "AES256"


class Bucket:
    step = "bucket"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, context: Context) -> None:
        self._context = context
        self._s3 = context.clients.s3
        self._name = context.names.bucket
        # Guards every call against a bucket that someone else made under our name.
        self._owner = context.names.account
        self.title = f"S3 bucket {self._name}"

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {
            "public access block": _ALL_BLOCKED,
            "object ownership": _ACLS_OFF,
            "encryption": _SSE,
            "lifecycle": self._lifecycle(),
            "policy": self._tls_only(),
            "tags": self._context.tags,
        }

    def read(self) -> State | None:
        try:
            self._s3.head_bucket(Bucket=self._name)
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchBucket"):
                return None
            if error_code(error) in ("403", "301"):
                raise NotOursError(
                    f"{self.title} exists and belongs to another AWS account, or this one may not read it.",
                    why="Bucket names are shared by all AWS accounts.",
                    hint="Choose another stack name with `--stack NAME`. If it is this account's, s3:ListBucket "
                    "is missing: `asyncjobs permissions up` prints the whole policy.",
                ) from error
            raise
        tags = self._tags()
        require_ours(tags, self._context.names.stack, self.title)
        return State({"name": self._name}, {**self._properties(), "tags": self._context.ours(tags)})

    def create(self, inputs: Inputs) -> State:
        # Tags come with the creation: a crash between two calls would leave a bucket that nobody owns.
        settings: Any = {"Tags": tag_list(self._context.tags)}
        if self._context.names.region != "us-east-1":
            settings["LocationConstraint"] = self._context.names.region
        try:
            self._context.waiter.retry(
                lambda: self._s3.create_bucket(
                    Bucket=self._name, ObjectOwnership=_ACLS_OFF, CreateBucketConfiguration=settings
                ),
                step=self.step,
                on=has_code("OperationAborted"),
                reason="S3 has not yet done with a bucket of that name that was deleted",
                timeout=300,
            )
        except self._s3.exceptions.BucketAlreadyOwnedByYou:
            pass  # another `up` was first; `read` below looks at its tag
        except self._s3.exceptions.BucketAlreadyExists as error:
            raise ProvisionError(
                f"The bucket name {self._name} is taken by another AWS account.",
                why="Bucket names are shared by all AWS accounts.",
                hint="Choose another stack name with `--stack NAME`.",
            ) from error
        else:
            # Encryption is not among them: S3 encrypts whatever no rule is set for, with these same keys.
            left = frozenset({"lifecycle", "policy"})
            # Nor this one, of which every new bucket has all four since April 2023: it is looked at, not trusted.
            # https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
            if self._public_access_block() != _ALL_BLOCKED:
                left |= {"public access block"}
            if not self._tags():
                # S3 takes tags with the creation since 2025; an endpoint that does not, drops them without a word.
                left |= {"tags"}
            return self.update(State({"name": self._name}), left, inputs)
        state = self.read()
        if state is None:
            raise ProvisionError(
                f"{self.title} was deleted while it was being created.", hint="Run `asyncjobs up` again."
            )
        return self.update(state, differing(self.desired(inputs), state), inputs)

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        if "public access block" in changed:
            self._s3.put_public_access_block(
                Bucket=self._name,
                PublicAccessBlockConfiguration=_ALL_BLOCKED,
                ExpectedBucketOwner=self._owner,
            )
        if "object ownership" in changed:
            self._s3.put_bucket_ownership_controls(
                Bucket=self._name,
                OwnershipControls={"Rules": [{"ObjectOwnership": _ACLS_OFF}]},
                ExpectedBucketOwner=self._owner,
            )
        if "encryption" in changed:
            rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": _SSE}}
            self._s3.put_bucket_encryption(
                Bucket=self._name,
                ServerSideEncryptionConfiguration={"Rules": [rule]},
                ExpectedBucketOwner=self._owner,
            )
        if "lifecycle" in changed:
            self._s3.put_bucket_lifecycle_configuration(
                Bucket=self._name,
                LifecycleConfiguration={"Rules": self._lifecycle()},
                ExpectedBucketOwner=self._owner,
            )
        if "policy" in changed:
            self._s3.put_bucket_policy(
                Bucket=self._name, Policy=json.dumps(self._tls_only()), ExpectedBucketOwner=self._owner
            )
        if "tags" in changed:
            # It replaces all tags of the bucket, other people's too.
            tagging: Any = {"TagSet": tag_list({**self._tags(), **self._context.tags})}
            self._s3.put_bucket_tagging(Bucket=self._name, Tagging=tagging, ExpectedBucketOwner=self._owner)
        return state

    def delete(self, state: State) -> None:
        try:
            self._empty()
            self._s3.delete_bucket(Bucket=self._name, ExpectedBucketOwner=self._owner)
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise

    def _tags(self) -> dict[str, str]:
        return tag_dict(self._found(lambda: self._s3.get_bucket_tagging(Bucket=self._name)["TagSet"]))

    def _empty(self) -> None:
        """S3 deletes only empty buckets: no objects, no versions, no unfinished uploads."""
        for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=self._name):
            entries = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            keys: Any = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in entries]
            if keys:
                answer = self._s3.delete_objects(
                    Bucket=self._name,
                    Delete={"Objects": keys, "Quiet": True},
                    ExpectedBucketOwner=self._owner,
                )
                if refused := answer.get("Errors"):
                    raise ProvisionError(f"{self.title} could not be emptied.", why=str(refused[0].get("Message")))
        for uploads in self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._name):
            for upload in uploads.get("Uploads", []):
                self._s3.abort_multipart_upload(
                    Bucket=self._name, Key=upload["Key"], UploadId=upload["UploadId"], ExpectedBucketOwner=self._owner
                )

    def _properties(self) -> dict[str, Any]:
        rules = self._found(lambda: self._s3.get_bucket_lifecycle_configuration(Bucket=self._name)["Rules"])
        encryption = self._found(
            lambda: self._s3.get_bucket_encryption(Bucket=self._name)["ServerSideEncryptionConfiguration"]["Rules"]
        )
        ownership = self._found(
            lambda: self._s3.get_bucket_ownership_controls(Bucket=self._name)["OwnershipControls"]["Rules"]
        )
        document = self._found(lambda: self._s3.get_bucket_policy(Bucket=self._name)["Policy"])
        return {
            "public access block": self._public_access_block(),
            "object ownership": ownership[0]["ObjectOwnership"] if ownership else "",
            # No rule means this one: https://docs.aws.amazon.com/AmazonS3/latest/userguide/default-encryption-faq.html
            "encryption": encryption[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] if encryption else _SSE,
            "lifecycle": sorted(rules or [], key=lambda rule: rule["ID"]),
            "policy": json.loads(document) if document else {},
        }

    def _public_access_block(self) -> Any:
        return self._found(
            lambda: self._s3.get_public_access_block(Bucket=self._name)["PublicAccessBlockConfiguration"]
        )

    @staticmethod
    def _found(call: Any) -> Any:
        """The answer, or None where S3 says that this part is not configured (`NoSuch…`, `…NotFoundError`)."""
        try:
            return call()
        except ClientError as error:
            if error_code(error).startswith("NoSuch") or error_code(error).endswith("NotFoundError"):
                return None
            raise

    def _lifecycle(self) -> Any:
        """One day more than the record, so that a pointer never outlives what it points at.

        A payload may be there for as long as the queue keeps its message before there is a record at all.
        """
        retention = self._context.config.retention
        days = {
            "payloads": retention.queue_days + retention.result_days + 1,
            "results": retention.result_days + 1,
        }
        return [
            {
                "ID": name,
                "Status": "Enabled",
                "Filter": {"Prefix": f"{name}/"},
                "Expiration": {"Days": kept},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            }
            for name, kept in days.items()
        ]

    def _tls_only(self) -> dict[str, Any]:
        arn = self._context.names.bucket_arn
        return policy(
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        )
