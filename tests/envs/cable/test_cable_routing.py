"""The environment: spaces, seeds, saved states, rewards, cameras, and what it refuses."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from cadenza.envs.cable.cable_routing import CableRouting
from cadenza.envs.cable.layouts import LAYOUTS, MOST_OFFSET_M, MOST_YAW_RAD, PLACES_Y_M, ROW_X_M, draw_layout
from cadenza.envs.cable.settings import CableConfig, config_of
from cadenza.envs.errors import CadenzaError
from cadenza.envs.guard import FiniteGuard
from cadenza.envs.registration import make_env
from cadenza.envs.state import get_env_state, set_env_state

Routing = Callable[..., CableRouting]
ID = "cadenza/CableRouting-v0"


def random_actions(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (count, 5)).astype(np.float32)


def rollout(env: gym.Env, actions: NDArray[np.float32], seed: int) -> list[tuple[bytes, float, bytes]]:
    """Everything of a run, comparable bit for bit."""
    observation, info = env.reset(seed=seed)
    out = [(observation["state"].tobytes(), 0.0, info["routed"].tobytes())]
    for action in actions:
        observation, reward, _, _, info = env.step(action)
        out.append((observation["state"].tobytes(), reward, info["routed"].tobytes()))
    return out


def test_gymnasium_accepts_it(routing: Routing) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(minimum|maximum) value.*infinity")
        check_env(routing(clips=2), skip_render_check=True)


def test_the_state_has_the_parts_it_says(routing: Routing) -> None:
    env = routing(clips=2)
    observation, info = env.reset(seed=0)
    world, state, layout = env.world, observation["state"], env.state_layout
    assert env.observation_space.contains(observation)
    assert [(name, part.stop - part.start) for name, part in layout.items()] == [
        ("tcp_pose", 7), ("gripper", 1), ("cable", 72), ("clips", 15), ("current_clip", 3),
    ]  # fmt: skip
    np.testing.assert_allclose(state[layout["tcp_pose"]][:3], world.tcp, rtol=1e-6)
    assert np.linalg.norm(state[layout["tcp_pose"]][3:]) == pytest.approx(1.0, abs=1e-6)
    assert state[layout["gripper"]] == pytest.approx(0.044, abs=1e-4)
    np.testing.assert_allclose(state[layout["cable"]].reshape(24, 3), world.points, rtol=1e-5, atol=1e-6)
    clips = state[layout["clips"]].reshape(3, 5)
    for row, clip in zip(clips, world.clips, strict=False):
        np.testing.assert_allclose(row, (clip.x, clip.y, 0.0, clip.yaw, 1.0), rtol=1e-5)
    assert not clips[2].any()
    assert state[layout["current_clip"]].tolist() == [1, 0, 0]
    assert info["current_clip"] == 0
    assert info["routed"].tolist() == [False, False]
    assert info["privileged"] is world


def test_a_clip_can_be_aimed_at(routing: Routing) -> None:
    env = routing(clips=2)
    env.reset(seed=0)
    env.world.aim_at(1)
    observation, _, _, _, info = env.step(np.zeros(5, np.float32))
    assert info["current_clip"] == 1
    assert observation["state"][env.state_layout["current_clip"]].tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="no clip 2"):
        env.world.aim_at(2)
    assert env.reset(seed=0)[1]["current_clip"] == 0


def test_the_same_seed_gives_the_same_run_bit_for_bit(routing: Routing) -> None:
    actions = random_actions(30)
    env = routing(clips=3, disturbances="all")
    first = rollout(env, actions, seed=7)
    assert rollout(env, actions, seed=7) == first
    assert rollout(CableRouting(clips=3, disturbances="all", visuals=False), actions, seed=7) == first
    assert rollout(env, actions, seed=8)[0] != first[0]


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    """In the middle of a grasp, a push and an episode, into an environment of another stiffness and layout."""
    one, two = (CableRouting(clips=2, disturbances="all", visuals=False) for _ in range(2))
    one.reset(seed=2)
    two.reset(seed=9)
    one.world.hand.place(one.model, one.data, (*one.world.points[8][:2], 0.0095), 0.4)
    mujoco.mj_forward(one.model, one.data)
    still = np.array((0, 0, 0.3, 0, 1.0), np.float32)
    for _ in range(8):
        one.step(np.array((0, 0, 0, 0, 1.0), np.float32))
    one.world.push(15, (0.2, 0.0, 0.1), 0.5)
    one.step(still)
    assert one.world.held is not None
    set_env_state(two, get_env_state(one))
    for _ in range(15):
        a, b = one.step(still), two.step(still)
        assert a[0]["state"].tobytes() == b[0]["state"].tobytes()
    assert two.world.held == one.world.held


def test_reset_restores_the_whole_physics_state(routing: Routing) -> None:
    env = routing(clips=1)
    env.reset(seed=5)
    expected = get_env_state(env)["mujoco"]["arrays"]
    for action in random_actions(20):
        env.step(action)
    env.data.xfrc_applied[:] = 3.0
    env.reset(seed=5)
    for name, array in get_env_state(env)["mujoco"]["arrays"].items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_the_reward_is_the_change_of_what_is_routed(routing: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
    env = routing(clips=2)
    env.reset(seed=0)
    steps = iter([[True, False], [False, False], [True, True]])
    kind = type(env.world)
    expected = [(0.5, False), (-0.5, False), (1.0, True)]
    for reward, over in expected:
        now = next(steps)
        monkeypatch.setattr(kind, "routed", property(lambda _, now=now: now))
        _, got, terminated, truncated, info = env.step(np.zeros(5, np.float32))
        assert (got, terminated, truncated) == (reward, over, False)
        assert info["reward_terms"] == {"routed": reward}
        assert info["is_success"] is over


def test_what_is_not_finite_ends_the_episode(routing: Routing) -> None:
    env = routing(clips=1)
    env.reset(seed=0)
    last, *_ = env.step(np.zeros(5, np.float32))
    env.data.qvel[30] = np.nan
    observation, reward, terminated, _, info = env.step(np.zeros(5, np.float32))
    assert terminated
    assert reward == 0.0
    assert info["non_finite"]
    assert observation["state"].tobytes() == last["state"].tobytes()
    assert np.isfinite(env.reset(seed=0)[0]["state"]).all()
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.array((np.nan, 0, 0, 0, 0), np.float32))
    guarded = FiniteGuard(env)
    guarded.reset(seed=0)
    assert guarded.step(np.array((np.nan, 0, 0, 0, 0), np.float32))[4]["non_finite"]


@pytest.mark.parametrize(("clips", "steps"), [(1, 480), (2, 960), (3, 1440)])
def test_an_episode_is_eight_primitives_a_clip(clips: int, steps: int) -> None:
    assert make_env(ID, clips=clips, pictures=False).spec.max_episode_steps == steps


@pytest.mark.usefixtures("needs_gl")
def test_cameras_show_cable_and_clips_and_the_state_keeps_its_secrets() -> None:
    env = CableRouting(clips=1, observe="camera", camera_size=96, visuals=False)
    observation, _ = env.reset(seed=0)
    assert list(env.state_layout) == ["tcp_pose", "gripper"]
    assert observation["state"].shape == (8,)
    assert env.observation_space.contains(observation)
    # From above the cable, each camera sees red (cable); the side camera blue (clip) as well.
    place = env.world.points[10] + (0.0, 0.0, 0.06)
    env.world.hand.place(env.model, env.data, place, 0.0)
    mujoco.mj_forward(env.model, env.data)
    pictures = env._observe()
    for name in ("wrist_left", "wrist_right", "side"):
        red, green, blue = (pictures[name][..., channel].astype(int) for channel in range(3))
        assert pictures[name].shape == (96, 96, 3)
        assert pictures[name].dtype == np.uint8
        assert ((red > 80) & (red > 2 * green) & (red > 2 * blue)).sum() > 20, name
    assert ((blue > 60) & (blue > 1.5 * red)).sum() >= 3
    env.close()


@pytest.mark.usefixtures("needs_gl")
def test_it_renders() -> None:
    env = make_env(ID, render_mode="rgb_array", width=64, height=48, pictures=False)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (48, 64, 3)
    assert picture.std() > 5
    env.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"clips": 4}, "1, 2 or 3 clips"),
        ({"layout": "trian"}, "trian"),
        ({"layout": [(0.45, 0.0)], "clips": 2}, "1 poses for 2 clips"),
        ({"layout": [(0.9, 0.0)]}, "cannot stand at x 0.9"),
        ({"layout": [(0.45, float("nan"))]}, "cannot stand"),
        ({"layout": [(0.45, 0.0), (0.45, 0.02)], "clips": 2}, "closer together than 8 cm"),
        ({"layout": [(0.45, 0.0), (0.45, 0.13), (0.45, 0.02)], "clips": 3}, "closer together than 8 cm"),
        ({"layout": 5}, "it is a name, or one"),
        ({"layout": [5]}, "A clip's pose is"),
        ({"layout": [("a", 0.0)]}, "A clip's pose is"),
        ({"nonsense": 3}, "no setting of cable routing named 'nonsense'"),
        ({"camera_size": "big"}, "camera_size is 'big'"),
        ({"stiffness_scale": "soft"}, "stiffness_scale is 'soft'"),
        ({"stiffness_range": "soft"}, "stiffness_range is 'soft'"),
        ({"disturbances": 5}, "The disturbances are 5"),
        ({"disturbances": {"push_hz": "a"}}, "push_hz is 'a'"),
        ({"observe": "pixels"}, "pixels"),
        ({"cameras": ("top",)}, "top"),
        ({"observe": "camera", "cameras": ()}, "no camera"),
        ({"camera_size": 32}, "64 to 128"),
        ({"grasp": "glue"}, "glue"),
        ({"stiffness_range": 1.5}, "stiffness_range"),
        ({"stiffness_scale": 0.0}, "stiffness_scale"),
        ({"disturbances": "storm"}, "storm"),
        ({"disturbances": {"push": 1.0}}, "push"),
        ({"disturbances": {"push_hz": -1.0}}, "push_hz"),
        ({"physics_dt_s": 0.01}, "physics_dt_s"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(CadenzaError, match=says):
        config_of(settings)


def test_unknown_settings_are_told_with_those_that_exist() -> None:
    with pytest.raises(CadenzaError) as caught:
        CableRouting(stifness_scale=1.0)
    assert "Did you mean stiffness_scale" in caught.value.advice
    assert all(field.name in caught.value.advice for field in dataclasses.fields(CableConfig))


def test_layouts_are_what_they_say() -> None:
    random = np.random.default_rng(0)
    for name in LAYOUTS:
        for _ in range(200):
            for clip, y in zip(draw_layout(name, 3, random), PLACES_Y_M, strict=True):
                shares = abs(clip.x - ROW_X_M) / MOST_OFFSET_M, abs(clip.yaw) / MOST_YAW_RAD
                assert max(shares) <= 1.0 + 1e-9
                assert abs(clip.y - y) <= 0.01
                if name == "train":
                    assert max(shares) <= 0.8 + 1e-9
                if name == "held_out":
                    assert max(shares) > 0.8
    assert len({draw_layout("train", 1, random) for _ in range(5)}) == 5


def test_given_poses_and_stiffness_are_used() -> None:
    env = CableRouting(clips=2, layout=[(0.44, -0.1, 0.2), (0.46, 0.05)], stiffness_scale=1.25, visuals=False)
    env.reset(seed=0)
    assert [(clip.x, clip.y, clip.yaw) for clip in env.world.clips] == [(0.44, -0.1, 0.2), (0.46, 0.05, 0.0)]
    assert env.world.stiffness_scale == 1.25
