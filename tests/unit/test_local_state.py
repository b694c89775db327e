"""The engine's directory: files in it that were damaged, and places where there can be none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.local.control import LocalEngine
from asyncjobs.local.paths import EnginePaths
from asyncjobs.local.ports import Ports
from asyncjobs.local.scaling_store import ScalingStore
from asyncjobs.local.watchdog import TaskRegister
from asyncjobs.progress import NullProgress

DAMAGE = ["", "{", "null", "1", '"x"', "[]", "{}", '{"a": 1}', '{"engine": "x"}', "[1]", "[[1]]", "[" * 100_000]
STEPS = {"AdjustmentType": "ExactCapacity", "StepAdjustments": [{"ScalingAdjustment": 1}]}


@pytest.fixture
def paths(tmp_path: Path) -> EnginePaths:
    return EnginePaths(tmp_path)


@pytest.mark.parametrize("damage", [*DAMAGE, '[["x", 1.0], [-5, 1.0], [0, 1.0], [1e400, 1.0], [true, 2.0], [7]]'])
def test_damaged_tasks_are_not_ended(paths: EnginePaths, damage: str) -> None:
    paths.tasks.write_text(damage)
    assert TaskRegister(paths, {}).reap_leftovers() == []
    assert not paths.tasks.exists()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_ports_are_forgotten(paths: EnginePaths, damage: str) -> None:
    paths.ports.write_text(damage)
    ports = Ports(paths)
    with ports.listen("engine") as listener:
        assert json.loads(paths.ports.read_text())["engine"] == listener.getsockname()[1]


def test_only_real_ports_are_kept(paths: EnginePaths) -> None:
    stored = {"good": 8080, "text": "8080", "bool": True, "low": 0, "high": 65536, "none": None, "float": 1.5}
    paths.ports.write_text(json.dumps(stored))
    assert Ports(paths).names() == ["good"]


def fields(service: str, **more: Any) -> dict[str, Any]:
    named = {"ServiceNamespace": "ecs", "ResourceId": f"service/c/{service}"}
    return {**named, "ScalableDimension": "ecs:service:DesiredCount", **more}


@pytest.mark.parametrize("damage", [*DAMAGE, '{"targets": {"x": 1, "y": {}}, "policies": [], "tags": {"z": []}}'])
def test_damaged_scaling_is_forgotten(paths: EnginePaths, damage: str) -> None:
    paths.scaling.write_text(damage)
    store = ScalingStore(paths, "000000000000")
    assert store.regions() == []
    store.put_target("r", fields("s", MinCapacity=0, MaxCapacity=1))
    assert store.regions() == ["r"]


def test_well_formed_scaling_is_kept_beside_the_rest(paths: EnginePaths) -> None:
    store = ScalingStore(paths, "000000000000")
    for service in ("good", "bad"):
        store.put_target("r", fields(service, MinCapacity=0, MaxCapacity=1, Tags={"a": "b"}))
        for policy in ("one", "two"):
            store.put_policy("r", fields(service, PolicyName=policy, StepScalingPolicyConfiguration=STEPS))
    state = json.loads(paths.scaling.read_text())
    targets, policies = state["targets"], state["policies"]
    targets["r|ecs|service/c/bad|ecs:service:DesiredCount"]["MaxCapacity"] = "many"
    policies["r|ecs|service/c/good|ecs:service:DesiredCount|two"]["StepScalingPolicyConfiguration"] = {
        "AdjustmentType": "ExactCapacity",
        "StepAdjustments": [{"ScalingAdjustment": "all"}],
    }
    paths.scaling.write_text(json.dumps(state))
    again = ScalingStore(paths, "000000000000")
    [(target, steps)] = again.targets("r")
    assert target.resource_id == "service/c/good"
    assert len(steps) == 1
    arn = again.list_targets("r")[0]["ScalableTargetARN"]
    assert again.tags(arn) == {"a": "b"}


@pytest.mark.parametrize("damage", [*DAMAGE, '{"pid": "1"}'])
def test_a_damaged_engine_file_is_no_engine(paths: EnginePaths, damage: str) -> None:
    paths.info.write_text(damage)
    paths.lock.touch()
    engine = LocalEngine(paths.root)
    assert engine.running() is None
    engine.stop(NullProgress())
    assert not paths.info.exists()


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/deeper", "/proc/x"])
def test_a_state_folder_that_cannot_be(place: str) -> None:
    if not Path(place).parent.exists():
        pytest.skip(f"no {place} on this system")
    pytest.importorskip("ministack", reason="the `local` extra is not installed")
    engine = LocalEngine(Path(place) / "local")
    with pytest.raises(ConfigError) as caught:
        engine.start(NullProgress())
    assert place in caught.value.what
    assert caught.value.why
    assert "ASYNCJOBS_STATE_DIR" in caught.value.hint


@pytest.mark.parametrize("call", ["running", "stop", "forget", "stacks_left"])
def test_a_folder_that_is_a_file_is_said_by_every_call(tmp_path: Path, call: str) -> None:
    (tmp_path / "file").touch()
    engine = LocalEngine(tmp_path / "file" / "local")
    with pytest.raises(ConfigError, match="cannot be used"):
        engine.stop(NullProgress()) if call == "stop" else getattr(engine, call)()
