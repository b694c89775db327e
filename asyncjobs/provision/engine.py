"""Carries out a plan: in parallel, each step as soon as what it needs is ready, with a report of each step's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from asyncjobs.aws import error_code, translate
from asyncjobs.errors import AsyncJobsError, ExitCode, InterruptedByUserError, ProvisionError
from asyncjobs.permissions import denied
from asyncjobs.progress import Event, Progress
from asyncjobs.provision.graph import reversed_graph, run_graph
from asyncjobs.provision.halt import Halt
from asyncjobs.provision.plan import Plan, Step, differences
from asyncjobs.provision.resource import Inputs, Outputs

Command = Literal["up", "down"]


@dataclass(frozen=True)
class StepReport:
    """What a step did. Times are seconds since the plan began to run.

    Args:
        waited_for: The step that it could not start before; none for one that started at once.
    """

    step: str
    action: str
    start: float
    end: float
    waited_for: str | None


@dataclass
class Report:
    """The outcome of a plan."""

    steps: list[StepReport] = field(default_factory=list)
    outputs: dict[str, Outputs] = field(default_factory=dict)

    @property
    def changed(self) -> list[str]:
        return [step.step for step in self.steps if step.action != "kept"]

    @property
    def seconds(self) -> float:
        """From the start to the end of the last step."""
        return max((step.end for step in self.steps), default=0.0)

    @property
    def critical_path(self) -> list[StepReport]:
        """The chain of steps that the whole took so long for: each waited for the one before it."""
        by_name = {step.step: step for step in self.steps}
        last = max(self.steps, key=lambda step: step.end, default=None)
        path: list[StepReport] = []
        while last is not None:
            path.append(last)
            last = by_name.get(last.waited_for) if last.waited_for else None
        return path[::-1]


class StepsFailedError(ProvisionError):
    """One or more steps failed, or were stopped; everything that did not depend on them was carried out.

    Args:
        command: What was under way.
        failed: The errors by step.
        skipped: Steps that were not tried because something they need failed.
    """

    def __init__(
        self, command: Command, failed: Mapping[str, AsyncJobsError], skipped: list[str], report: Report
    ) -> None:
        done = [step.step for step in report.steps]
        first = next(iter(failed.values()))
        lines = [first.why] if len(failed) == 1 else [_line(step, error) for step, error in failed.items()]
        missing = denied.together(error.details for error in failed.values())
        if len(failed) > 1 and missing:
            lines.append(f"Missing permissions: {denied.sentence(missing)}.")
        if skipped:
            lines.append(f"Not tried because of that: {', '.join(sorted(skipped))}.")
        if done:
            lines.append(f"{'There now' if command == 'up' else 'Deleted'}: {', '.join(sorted(done))}.")
        what = first.what
        if isinstance(first, InterruptedByUserError):
            what = f"`{command}` was interrupted."
        elif len(failed) > 1:
            what = (
                f"`{command}` did not finish: {len(failed)} of {len(failed) + len(skipped) + len(done)} steps failed."
            )
        details = {
            "failed": [_details(step, error) for step, error in failed.items()],
            "skipped": sorted(skipped),
            "done": sorted(done),
        }
        super().__init__(
            what,
            why="\n       ".join(line for line in lines if line),
            hint=_hint(command, failed, missing),
            details={**details, "missing": missing} if missing else details,
        )
        # An interrupt, a timeout or missing permissions end with their own exit code, whichever step met them.
        codes = {error.exit_code for error in failed.values()}
        special = (ExitCode.INTERRUPTED, ExitCode.CREDENTIALS, ExitCode.TIMED_OUT)
        self.exit_code = next((code for code in special if code in codes), first.exit_code)
        self.failed = failed
        self.skipped = skipped
        self.report = report


class Engine:
    """Runs plans.

    Args:
        progress: Gets an event when a step starts, waits, ends or fails.
        halt: Once halted, no step starts.
        clock: Monotonic seconds.
    """

    def __init__(
        self, progress: Progress, halt: Halt | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress = progress
        self._halt = halt or Halt()
        self._clock = clock

    def up(self, plan: Plan) -> Report:
        """Create, update, and delete what is no longer part of the stack.

        Raises:
            StepsFailedError: After everything that could be done was done.
        """
        return self._run("up", plan, _needs(plan), self._converge)

    def down(self, plan: Plan) -> Report:
        """Delete, dependents first.

        Raises:
            StepsFailedError: After everything that could be deleted was deleted.
        """
        return self._run("down", plan, reversed_graph(_needs(plan)), self._delete)

    def _run(
        self,
        command: Command,
        plan: Plan,
        needs: dict[str, tuple[str, ...]],
        work: Callable[[Step, Report], str],
    ) -> Report:
        steps = {step.resource.step: step for step in plan.steps}
        report = Report()
        began = self._clock()

        def run(name: str) -> None:
            start = self._clock() - began
            waited = _latest(report, needs[name])
            action = self._guarded(steps[name], report, work)
            report.steps.append(StepReport(name, action, start, self._clock() - began, waited))

        _, errors, skipped = run_graph(needs, run, halted=lambda: self._halt.halted)
        failed = {
            name: error if isinstance(error, AsyncJobsError) else ProvisionError(f"{name}: {error!r}")
            for name, error in errors.items()
        }
        if skipped and not failed:
            failed = {command: self._halt.error(f"`{command}` was stopped before it was done.")}
        if failed:
            raise StepsFailedError(command, failed, skipped, report)
        return report

    def _guarded(self, step: Step, report: Report, work: Callable[[Step, Report], str]) -> str:
        name = step.resource.step
        try:
            action = work(step, report)
        except AsyncJobsError as error:
            self._progress.emit(Event(name, "failed", error.what))
            raise
        except (ClientError, BotoCoreError, TimeoutError) as error:
            ours = translate(error, step.resource.title)
            self._progress.emit(Event(name, "failed", ours.what))
            raise ours from error
        self._progress.emit(Event(name, "kept" if action == "kept" else "done", action))
        return action

    def _converge(self, step: Step, report: Report) -> str:
        resource, state = step.resource, step.state
        if step.action == "delete":
            return self._delete(step, report)
        inputs = Inputs(report.outputs)
        if state is None:
            self._progress.emit(Event(resource.step, "started", f"creating {resource.title}"))
            report.outputs[resource.step] = resource.create(inputs).outputs
            return "created"
        changed = differences(resource, state, resource.desired(inputs) or {})
        if changed:
            what = ", ".join(sorted(changed))
            self._progress.emit(Event(resource.step, "started", f"updating {what} of {resource.title}"))
            state = resource.update(state, changed, inputs)
        report.outputs[resource.step] = state.outputs
        return "updated" if changed else "kept"

    def _delete(self, step: Step, report: Report) -> str:
        if step.state is None:
            raise ValueError(f"nothing to delete for {step.resource.step}")
        self._progress.emit(Event(step.resource.step, "started", f"deleting {step.resource.title}"))
        step.resource.delete(step.state)
        return "deleted"


def _needs(plan: Plan) -> dict[str, tuple[str, ...]]:
    present = {step.resource.step for step in plan.steps}
    return {step.resource.step: tuple(need for need in step.resource.needs if need in present) for step in plan.steps}


def _latest(report: Report, needs: tuple[str, ...]) -> str | None:
    """The need that ended last: the one this step really waited for."""
    ended = [done for done in report.steps if done.step in needs]
    return max(ended, key=lambda done: done.end).step if ended else None


def _line(step: str, error: AsyncJobsError) -> str:
    return " ".join(part for part in (f"{step}:", error.what, error.why) if part)


def _hint(command: Command, failed: Mapping[str, AsyncJobsError], missing: list[denied.Missing]) -> str:
    """What is missing is said of the command as a whole: the next permission would be missing after this one."""
    if missing and any("asyncjobs permissions" in error.hint for error in failed.values()):
        return denied.policy_hint(command)
    first = next(iter(failed.values()))
    return first.hint or f"Run `asyncjobs {command}` again: it goes on from here."


def _details(step: str, error: AsyncJobsError) -> dict[str, Any]:
    """What a program wants to know of a failure: AWS's code and call where one was behind it."""
    found = {"step": step, "message": error.what, "why": error.why, "hint": error.hint}
    cause = error.__cause__
    if isinstance(cause, ClientError):
        found |= {"code": error_code(cause), "call": cause.operation_name}
    return {key: value for key, value in found.items() if value}
