"""Executes one deployed REST API on this machine: API Gateway's data plane, which the emulators lack.

    app ── gateway ──┬─ deployed ── control, snapshots       what is deployed, with its keys and plans
                     ├─ routing, edge, throttle              which method, and whether the caller may
                     ├─ integration ── mapping, backends     templates, SQS, DynamoDB, MOCK
                     └─ gateway_responses                    API Gateway's own errors

`hooks` wraps the emulated AWS services: it carries out OpenAPI imports, which the emulator only half does, and keeps
what each deployment deployed.
"""

from asyncjobs.local.dataplane.app import DataPlane
from asyncjobs.local.dataplane.hooks import RestApiHooks
from asyncjobs.local.dataplane.sqs_rules import sqs_refuses

__all__ = ["DataPlane", "RestApiHooks", "sqs_refuses"]
