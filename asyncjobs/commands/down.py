"""`asyncjobs down`: delete everything the stack owns, look again, and say what is left."""

from __future__ import annotations

import sys

from asyncjobs.aws import translated
from asyncjobs.commands.session import Session
from asyncjobs.commands.target import Target, aws_target, local_target, stop_unused_engine
from asyncjobs.config import Config
from asyncjobs.console.progress import showing
from asyncjobs.errors import LeftoversError, UsageError
from asyncjobs.progress import NullProgress, Progress
from asyncjobs.provision.engine import Engine
from asyncjobs.provision.plan import Plan, plan_down, read_all
from asyncjobs.provision.stack import stack_resources
from asyncjobs.state import StackMemory

KEPT_DATA = frozenset({"table", "bucket"})


def run(session: Session, *, target: str | None, yes: bool, keep_data: bool) -> None:
    """Delete the stack.

    Args:
        target: "local" or "aws"; None means where it was last brought up, else AWS.

    Raises:
        LeftoversError: Something is left.
        UsageError: It was not confirmed.
    """
    local = session.is_local_with(target)
    if local and not _has_engine_data(session):
        _nothing(session, "local")
        return
    with session.locked():
        _run(session, local=local, yes=yes, keep_data=keep_data)


def _run(session: Session, *, local: bool, yes: bool, keep_data: bool) -> None:
    with showing(session.output) as progress:
        place = local_target(session, progress, start=True) if local else aws_target(session)
        plan = _plan(place, progress, keep_data=keep_data)
    if _is_empty(plan):
        stop_unused_engine(session, place, NullProgress())
        _nothing(session, place.name)
        return
    _confirm(session, place, plan, yes=yes)
    with showing(session.output) as progress:
        report = Engine(progress).down(plan)
        left = _plan(place, progress, keep_data=keep_data)
        if not _is_empty(left):
            titles = ", ".join(step.resource.title for step in left.steps if step.resource.step != "image")
            raise LeftoversError(f"Something is left: {titles}.", hint="Run `asyncjobs down` again.")
        stop_unused_engine(session, place, progress)
    # Which target the stack was on is still what a later command means.
    session.state.remember(session.stack, StackMemory(place.name, place.names.region))
    if session.output.as_json:
        session.output.document({"stack": session.stack, "target": place.name, "deleted": report.changed, "left": []})
    else:
        session.output.say(f"Stack {session.stack} is down: {len(report.steps)} resources deleted, nothing is left.")


def _plan(target: Target, progress: Progress, *, keep_data: bool) -> Plan:
    resources = stack_resources(target.context(Config(), progress), target.image(None, Config(), progress))
    with translated():
        plan = plan_down(resources, read_all(resources))
    return Plan(tuple(step for step in plan.steps if not (keep_data and step.resource.step in KEPT_DATA)))


def _is_empty(plan: Plan) -> bool:
    """The image alone is no stack: one given from outside is not ours, a snapshot is only a cache."""
    return all(step.resource.step == "image" for step in plan.steps)


def _has_engine_data(session: Session) -> bool:
    return (session.state.local / "data").is_dir()


def _nothing(session: Session, target: str) -> None:
    if session.output.as_json:
        session.output.document({"stack": session.stack, "target": target, "deleted": [], "left": []})
    else:
        session.output.say(f"There is nothing to take down: the stack {session.stack} is not up.")


def _confirm(session: Session, target: Target, plan: Plan, *, yes: bool) -> None:
    if yes:
        return
    where = "on this machine" if target.name == "local" else f"in account {target.names.account}, {target.names.region}"
    if sys.stdin.isatty() and session.output.stderr.isatty():
        session.output.stderr.write(
            f"This deletes the stack {session.stack} {where}: {len(plan.steps)} resources, "
            "with its queue, all job records and all results. Delete it? [y/N] "
        )
        session.output.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("Nothing was deleted.")
    elif target.name == "aws":
        raise UsageError(
            f"This would delete the stack {session.stack} {where}, with all job records and results.",
            why="There is no terminal to ask at.",
            hint="Say so with `--yes`.",
        )
