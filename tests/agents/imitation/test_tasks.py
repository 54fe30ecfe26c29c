"""Whether a policy fits demonstrations and tasks, and how it takes a primitive's place."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.agents.demos.errors import MismatchError
from cadenza.agents.imitation.cloning import clone, fine_tune
from cadenza.agents.imitation.config import CloningConfig
from cadenza.agents.imitation.policy import ImitationPolicy, Inputs
from cadenza.agents.imitation.samples import load_samples
from cadenza.agents.imitation.tasks import check_task, put_in, seen_settings
from cadenza.agents.sequences.latches import LatchTask, learned_press
from cadenza.envs.errors import CadenzaError
from cadenza.robots import load_arm
from cadenza.robots.menagerie import is_fetched

SMALL = CloningConfig(steps=1, batch_size=8, hidden=(8,), validate_every=1, held_out=0.0)
CAMERA = dataclasses.replace(SMALL, cameras=("wrist",))
LATCHES = Inputs({"state": (0, 1, 2, 3, 4)}, {}, 2, {"state": 5}, rate_hz=10.0)


@pytest.mark.parametrize(
    ("changed", "config", "said"),
    [
        ({"rate_hz": 20.0}, SMALL, "rate: 10 Hz against 20 Hz"),
        ({"env_id": "Other-v0"}, SMALL, "environment: Toy-v0 against Other-v0"),
        ({"side": 32}, CAMERA, r"camera 'wrist': \(16, 16, 3\) against \(32, 32, 3\)"),
        ({"state": 4}, SMALL, "vector 'state': 5 numbers against 4 numbers"),
        ({}, dataclasses.replace(SMALL, parts=("tcp",)), "vector 'state': other entries"),
        ({}, dataclasses.replace(SMALL, hidden=(4,)), r"hidden: \(8,\) against \(4,\)"),
    ],
)
def test_a_policy_begins_with_one_that_fits(
    demos: Callable[..., Any], changed: dict[str, Any], config: CloningConfig, said: str
) -> None:
    base = CAMERA if config.cameras else SMALL
    samples, inputs = load_samples(demos(), base)
    policy = clone(samples, inputs, base).policy
    clone(samples, inputs, base, initial=policy)
    other = demos()
    for name in {"rate_hz", "env_id"} & changed.keys():
        setattr(other.schema, name, changed[name])
    if "side" in changed:
        other.schema.observation["wrist"].shape = (changed["side"], changed["side"], 3)
    if "state" in changed:
        other.schema.observation["state"].shape = (changed["state"],)
        other.schema.observation["state"].names = None
    others, seen = load_samples(other, config)
    with pytest.raises(MismatchError, match=said):
        clone(others, seen, config, initial=policy)


def test_fewer_numbers_than_are_read_are_told(demos: Callable[..., Any]) -> None:
    samples, inputs = load_samples(demos(), SMALL)
    policy = clone(samples, inputs, SMALL).policy
    fewer = dataclasses.replace(samples, observation={"state": samples.observation["state"][:, :3]})
    with pytest.raises(CadenzaError, match=r"shape \(5,\)"):
        fine_tune(policy, fewer, steps=1)


def test_what_it_was_made_for_is_saved_and_older_policies_are_read(demos: Callable[..., Any], tmp_path: Path) -> None:
    samples, inputs = load_samples(demos(), SMALL)
    inputs = dataclasses.replace(inputs, env_settings={"observe": "camera"})
    policy = clone(samples, inputs, SMALL).policy
    policy.save(tmp_path / "new")
    loaded = ImitationPolicy.load(tmp_path / "new").inputs
    assert (loaded.rate_hz, loaded.env_id, loaded.env_settings) == (10.0, "Toy-v0", {"observe": "camera"})
    file = tmp_path / "new" / "policy.json"
    record = json.loads(file.read_text())
    for name in ("rate_hz", "env_id", "env_settings"):
        del record["inputs"][name]
    file.write_text(json.dumps(record))
    older = ImitationPolicy.load(tmp_path / "new")
    assert (older.inputs.rate_hz, older.inputs.env_id, older.inputs.env_settings) == (None, None, {})
    clone(samples, dataclasses.replace(inputs, rate_hz=20.0, env_id="Other-v0"), SMALL, initial=older)


def test_the_task_sees_what_the_demonstrations_saw_unless_told() -> None:
    seen = {"observe": "camera", "cameras": ["side"], "clips": 3}
    inputs = dataclasses.replace(LATCHES, env_id="Toy-v0", env_settings=seen)
    assert seen_settings(inputs, "Toy-v0", {"layout": "train"}) == {
        "observe": "camera", "cameras": ["side"], "layout": "train",
    }  # fmt: skip
    assert seen_settings(inputs, "Toy-v0", {"observe": "state"})["observe"] == "state"
    assert seen_settings(inputs, "Other-v0", {}) == seen_settings(inputs, None, {}) == {}


def test_a_task_that_does_not_fit_is_told_with_the_settings_that_would() -> None:
    task = LatchTask()
    policy = ImitationPolicy(LATCHES, SMALL)
    assert set(check_task(policy, task, 0)) == {"state"}
    policy = ImitationPolicy(dataclasses.replace(LATCHES, rate_hz=20.0), SMALL)
    with pytest.raises(MismatchError, match="made for 20 Hz, the task has 10 Hz"):
        check_task(policy, task, 0)
    pictured = dataclasses.replace(LATCHES, cameras={"side": (64, 64, 3)})
    with pytest.raises(MismatchError, match="reads 'side'") as older:
        check_task(ImitationPolicy(pictured, dataclasses.replace(SMALL, cameras=("side",))), task, 0)
    assert "--task-set observe=camera \"cameras=('side',)\" camera_size=64" in older.value.advice
    told = dataclasses.replace(pictured, env_settings={"observe": "camera", "cameras": "side"})
    with pytest.raises(MismatchError) as newer:
        check_task(ImitationPolicy(told, dataclasses.replace(SMALL, cameras=("side",))), task, 0)
    assert "--task-set observe=camera cameras=side" in newer.value.advice


class Still:
    def predict(self, observation: Any, deterministic: bool = True) -> tuple[np.ndarray, None]:
        return np.zeros(2, np.float32), None


def test_a_policy_takes_a_primitives_place() -> None:
    task = LatchTask()
    put_in(task, "press", Still(), learned_press)
    assert task.primitives["press"].act({"state": np.zeros(5)}).tolist() == [0.0, 0.0]
    assert list(task.primitives) == ["press", "clear", "advance"]


@pytest.mark.skipif(not is_fetched(load_arm("panda").menagerie), reason="the Panda is not fetched: make robots")
def test_failures_are_put_in_whoever_routes() -> None:
    from cadenza.agents.sequences.cable import CableTask, learned_route

    task = CableTask(1, drop=1.0)
    try:
        for policy in (Still(), Still()):  # the second takes the first one's place
            put_in(task, "route", policy, learned_route)
            observation, info = task.reset(0)
            route: Any = task.primitives["route"]
            route.start(observation, task.context(info))
            assert route.injected == "drop"
            assert route._learned._policy is policy
    finally:
        task.close()
