"""Where moto differs from AWS in a way that the stack meets, mended."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import unescape

from moto.apigateway.exceptions import UsagePlanNotFoundException
from moto.apigateway.models import APIGatewayBackend, RestAPI
from moto.apigateway.responses import APIGatewayResponse
from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.exceptions import JsonRESTError
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.s3.models import PublicAccessBlock, S3Backend
from moto.s3.responses import S3Response
from moto.sqs.models import Queue as MotoQueue

Setter = Callable[[Any, str, Any], None]


def mend(set_attribute: Setter) -> None:
    """Mend moto.

    Args:
        set_attribute: `monkeypatch.setattr`, not raising, in a test; `setattr` in a process of moto's own.
    """
    _answers_one_call_at_a_time(set_attribute)
    _takes_mock_integrations(set_attribute)
    _keeps_queue_policies(set_attribute)
    _keeps_a_stage_that_is_deployed_to(set_attribute)
    _tags_more_than_stages(set_attribute)
    _tags_scalable_targets(set_attribute)
    _keeps_the_arn_of_a_policy(set_attribute)
    _keeps_all_of_a_service(set_attribute)
    _tags_buckets_as_they_are_made(set_attribute)
    _blocks_public_access_of_new_buckets(set_attribute)
    _says_what_is_not_there(set_attribute)


def _answers_one_call_at_a_time(set_attribute: Setter) -> None:
    """moto's dictionaries are not made for threads: "dictionary changed size during iteration"."""
    original = BotocoreStubber.__call__
    lock = threading.RLock()

    def answer(self: Any, *args: Any, **settings: Any) -> Any:
        with lock:
            return original(self, *args, **settings)

    set_attribute(BotocoreStubber, "__call__", answer)


def _takes_mock_integrations(set_attribute: Setter) -> None:
    """moto's import of an OpenAPI document wants `uri` and `httpMethod` of MOCK integrations, which have neither."""
    original = APIGatewayBackend.put_integration

    def put_integration(self: Any, *args: Any, **settings: Any) -> Any:
        return original(self, *args, **{"uri": "", "integration_method": "", **settings})

    set_attribute(APIGatewayBackend, "put_integration", put_integration)


def _keeps_queue_policies(set_attribute: Setter) -> None:
    """moto forgets a queue's policy whenever any other attribute is set."""
    original = MotoQueue._set_attributes

    def set_attributes(self: Any, attributes: dict[str, Any], *args: Any) -> Any:
        kept = {"Policy": self.policy} if getattr(self, "policy", None) else {}
        return original(self, {**kept, **attributes}, *args)

    set_attribute(MotoQueue, "_set_attributes", set_attributes)


def _keeps_a_stage_that_is_deployed_to(set_attribute: Setter) -> None:
    """moto makes the stage anew with every deployment to it, without its settings."""
    original = RestAPI.create_deployment

    def create_deployment(self: Any, name: str, *args: Any, **settings: Any) -> Any:
        stage = self.stages.get(name)
        deployment = original(self, name, *args, **settings)
        if stage is not None:
            stage.deployment_id = deployment.id
            self.stages[name] = stage
        return deployment

    set_attribute(RestAPI, "create_deployment", create_deployment)


def _tags_more_than_stages(set_attribute: Setter) -> None:
    """moto's TagResource of API Gateway takes every ARN for a stage's."""
    original = APIGatewayResponse.tag_resource

    def tag_resource(self: Any) -> Any:
        path = unquote(self.path.split("/tags/")[1]).split("::/")[1].split("/")
        found = {
            "restapis": self.backend.apis,
            "apikeys": self.backend.keys,
            "usageplans": self.backend.usage_plans,
        }[path[0]]
        if len(path) > 2:
            return original(self)
        found[path[1]].tags = {**(found[path[1]].tags or {}), **self._get_param("tags")}
        return "{}"

    set_attribute(APIGatewayResponse, "tag_resource", tag_resource)


