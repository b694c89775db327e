"""`asyncjobs info`: where everything of the stack is."""

from __future__ import annotations

from typing import Any

from asyncjobs.aws import translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, existing_target
from asyncjobs.config import Config
from asyncjobs.errors import NotFoundError
from asyncjobs.progress import NullProgress
from asyncjobs.provision.graph import run_graph
from asyncjobs.provision.resource import State
from asyncjobs.provision.stack import stack_resources

_LABELS = {
    "stack": "stack",
    "target": "target",
    "account": "account",
    "region": "region",
    "apiUrl": "API URL",
    "apiKey": "API key",
    "queueUrl": "queue",
    "deadLetterQueueUrl": "dead letters",
    "table": "table",
    "bucket": "bucket",
    "repository": "repository",
    "cluster": "cluster",
    "service": "service",
    "logGroup": "log group",
    "desiredTasks": "desired tasks",
    "runningTasks": "running tasks",
    "endpointUrl": "AWS endpoint",
}
# The steps whose outputs are shown.
_SHOWN = {"api", "api-key", "queue", "dead-letter-queue", "table", "bucket", "repository", "cluster", "logs"}


def run(session: Session, *, show_key: bool) -> None:
    """Show the stack.

    Raises:
        NotFoundError: There is no such stack.
    """
    target = existing_target(session)
    facts = _facts(session, target, show_key=show_key)
    if session.output.as_json:
        session.output.document(facts)
        return
    for key, label in _LABELS.items():
        if key in facts:
            session.output.data(f"{label:<14} {facts[key]}")


def _facts(session: Session, target: Target, *, show_key: bool) -> dict[str, Any]:
    resources = {
        resource.step: resource
        for resource in stack_resources(
            target.context(Config(), NullProgress()), target.image(None, Config(), NullProgress())
        )
        if resource.step in _SHOWN
    }
    with translated():
        states, errors, _ = run_graph(dict.fromkeys(resources, ()), lambda step: resources[step].read())
        if errors:
            raise next(iter(errors.values()))
        if not any(states.values()):
            raise NotFoundError(
                f"There is no stack {session.stack} in account {target.names.account}, region {target.names.region}.",
                hint=f"Bring it up: `asyncjobs up{' --local' if target.name == 'local' else ''}`.",
            )
        desired, running = _tasks(target)

    def output(step: str, key: str) -> str | None:
        state: State | None = states.get(step)
        return state.outputs.get(key) if state else None

    key = output("api-key", "key")
    facts = {
        "stack": session.stack,
        "target": target.name,
        "account": target.names.account,
        "region": target.names.region,
        "apiUrl": output("api", "url"),
        "apiKey": key if show_key or not key else mask(key),
        "queueUrl": output("queue", "url"),
        "deadLetterQueueUrl": output("dead-letter-queue", "url"),
        "table": output("table", "name"),
        "bucket": output("bucket", "name"),
        "repository": output("repository", "name"),
        "cluster": output("cluster", "name"),
        "service": target.names.service if output("cluster", "name") else None,
        "logGroup": output("logs", "name"),
        "desiredTasks": desired,
        "runningTasks": running,
        "endpointUrl": target.clients.sqs.meta.endpoint_url if target.name == "local" else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _tasks(target: Target) -> tuple[int | None, int | None]:
    ecs = target.clients.ecs
    try:
        services = ecs.describe_services(cluster=target.names.cluster, services=[target.names.service])["services"]
    except ecs.exceptions.ClusterNotFoundException:
        return None, None
    return (services[0]["desiredCount"], services[0]["runningCount"]) if services else (None, None)


def mask(key: str) -> str:
    """Enough of a key to recognise it by."""
    return f"{key[:4]}{'*' * 12}"
