"""Plan and engine over resources that exist only in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from asyncjobs.aws import Waiter
from asyncjobs.errors import ConfigError, CredentialsError, ExitCode, InterruptedByUserError, TimedOutError
from asyncjobs.progress import RecordingProgress
from asyncjobs.provision.engine import Engine, StepsFailedError
from asyncjobs.provision.halt import Halt
from asyncjobs.provision.plan import plan_down, plan_up, read_all
from asyncjobs.provision.resource import Inputs, NotOursError, State

World = dict[str, dict[str, Any]]


class Thing:
    """A resource in a dictionary, with one property of its own and one taken from what it needs."""

    fixed = frozenset({"shape"})

    def __init__(self, world: World, step: str, *needs: str, size: int = 1, shape: str = "round") -> None:
        self._world = world
        self.step = step
        self.title = f"thing {step}"
        self.needs = needs
        self._own = {"size": size, "shape": shape}
        self.error: Exception | None = None
        self.wanted = True

    def desired(self, inputs: Inputs) -> Mapping[str, Any] | None:
        if not self.wanted:
            return None
        return {**self._own, **{need: inputs.get(need, "id") for need in self.needs}}

    def read(self) -> State | None:
        if self.step not in self._world:
            return None
        found = self._world[self.step]
        return State({"id": found["id"]}, found)

    def create(self, inputs: Inputs) -> State:
        if self.error:
            raise self.error
        self._world[self.step] = {**(self.desired(inputs) or {}), "id": f"{self.step}-{self._own['size']}"}
        return State({"id": self._world[self.step]["id"]})

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        desired = self.desired(inputs) or {}
        self._world[self.step] |= {key: desired[key] for key in changed}
        return state

    def delete(self, state: State) -> None:
        if self.error:
            raise self.error
        dependents = [name for name, found in self._world.items() if self.step in found]
        assert not dependents, f"{self.step} was deleted before {dependents}"
        del self._world[self.step]


def chain(world: World, **settings: Any) -> list[Thing]:
    return [Thing(world, "a", **settings), Thing(world, "b", "a"), Thing(world, "c", "b")]


def up(resources: list[Thing], progress: RecordingProgress | None = None):
    return Engine(progress or RecordingProgress()).up(plan_up(resources, read_all(resources)))


def client_error(code: str, call: str = "CreateThing") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "because"}}, call)


def test_up_creates_all_and_a_second_up_changes_nothing():
    world: World = {}
    assert sorted(up(chain(world)).changed) == ["a", "b", "c"]
    plan = plan_up(chain(world), read_all(chain(world)))
    assert [step.action for step in plan.steps] == ["keep", "keep", "keep"]
    assert plan.changes == ()
    assert up(chain(world)).changed == []


def test_a_change_is_planned_with_its_reason_and_dependents_are_checked():
    world: World = {}
    up(chain(world))
    resources = chain(world, size=2)
    plan = plan_up(resources, read_all(resources))
    assert [(step.action, step.reason) for step in plan.steps] == [
        ("update", "size 1 → 2"),
        ("check", "depends on a"),
        ("check", "depends on b"),
    ]
    assert Engine(RecordingProgress()).up(plan).changed == ["a"]
    assert world["a"]["size"] == 2


def test_planning_writes_nothing():
    world: World = {}
    plan_up(chain(world), read_all(chain(world)))
    assert world == {}


def test_what_only_a_replacement_could_change_is_refused_before_anything_is_done():
    world: World = {}
    up(chain(world))
    resources = chain(world, shape="square")
    with pytest.raises(ConfigError, match="shape cannot be changed from 'round' to 'square'"):
        plan_up(resources, read_all(resources))


def test_a_failure_leaves_the_rest_done_and_says_what_was_not_tried():
    world: World = {}
    resources = [*chain(world), Thing(world, "other")]
    resources[1].error = client_error("LimitExceeded")
    progress = RecordingProgress()
    with pytest.raises(StepsFailedError) as caught:
        up(resources, progress)
    error = caught.value
    assert set(world) == {"a", "other"}
    assert list(error.failed) == ["b"]
    assert error.skipped == ["c"]
    assert "thing b" in error.what
    assert "LimitExceeded" in error.what
    assert "CreateThing" in error.what
    assert "because" in error.why
    assert "asyncjobs up" in error.hint
    assert "Not tried because of that: c." in error.why
    assert "There now: a, other." in error.why
    assert error.details["done"] == ["a", "other"]
    assert error.details["skipped"] == ["c"]
    assert [(one["step"], one["code"], one["call"]) for one in error.details["failed"]] == [
        ("b", "LimitExceeded", "CreateThing")
    ]
    assert [event.step for event in progress.events if event.kind == "failed"] == ["b"]
    resources[1].error = None
    assert sorted(up(resources).changed) == ["b", "c"]


def test_a_missing_permission_keeps_its_exit_code_through_the_engine():
    world: World = {}
    resources = chain(world)
    resources[0].error = client_error("AccessDenied")
    with pytest.raises(StepsFailedError) as caught:
        up(resources)
    assert caught.value.exit_code == ExitCode.CREDENTIALS
    assert isinstance(caught.value.failed["a"], CredentialsError)


def test_a_namesake_that_is_not_ours_stops_the_plan():
    class Foreign(Thing):
        def read(self) -> State | None:
            raise NotOursError("thing a exists and is not this stack's.")

    with pytest.raises(NotOursError):
        read_all([Foreign({}, "a")])


def test_down_deletes_dependents_first_and_leaves_nothing():
    world: World = {}
    up(chain(world))
    resources = chain(world)
    report = Engine(RecordingProgress()).down(plan_down(resources, read_all(resources)))
    assert [step.step for step in report.steps] == ["c", "b", "a"]
    assert world == {}
    assert plan_down(resources, read_all(resources)).steps == ()


def test_down_after_half_an_up():
    world: World = {}
    resources = chain(world)
    resources[2].error = client_error("Boom")
    with pytest.raises(StepsFailedError):
        up(resources)
    resources[2].error = None
    Engine(RecordingProgress()).down(plan_down(resources, read_all(resources)))
    assert world == {}


def test_the_report_tells_what_each_step_waited_for():
    ticks = iter(range(100))
    resources = chain({})
    report = Engine(RecordingProgress(), clock=lambda: float(next(ticks))).up(plan_up(resources, read_all(resources)))
    assert {step.step: step.waited_for for step in report.steps} == {"a": None, "b": "a", "c": "b"}
    assert [step.step for step in report.critical_path] == ["a", "b", "c"]
    assert all(step.start < step.end for step in report.steps)


def test_what_is_no_longer_part_of_the_stack_is_deleted_and_only_where_it_is():
    world: World = {}
    up(chain(world))
    resources = chain(world)
    resources[2].wanted = False
    plan = plan_up(resources, read_all(resources))
    assert [(step.action, step.reason) for step in plan.changes] == [("delete", "no longer part of the stack")]
    assert Engine(RecordingProgress()).up(plan).changed == ["c"]
    assert set(world) == {"a", "b"}
    assert [step.resource.step for step in plan_up(resources, read_all(resources)).steps] == ["a", "b"]


def test_several_failures_are_all_named():
    resources = [Thing({}, "a"), Thing({}, "b"), Thing({}, "c")]
    resources[0].error = client_error("LimitExceeded")
    resources[1].error = client_error("Throttled")
    with pytest.raises(StepsFailedError) as caught:
        up(resources)
    assert caught.value.what == "`up` did not finish: 2 of 3 steps failed."
    assert "LimitExceeded" in caught.value.why
    assert "Throttled" in caught.value.why


def test_after_an_interrupt_no_step_starts_and_what_runs_is_finished():
    world: World = {}
    halt = Halt()

    class Interrupted(Thing):
        def create(self, inputs: Inputs) -> State:
            halt.ask()
            return super().create(inputs)

    resources = [Interrupted(world, "a"), Thing(world, "b", "a")]
    with pytest.raises(StepsFailedError) as caught:
        Engine(RecordingProgress(), halt).up(plan_up(resources, read_all(resources)))
    assert set(world) == {"a"}
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert caught.value.details["done"] == ["a"]
    assert caught.value.skipped == ["b"]
    assert up(resources).changed == ["b"]


def test_an_interrupt_ends_a_wait():
    halt = Halt()
    halt.ask()
    waiter = Waiter(RecordingProgress(), sleep=halt.sleep)
    with pytest.raises(InterruptedByUserError):
        waiter.until(lambda: False, step="a", reason="it never comes", timeout=900)


def test_when_its_time_is_up_a_wait_ends_and_no_step_starts():
    now = [0.0]
    halt = Halt(60, clock=lambda: now[0])
    halt.sleep(0)
    now[0] = 61
    with pytest.raises(TimedOutError, match="Not done within 60 s"):
        halt.sleep(5)
    resources = chain({})
    with pytest.raises(StepsFailedError) as caught:
        Engine(RecordingProgress(), halt).up(plan_up(resources, read_all(resources)))
    assert caught.value.exit_code == ExitCode.TIMED_OUT
    assert caught.value.details["done"] == []