def _tags_scalable_targets(set_attribute: Setter) -> None:
    """moto has no TagResource of Application Auto Scaling."""

    def tag_resource(self: Any) -> str:
        targets = self.applicationautoscaling_backend.targets.values()
        arns = {target.arn for scope in targets for target in scope.values()}
        if self._get_param("ResourceARN") not in arns:
            raise LookupError(self._get_param("ResourceARN"))
        return "{}"

    set_attribute(ApplicationAutoScalingResponse, "tag_resource", tag_resource)


def _keeps_the_arn_of_a_policy(set_attribute: Setter) -> None:
    """moto gives a scaling policy that is put again another ARN, so the alarms of the first one act on nothing."""
    original = ApplicationAutoscalingBackend.put_scaling_policy

    def put_scaling_policy(self: Any, policy_name: str, *args: Any, **settings: Any) -> Any:
        before = {key: policy.policy_arn for key, policy in self.policies.items()}
        policy = original(self, policy_name, *args, **settings)
        (key,) = (key for key, each in self.policies.items() if each is policy)
        policy.policy_arn = before.get(key, policy.policy_arn)
        return policy

    set_attribute(ApplicationAutoscalingBackend, "put_scaling_policy", put_scaling_policy)


def _keeps_all_of_a_service(set_attribute: Setter) -> None:
    """moto's CreateService drops some settings, which its UpdateService keeps."""
    original = EC2ContainerServiceResponse.create_service
    dropped = {
        "capacity_provider_strategy": "capacityProviderStrategy",
        "deployment_configuration": "deploymentConfiguration",
        "enable_execute_command": "enableExecuteCommand",
    }

    def create_service(self: Any) -> Any:
        answer = original(self)
        service = self.ecs_backend.services[f"{self._get_param('cluster')}:{self._get_param('serviceName')}"]
        for attribute, parameter in dropped.items():
            setattr(service, attribute, self._get_param(parameter))
        return answer

    set_attribute(EC2ContainerServiceResponse, "create_service", create_service)


def _tags_buckets_as_they_are_made(set_attribute: Setter) -> None:
    """moto's CreateBucket drops the tags in its CreateBucketConfiguration."""
    original = S3Response._bucket_response_put

    def put(self: Any, request: Any, bucket_name: str, querystring: Any) -> Any:
        answer = original(self, request, bucket_name, querystring)
        body = self.body.decode() if isinstance(self.body, bytes) else self.body
        if "<CreateBucketConfiguration" in body:
            pairs = re.findall(r"<Key>(.*?)</Key>\s*<Value>(.*?)</Value>", body)
            self.backend.put_bucket_tagging(bucket_name, {unescape(key): unescape(text) for key, text in pairs})
        return answer

    set_attribute(S3Response, "_bucket_response_put", put)


def _blocks_public_access_of_new_buckets(set_attribute: Setter) -> None:
    """moto's new buckets are as they were before April 2023, without public access blocks."""
    original = S3Backend.create_bucket

    def create_bucket(self: Any, *args: Any, **settings: Any) -> Any:
        bucket = original(self, *args, **settings)
        bucket.public_access_block = PublicAccessBlock(*["true"] * 4)
        return bucket

    set_attribute(S3Backend, "create_bucket", create_bucket)


def _says_what_is_not_there(set_attribute: Setter) -> None:
    """moto fails inside, or with another code, where AWS says that what is to be changed or deleted is not there."""

    def mended(owner: Any, method: str, error: type[Exception], instead: Exception) -> None:
        original = getattr(owner, method)

        def call(*args: Any, **settings: Any) -> Any:
            try:
                return original(*args, **settings)
            except error:
                raise instead from None

        set_attribute(owner, method, call)

    for method in ("delete_rest_api", "update_usage_plan", "delete_usage_plan"):
        mended(APIGatewayBackend, method, KeyError, UsagePlanNotFoundException())
    # Of a stage that the plan does not have.
    mended(APIGatewayBackend, "update_usage_plan", ValueError, UsagePlanNotFoundException())
    gone = JsonRESTError("ObjectNotFoundException", "There is none.")
    for method in ("delete_scaling_policy", "deregister_scalable_target"):
        mended(ApplicationAutoscalingBackend, method, AWSValidationException, gone)
