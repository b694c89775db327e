"""`asyncjobs up`: read, plan, carry out, remember."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

from asyncjobs.aws import translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, aws_target, local_target, stop_unused_engine
from asyncjobs.config import Config, load
from asyncjobs.console.progress import showing
from asyncjobs.errors import ConfigError
from asyncjobs.provision.engine import Engine, Report
from asyncjobs.provision.plan import Plan, plan_up, read_all
from asyncjobs.provision.stack import stack_resources
from asyncjobs.state import StackMemory


def run(session: Session, *, target: str | None, dry_run: bool, wait: bool, image: str | None) -> None:
    """Create or converge the stack.

    Args:
        target: "local" or "aws"; None means where it was last brought up, else AWS.
    """
    try:
        local = session.is_local_with(target)
    except ConfigError:
        load_config(session)  # names every mistake, not only the stack's name
        raise
    if local and image:
        raise ConfigError(
            "--image cannot be used on the local target.", why="Tasks are processes of this machine there."
        )
    # Credentials before configuration: without them, what to do next is the same in any directory.
    place = None if local else aws_target(session, image=image)
    config = load_config(session)
    with showing(session.output) as progress, session.locked():
        place = place or local_target(session, progress, start=True)
        resources = stack_resources(
            place.context(config, progress, wait=wait), place.image(session.directory, config, progress)
        )
        with translated():
            plan = plan_up(resources, read_all(resources))
        if dry_run:
            stop_unused_engine(session, place, progress)
            _show_plan(session, plan)
            return
        # Before anything is made, so that `down` and `logs` know where to look even if this ends half-way.
        session.state.remember(session.stack, _memory(session, place))
        report = Engine(progress).up(plan)
    url = report.outputs["api"]["url"]
    key = report.outputs.get("api-key", {}).get("key", "")
    session.state.remember(session.stack, StackMemory(place.name, place.names.region, url, key))
    _show_report(session, place, report, url)


def _memory(session: Session, place: Target) -> StackMemory:
    """The target as it is about to be, with the URL and key of a stack that is already there."""
    known = session.memory
    if known is not None and (known.target, known.region) == (place.name, place.names.region):
        return known
    return StackMemory(place.name, place.names.region)


def load_config(session: Session) -> Config:
    """The checked configuration of a project that has something to run.

    Raises:
        ConfigError: It is wrong, or names neither a handler nor a command.
    """
    overrides = {"stack": {"name": session.given_stack, "region": session.region}}
    config = load(session.config_file, env=session.env, overrides=overrides)
    worker = config.worker
    if not worker.handler and not worker.command:
        missing = not session.config_file.exists()
        raise ConfigError(
            f"There is no asyncjobs.toml in {session.directory}."
            if missing
            else f"{session.config_file} names nothing to run.",
            why="A worker needs `handler` or `command` under [worker].",
            hint="`asyncjobs init` writes a project that works."
            if missing
            else 'For example: handler = "handler:handle"',
        )
    if worker.handler:
        module = session.directory / worker.handler.split(":")[0].replace(".", "/")
        if not module.with_suffix(".py").is_file() and not (module / "__init__.py").is_file():
            raise ConfigError(
                f"[worker] handler = {worker.handler!r}: there is no {module.with_suffix('.py')}.",
                hint="The part before the colon is a module in the project's directory.",
            )
    return config


def _show_plan(session: Session, plan: Plan) -> None:
    output = session.output
    if output.as_json:
        steps = [
            {"step": step.resource.step, "action": step.action, "resource": step.resource.title, "why": step.reason}
            for step in plan.steps
        ]
        output.document({"stack": session.stack, "plan": steps})
        return
    for step in plan.steps:
        reason = f" ({step.reason})" if step.reason else ""
        output.data(f"{step.action:<7} {step.resource.title}{reason}")


def _show_report(session: Session, target: Target, report: Report, url: str) -> None:
    output = session.output
    if output.as_json:
        output.document(
            {
                "stack": session.stack,
                "target": target.name,
                "account": target.names.account,
                "region": target.names.region,
                "apiUrl": url,
                "changed": report.changed,
                "steps": [_step(asdict(step)) for step in report.steps],
            }
        )
        return
    changed = len(report.changed)
    if changed:
        seconds = max(step.end for step in report.steps)
        output.say(f"Stack {session.stack} is up: {changed} of {len(report.steps)} steps changed in {seconds:.1f} s.")
    else:
        output.say(f"Stack {session.stack} is up to date: nothing changed.")
    if target.name == "local":
        output.say(f"Tasks run as processes of this machine ({platform.node()}), not in containers.")
    output.data(url)
    output.say(
        "Next: `asyncjobs submit FILE`, or open that address in a browser; `asyncjobs info --show-key` has the key."
    )


def _step(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": step["step"],
        "action": step["action"],
        "start": round(step["start"], 3),
        "end": round(step["end"], 3),
        "waitedFor": list(step["waited_for"]),
    }
