"""`asyncjobs up`: read, plan, carry out, remember."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any

from asyncjobs.aws import translated
from asyncjobs.commands.confirm import ask, can_ask
from asyncjobs.commands.interrupt import interruptible
from asyncjobs.commands.project import load_config
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, aws_target, local_target, stop_unused_engine, tasks_as
from asyncjobs.console.progress import Display
from asyncjobs.errors import ConfigError
from asyncjobs.image.recipe import BuilderName
from asyncjobs.provision.context import Context
from asyncjobs.provision.engine import Engine, Report, StepsFailedError
from asyncjobs.provision.halt import Halt
from asyncjobs.provision.lock import Lock
from asyncjobs.provision.plan import Plan, plan_up, read_all
from asyncjobs.provision.stack import stack_resources
from asyncjobs.state import StackMemory


def run(
    session: Session,
    *,
    target: str | None,
    dry_run: bool = False,
    yes: bool = False,
    wait: bool = True,
    timeout: float | None = None,
    image: str | None = None,
    builder: BuilderName | None = None,
    tasks: str | None = None,
) -> None:
    """Create or converge the stack.

    Args:
        target: "local" or "aws"; None means where it was last brought up, else AWS.
        timeout: Seconds after which nothing new is begun and nothing waited for.
        image: An image that exists, in place of one that is built.
        builder: What builds it, in place of `[worker] builder`.
        tasks: How local tasks run: "containers", "processes", or as can be had, "auto".

    Raises:
        ConfigError: The project, or what is asked for, is wrong.
        DockerError: The image cannot be built or pushed, or its base not be looked up.
        StepsFailedError: It could not be done, was interrupted, or was not done in time.
    """
    try:
        local = session.is_local_with(target)
    except ConfigError:
        load_config(session)  # names every mistake, not only the stack's name
        raise
    # Credentials before configuration: without them, what to do next is the same in any directory.
    place = None if local else aws_target(session, image=image, builder=builder)
    config = load_config(session)
    wanted_tasks = tasks_as(session, tasks)
    display, halt = Display(session.output), Halt(timeout)
    with session.locked():
        with display.shown():
            place = place or local_target(
                session, display, start=True, image=image, builder=builder, tasks=wanted_tasks
            )
            context = place.context(config, display, wait=wait, halt=halt)
            resources = stack_resources(context, place.image(session.directory, config, display))
            with translated():
                plan = plan_up(resources, read_all(resources))
            if dry_run:
                stop_unused_engine(session, place, display)
        if dry_run:
            _show_plan(session, plan)
            return
        if not yes:
            _confirm(session, place, plan)
        # Before anything is made, so that `down` and `logs` know where to look even if this ends half-way.
        session.state.remember(session.stack, _memory(session, place))
        with display.shown(), interruptible(halt):
            report = _carry_out(plan, context, Engine(display, halt))
        url = report.outputs["api"]["url"]
        key = report.outputs.get("api-key", {}).get("key", "")
        session.state.remember(session.stack, StackMemory(place.name, place.names.region, url, key))
    _show_report(session, place, report, url)


def _carry_out(plan: Plan, context: Context, engine: Engine) -> Report:
    try:
        return engine.up(plan)
    except StepsFailedError:
        Lock(context).give_back()
        raise


def _confirm(session: Session, place: Target, plan: Plan) -> None:
    """A first `up` costs money from then on; a script says what it wants by calling it."""
    new = [step for step in plan.steps if step.action == "create"]
    if place.name == "aws" and new and can_ask(session):
        where = f"account {place.names.account}, {place.names.region}"
        question = f"This creates {len(new)} resources of the stack {session.stack} in {where}. Go on?"
        ask(session, question, refused="Nothing was created.")


def _memory(session: Session, place: Target) -> StackMemory:
    """The target as it is about to be, with the URL and key of a stack that is already there."""
    known = session.memory
    if known is not None and (known.target, known.region) == (place.name, place.names.region):
        return known
    return StackMemory(place.name, place.names.region)


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
    if not plan.changes:
        output.say("Nothing would change.")


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
                **({"tasks": _tasks(report)} if target.name == "local" else {}),
                "changed": report.changed,
                "seconds": round(report.seconds, 3),
                "criticalPath": [step.step for step in report.critical_path],
                "steps": [_step(asdict(step)) for step in report.steps],
            }
        )
        return
    changed = len(report.changed)
    if changed:
        steps = len(report.steps)
        output.say(f"Stack {session.stack} is up: {changed} of {steps} steps changed in {report.seconds:.1f} s.")
        path = " → ".join(f"{step.step} {step.end - step.start:.1f} s" for step in report.critical_path)
        output.say(f"It took so long because of: {path}.")
    else:
        output.say(f"Stack {session.stack} is up to date: nothing changed.")
    if target.name == "local":
        output.say(f"Tasks run as {_tasks(report)} on this machine ({platform.node()}).")
    output.data(url)
    output.say(
        "Next: `asyncjobs submit FILE`, or open that address in a browser; `asyncjobs info --show-key` has the key."
    )


def _tasks(report: Report) -> str:
    from asyncjobs.local.runners import is_snapshot

    return "processes" if is_snapshot(report.outputs["image"]["uri"]) else "containers"


def _step(step: dict[str, Any]) -> dict[str, Any]:
    return {
        "step": step["step"],
        "action": step["action"],
        "start": round(step["start"], 3),
        "end": round(step["end"], 3),
        "waitedFor": [step["waited_for"]] if step["waited_for"] else [],
    }
