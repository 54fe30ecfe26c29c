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


def test_the_view_of_the_clip_agrees_with_the_world(task: Any) -> None:
    """What is worked out from the observation alone, against what the world knows, while an expert routes a clip."""
    from cadenza.agents.cable_routing.geometry import beyond_clip
    from cadenza.agents.sequencer.choosers import OracleRetry
    from cadenza.agents.sequencer.machine import run_episode
    from cadenza.agents.sequences.cable_features import ClipView, cable_nodes
    from cadenza.envs.cable.routing import crossings

    single = make_task("cable", 1, layout="train")
    features, world = ClipView(), single.context({})["world"]
    held = lying = 0

    def look(*_: Any) -> None:
        nonlocal held, lying
        state = single.env.unwrapped._last["state"]
        np.testing.assert_allclose(cable_nodes(world.points[None])[0], world.nodes, atol=2e-4)
        found = dict(zip(features.names, features({"state": state[None]})[0], strict=True))
        seat = world.seat(0)
        beyond = beyond_clip(world, 0)
        # The gap is drawn and not observed: a cable at its very edge may be judged either way.
        found_crossings = crossings(world.nodes, world.clips[0])
        if len(found_crossings) == 1:
            one = found_crossings[0]
            assert found["crossing_0"] == 1.0
            assert found["crossing_1"] == pytest.approx(np.clip(one.across_m, -0.08, 0.08), abs=1e-3)
            assert found["crossing_4"] == pytest.approx(np.clip(one.height_m, 0.0, 0.05), abs=1e-3)
        if seat is not None and abs(seat.across_m) < 0.004 and seat.height_m < 0.013:
            assert found["crossing_6"] == found["seats_0"] == 1.0
            lying += 1
        if beyond is not None and found["hold_1"] == 1.0:
            assert found["hold_2"] == pytest.approx(beyond, abs=4e-3)
            held += 1

    try:
        result = run_episode(single, OracleRetry(), 2, on_step=look)
    finally:
        single.close()
    assert result.success
    assert held > 10
    assert lying > 2


def test_demonstrations_name_the_entries_of_the_action(task: Any) -> None:
    from cadenza.agents.demos.environment import schema_of

    names = schema_of(task.env, "cadenza/CableRouting-v0", {}).action.entry_names("action")
    assert names == ["action.vx", "action.vy", "action.vz", "action.yaw_rate", "action.gripper"]


def test_the_hand_and_the_gripper_are_no_progress(task: Any) -> None:
    """The signals watch where the cable crosses the clip in work; a hand that shakes far from it does nothing."""
    from cadenza.agents.sequencer.signals import AttemptWatch
    from cadenza.agents.sequences.cable_features import clip_progress
    from cadenza.envs.cable.routing import crossings

    observation, _ = task.reset(5)
    world = task.context({})["world"]
    away = clip_progress(observation)
    assert away.shape == (8,)
    one = crossings(world.nodes, world.clips[0])
    expected = [min(abs(one[0].across_m), 0.04), min(one[0].height_m, 0.04)] if len(one) == 1 else [0.04, 0.04]
    np.testing.assert_allclose(away[:2], expected, atol=1e-3)
    assert away[5:].tolist() == [1.0, 0.0, 0.0]
    up = np.array([0, 0, 1, 0, -1], np.float32)
    for _ in range(10):  # away from the cable, with the gripper open
        observation, *_ = task.step(up)
    watches = AttemptWatch(observation, task.watched), AttemptWatch(observation)
    for count in range(6):
        action = np.array([0, 0.5 if count % 2 else -0.5, 0, 0, 1], np.float32)
        observation, *_ = task.step(action)
        for watch in watches:
            watch.step(action, observation)
    own, everything = (watch.signals(0) for watch in watches)
    assert own.oscillation == pytest.approx(1.0)
    assert everything.oscillation < 0.2  # the shut gripper is most of the action
    assert own.no_progress > 0.9
    assert everything.no_progress == 0.0
    assert clip_progress({"state": np.zeros(8)}).size == 0  # with cameras the cable is not in the numbers


def test_the_learned_choice_may_read_some_parts_of_a_feature_set() -> None:
    from cadenza.agents.sequencer.config import resolve_selector_config
    from cadenza.agents.sequencer.decisions import Decisions
    from cadenza.agents.sequencer.selector import plain_embedding

    rng = np.random.default_rng(0)
    state = rng.normal(size=(6, 98)).astype(np.float32)
    zeros = np.zeros(6, np.int64)
    made = Decisions(
        ("a", "b"), {"state": state}, np.zeros((6, 16), np.int64), np.zeros((6, 3), np.float32), zeros, zeros
    )
    config = resolve_selector_config({"features": "cable_view", "parts": ["hand", "seats"]})
    assert config.parts == ("hand", "seats")
    assert resolve_selector_config({"parts": "hand"}).parts == ("hand",)
    assert plain_embedding(made, config.features, config.parts).embedding_size == 6
    with pytest.raises(CadenzaError, match="No entry of cable_view belongs to wrist") as caught:
        plain_embedding(made, "cable_view", ("wrist",))
    assert "crossing" in caught.value.advice
    with pytest.raises(CadenzaError, match="name it: features="):
        plain_embedding(made, None, ("hand",))


def test_what_cannot_be_is_refused() -> None:
    from cadenza.agents.sequences.cable_features import ClipFrame

    with pytest.raises(CadenzaError, match="3 clips"):
        make_task("cable", 4)
    with pytest.raises(CadenzaError, match="no setting of the task"):
        make_task("cable", 1, stages=2)
    with pytest.raises(CadenzaError, match="whole state of 98 numbers, not 8"):
        ClipFrame()({"state": np.zeros((1, 8))})
