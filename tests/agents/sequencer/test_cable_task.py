"""The cable as something to sequence: stages, failures that are put in, features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cadenza.agents.sequencer.primitive import Outcome
from cadenza.agents.sequences import first_primitive, learner_for, make_task, primitive_names
from cadenza.envs.errors import CadenzaError
from cadenza.robots import load_arm
from cadenza.robots.menagerie import is_fetched

pytestmark = pytest.mark.skipif(
    not is_fetched(load_arm("panda").menagerie), reason="the Panda is not fetched: make robots"
)


class Still:
    """A policy that keeps the hand where it is, closed."""

    def predict(self, observation: Any, deterministic: bool = True) -> tuple[np.ndarray, None]:
        return np.array([0, 0, 0, 0, 1], np.float32), None


@pytest.fixture(scope="module")
def task() -> Any:
    made = make_task("cable", 2, drop=0.5, misroute=0.5)
    yield made
    made.close()


def test_primitives_are_numbered_as_in_demonstrations(task: Any) -> None:
    assert tuple(task.primitives) == primitive_names("cadenza/CableRouting-v0")
    assert set(task.order) <= set(task.primitives)
    assert first_primitive("cable") in task.primitives


def test_the_script_aims_at_the_next_clip_whatever_is_routed(task: Any) -> None:
    _, info = task.reset(0)
    assert (task.stage(info), task.finished(info), task.over(info)) == (0, (False, False), False)
    task.aim(1)
    assert task.stage(info) == 1
    assert task.context(info)["clip"] == 1
    _, info = task.reset(0)
    assert task.stage(info) == 0


def test_failures_take_the_place_of_whoever_routes_and_repeat_with_the_seed(task: Any) -> None:
    task.set_route(Still())
    drawn = []
    for seed in (3, 3, 4):
        observation, info = task.reset(seed)
        route, kinds = task.primitives["route"], []
        for _ in range(6):
            route.start(observation, task.context(info))
            kinds.append(route.injected)
            route.act(observation)
            assert route.outcome is Outcome.FAILURE  # the script that fails, with nothing in the hand
        drawn.append(kinds)
    assert drawn[0] == drawn[1]
    assert set(drawn[0] + drawn[2]) == {"drop", "misroute"}  # 0.5 and 0.5: no attempt is the policy's own
    with pytest.raises(CadenzaError, match="can be learned"):
        learner_for("cable", "tighten")


def test_the_features_see_the_clip_in_work(task: Any) -> None:
    """Hand and cable in the frame of the clip, worked out from the world itself."""
    from cadenza.agents.sequences.cable_features import ClipFrame

    features = ClipFrame()
    for clip in (0, 1):
        task.reset(5)
        task.aim(clip)
        observation, *_ = task.step(np.zeros(5, np.float32))
        found = dict(zip(features.names, features({"state": observation["state"][None]})[0], strict=True))
        world = task.context({})["world"]
        pose = world.clips[clip]
        away = world.tcp - pose.position
        expected = (away @ pose.v, away @ pose.u, away[2])
        np.testing.assert_allclose([found[f"hand_{axis}"] for axis in range(3)], expected, atol=1e-5)
        point = world.points[7] - pose.position
        np.testing.assert_allclose(
            [found[f"cable_{21 + axis}"] for axis in range(3)], (point @ pose.v, point @ pose.u, point[2]), atol=1e-5
        )
        turn = np.arctan2(found["turn_0"], found["turn_1"])
        assert np.sin(turn - (world.yaw - pose.yaw)) == pytest.approx(0.0, abs=1e-3)
        assert [found[f"clip_{index}"] for index in range(3)] == [float(clip == index) for index in range(3)]
        other = world.clips[1 - clip].position - pose.position
        at = 3 if clip == 0 else 0
        place = [found[f"others_{at}"], found[f"others_{at + 1}"], found[f"others_{at + 2}"]]
        np.testing.assert_allclose(place, (other @ pose.v, other @ pose.u, 1.0), atol=1e-5)


def test_what_cannot_be_is_refused() -> None:
    from cadenza.agents.sequences.cable_features import ClipFrame

    with pytest.raises(CadenzaError, match="3 clips"):
        make_task("cable", 4)
    with pytest.raises(CadenzaError, match="whole state of 98 numbers, not 8"):
        ClipFrame()({"state": np.zeros((1, 8))})
