"""Autoscaling's view of one region through the engine's own endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from asyncjobs.local.access import Endpoint


class BotoCloud:
    """Implements `autoscaler.Cloud`.

    Args:
        endpoint: The engine's endpoint.
        region: The region to act in.
    """

    def __init__(self, endpoint: Endpoint, region: str) -> None:
        # A session of its own with the engine's key: no profile or credential of the host is looked for.
        session = boto3.session.Session(endpoint.access_key, endpoint.secret_key, region_name=region)
        config = Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30)
        self._ecs = session.client("ecs", endpoint_url=endpoint.url, config=config)
        self._sqs = session.client("sqs", endpoint_url=endpoint.url, config=config)
        self._cloudwatch = session.client("cloudwatch", endpoint_url=endpoint.url, config=config)
        self._queue_urls: dict[str, str] = {}

    def alarms(self) -> Sequence[Mapping[str, Any]]:
        pages = self._cloudwatch.get_paginator("describe_alarms").paginate()
        return [dict(alarm) for page in pages for alarm in page.get("MetricAlarms", [])]

    def queue(self, name: str) -> Mapping[str, str] | None:
        try:
            if name not in self._queue_urls:
                self._queue_urls[name] = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            answer = self._sqs.get_queue_attributes(QueueUrl=self._queue_urls[name], AttributeNames=["All"])
        except ClientError:
            self._queue_urls.pop(name, None)
            return None
        return {str(key): value for key, value in answer.get("Attributes", {}).items()}

    def desired_count(self, cluster: str, service: str) -> int | None:
        try:
            found = self._ecs.describe_services(cluster=cluster, services=[service])["services"]
        except ClientError:
            return None
        active = [each for each in found if each.get("status") == "ACTIVE"]
        return int(active[0]["desiredCount"]) if active else None

    def set_desired_count(self, cluster: str, service: str, count: int) -> None:
        self._ecs.update_service(cluster=cluster, service=service, desiredCount=count)

    def set_alarm_state(self, name: str, state: str, reason: str) -> None:
        self._cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason=reason)  # type: ignore[arg-type]
