"""Carries out a plan: in parallel, each step as soon as what it needs is ready, with a report of each step's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError

from asyncjobs.aws import translate
from asyncjobs.errors import AsyncJobsError, ProvisionError
from asyncjobs.progress import Event, Progress
from asyncjobs.provision.graph import reversed_graph, run_graph
from asyncjobs.provision.plan import Plan, Step, differences
from asyncjobs.provision.resource import Inputs, Outputs


@dataclass(frozen=True)
class StepReport:
    """What a step did. Times are seconds since the plan began to run."""

    step: str
    action: str
    start: float
    end: float
    waited_for: tuple[str, ...]


@dataclass
class Report:
    """The outcome of a plan."""

    steps: list[StepReport] = field(default_factory=list)
    outputs: dict[str, Outputs] = field(default_factory=dict)

    @property
    def changed(self) -> list[str]:
        return [step.step for step in self.steps if step.action != "kept"]


class StepsFailedError(ProvisionError):
    """One or more steps failed; everything that did not depend on them was carried out.

    Args:
        failed: The errors by step.
        skipped: Steps that were not tried because something they need failed.
    """

    def __init__(self, failed: dict[str, AsyncJobsError], skipped: list[str], report: Report, hint: str) -> None:
        first = next(iter(failed.values()))
        others = [f"{step}: {error.what} {error.why}".strip() for step, error in list(failed.items())[1:]]
        why = " ".join([first.why, *others]).strip()
        if skipped:
            why += f"\n       Not tried because of that: {', '.join(sorted(skipped))}."
        super().__init__(first.what, why=why.strip(), hint=first.hint or hint)
        # Missing permissions end with their own exit code, whichever step met them.
        self.exit_code = first.exit_code
        self.failed = failed
        self.skipped = skipped
        self.report = report


class Engine:
    """Runs plans.

    Args:
        progress: Gets an event when a step starts, waits, ends or fails.
        clock: Monotonic seconds.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock

    def up(self, plan: Plan) -> Report:
        """Create and update.

        Raises:
            StepsFailedError: After everything that could be done was done.
        """
        needs = {step.resource.step: step.resource.needs for step in plan.steps}
        return self._run(plan, needs, self._converge, "Run `asyncjobs up` again: it goes on from here.")

    def down(self, plan: Plan) -> Report:
        """Delete, dependents first.

        Raises:
            StepsFailedError: After everything that could be deleted was deleted.
        """
        present = {step.resource.step for step in plan.steps}
        needs = {
            step.resource.step: tuple(need for need in step.resource.needs if need in present) for step in plan.steps
        }
        return self._run(plan, reversed_graph(needs), self._delete, "Run `asyncjobs down` again.")

    def _run(
        self,
        plan: Plan,
        needs: dict[str, tuple[str, ...]],
        work: Callable[[Step, Report], str],
        hint: str,
    ) -> Report:
        steps = {step.resource.step: step for step in plan.steps}
        report = Report()
        began = self._clock()

        def run(name: str) -> None:
            start = self._clock() - began
            action = self._guarded(steps[name], report, work)
            waited = _latest(report, needs[name])
            report.steps.append(StepReport(name, action, start, self._clock() - began, waited))

        _, errors, skipped = run_graph(needs, run)
        if errors:
            failed = {
                name: error if isinstance(error, AsyncJobsError) else ProvisionError(f"{name}: {error!r}")
                for name, error in errors.items()
            }
            raise StepsFailedError(failed, skipped, report, hint)
        return report

    def _guarded(self, step: Step, report: Report, work: Callable[[Step, Report], str]) -> str:
        name = step.resource.step
        try:
            action = work(step, report)
        except (ClientError, BotoCoreError, TimeoutError, AsyncJobsError) as error:
            ours = error if isinstance(error, AsyncJobsError) else translate(error, step.resource.title)
            self._progress.emit(Event(name, "failed", ours.what))
            raise ours from error
        self._progress.emit(Event(name, "kept" if action == "kept" else "done", action))
        return action

    def _converge(self, step: Step, report: Report) -> str:
        resource, state = step.resource, step.state
        inputs = Inputs(report.outputs)
        if state is None:
            self._progress.emit(Event(resource.step, "started", f"creating {resource.title}"))
            report.outputs[resource.step] = resource.create(inputs).outputs
            return "created"
        changed = differences(resource, state, inputs)
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


def _latest(report: Report, needs: tuple[str, ...]) -> tuple[str, ...]:
    """The need that ended last: the one this step really waited for."""
    ended = [done for done in report.steps if done.step in needs]
    return (max(ended, key=lambda done: done.end).step,) if ended else ()
