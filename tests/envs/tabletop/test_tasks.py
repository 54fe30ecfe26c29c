"""What the tasks promise: layouts, rewards, safety terms, options of a reset, goals that can be reached."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env

from cadenza.agents.slim.skills import SkillConditioned, SkillPrior
from cadenza.controllers.poses import length, rotation_difference
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import UnknownNameError
from cadenza.envs.registration import make_env
from cadenza.envs.tabletop.play import reach_reward
from cadenza.envs.tabletop.safety import VIOLATIONS, safety_terms
from cadenza.envs.tabletop.signals import Signals
from cadenza.envs.tabletop.workspaces import WORKSPACES
from tests.envs.tabletop.conftest import MakeSingle, MakeVec

LIMITS = np.array([[-1.0, 0.0], [1.0, 2.0]])


def signals(**values: Any) -> Signals:
    """Of one careful arm with two joints."""
    plain: dict[str, Any] = {name: np.zeros((1, 3)) for name in Signals.__dataclass_fields__}
    plain |= {
        "joint_angle": np.array([[0.0, 1.0]]), "contact_force": np.zeros(1), "speed_share": np.zeros(1),
        "object_position": np.array([[0.5, 0.0, 0.025]]), "finger_position": np.zeros((1, 2, 3)),
    }  # fmt: skip
    return replace(Signals(**plain), **values)


@pytest.mark.parametrize(
    ("values", "name", "cost"),
    [
        ({"joint_angle": np.array([[0.91, 1.0]])}, "joint_limit", 1.0),
        ({"joint_angle": np.array([[0.89, 1.89]])}, "joint_limit", 0.0),
        ({"joint_angle": np.array([[0.0, 0.09]])}, "joint_limit", 1.0),
        ({"contact_force": np.array([10.5])}, "contact_force", 1.0),
        ({"contact_force": np.array([9.5])}, "contact_force", 0.0),
        ({"speed_share": np.array([0.91])}, "joint_speed", 1.0),
        ({"speed_share": np.array([0.89])}, "joint_speed", 0.0),
        ({"object_position": np.array([[0.5, 0.0, -0.01]])}, "off_table", 1.0),
        ({"action": np.array([[1.0, 0.0, -1.0]]), "last_action": np.array([[0.0, 0.0, 1.0]])}, "action_rate", 0.05),
    ],
)
def test_each_safety_term_counts_for_itself(values: dict[str, Any], name: str, cost: float) -> None:
    found = safety_terms(signals(**values), LIMITS, 10.0)
    assert found.pop(name)[0] == pytest.approx(cost)
    assert all(value[0] == 0 for value in found.values())


def test_the_reach_reward() -> None:
    cube = np.array([[0.5, 0.0, 0.0]])
    near = signals(object_position=cube, hand_position=cube, finger_position=np.stack([cube, cube], axis=1))
    assert reach_reward(near)[0] == 1.0
    # 6, 3 and 3 cm away: 1 - tanh(10 * 0.12 / 3).
    aside = signals(
        object_position=cube, hand_position=cube + np.array([0, 0, 0.06]),
        finger_position=cube[:, None] + np.array([[0, 0.03, 0], [0, -0.03, 0]]),
    )  # fmt: skip
    assert reach_reward(aside)[0] == pytest.approx(1.0 - np.tanh(0.4))


@pytest.mark.parametrize(
    ("name", "size"), [("PandaPlay", 42), ("UR5ePlay", 40), ("SO101Play", 37), ("PandaReach", 29), ("PandaPush", 42)]
)
def test_the_layout_says_where_things_are(name: str, size: int, single: MakeSingle) -> None:
    env = single(name)
    start = {} if "Reach" in name else {"options": {"object": (env.task.place.center[0], 0.03, 0.4)}}
    observation, _ = env.reset(seed=0, **start)
    state = observation["observation"] if isinstance(observation, dict) else observation
    parts = env.task.layout.slices()
    assert len(state) == size == len(env.observation_names)
    np.testing.assert_allclose(state[parts["joint_angle"]], env.task.physics.qpos[0][env.task.index.qpos], atol=1e-6)
    np.testing.assert_allclose(state[parts["hand_position"]], env.data.site("tcp").xpos, atol=1e-6)
    if start:
        np.testing.assert_allclose(state[parts["object_position"]][:2], (env.task.place.center[0], 0.03), atol=1e-6)
        np.testing.assert_allclose(state[parts["object_quaternion"]], (np.cos(0.2), 0, 0, np.sin(0.2)), atol=1e-6)


def test_twists_are_the_rates_of_the_poses(single: MakeSingle) -> None:
    env = single("PandaPlay")
    env.reset(seed=0, options={"object": (0.6, 0.2, 0.3, 0.4)})
    env.task.physics.qvel[0, env.task._object_dof : env.task._object_dof + 6] = (0.1, 0.2, 0.3, 1.0, 2.0, 3.0)
    for action in np.random.default_rng(0).uniform(-1, 1, (3, 7)):
        env.step(action)
    parts, step = env.task.layout.slices(), env.task.physics
    before = env.task.signals()
    step.step()
    after = env.task.signals()
    dt = env.model.opt.timestep
    for what in ("hand", "object"):
        moved = (getattr(after, f"{what}_position") - getattr(before, f"{what}_position"))[0] / dt
        twist = getattr(after, f"{what}_twist")[0]
        np.testing.assert_allclose(moved, twist[:3], atol=0.05)
        w, turn = getattr(before, f"{what}_quaternion")[0], getattr(after, f"{what}_quaternion")[0]
        # 2 dq q^-1, its vector part.
        rate = 2 * (turn - w) / dt
        spin = w[0] * rate[1:] - rate[0] * w[1:] - np.cross(rate[1:], w[1:])
        np.testing.assert_allclose(spin, twist[3:], atol=0.2)
    assert parts["hand_twist"].stop == 42


def test_play_is_a_vector_reward_for_skills(together: MakeVec) -> None:
    env = together("PandaPlay", 3)
    skills = SkillConditioned(env, SkillPrior(), "object")
    skills.seed(0)
    assert skills.reset().shape == (3, 44)
    _, _, _, infos = skills.step(np.zeros((3, 7), np.float32))
    assert skills.reward_groups == ("reach", "safety", "diversity")
    for info in infos:
        assert info["reward_vector"].shape == (3,)
        assert set(info["violations"]) == {"joint_limit", "contact_force", "joint_speed", "off_table"}
        assert not info["grasped"]
        assert not info["lifted"]


@pytest.mark.parametrize("name", ["PandaPlay", "UR5ePlay", "SO101Play"])
def test_closing_on_nothing_is_no_violation(name: str, single: MakeSingle) -> None:
    env = single(name)
    env.reset(seed=0)
    for action in np.repeat([1.0, -1.0, 1.0], 15):
        info = env.step(np.append(np.zeros(env.action_space.shape[0] - 1), action))[4]
        assert not info["violations"]["contact_force"], info["contact_force_n"]


def test_pressing_on_the_table_is_felt(single: MakeSingle) -> None:
    env = single("PandaPlay")
    env.reset(seed=0, options={"object": (0.6, 0.2, 0.0)})
    down = np.array([0, 0, -0.5, 0, 0, 0, 1.0])
    forces = [env.step(down)[4] for _ in range(12)]
    assert forces[0]["contact_force_n"] == 0
    assert forces[-1]["contact_force_n"] > 10
    assert forces[-1]["violations"]["contact_force"]
    assert forces[-1]["reward_vector"][1] <= -1
    assert forces[-1]["object_force_n"] == pytest.approx(0.06 * 9.81, abs=0.2)  # the cube stands aside


def test_pressing_the_cube_on_the_table_is_told_and_counts_for_nothing(single: MakeSingle) -> None:
    """MuJoCo's own sum over the contacts of cube and table says the same."""
    env = single("PandaPlay")
    env.reset(seed=0, options={"object": (0.5, 0.0, 0.0)})
    unwrapped = env.unwrapped
    env.reset(seed=0, options={"object": (*unwrapped.task.hand.pose()[0][0, :2], 0.0)})
    model, data, parts = unwrapped.model, unwrapped.data, []
    cube, table = model.geom("object").id, model.geom("table").id

    def watched() -> None:
        mujoco.mj_step2(model, data)
        total, force = np.zeros(3), np.zeros(6)
        for index, contact in enumerate(data.contact):
            if {int(contact.geom1), int(contact.geom2)} == {cube, table} and contact.efc_address >= 0:
                mujoco.mj_contactForce(model, data, index, force)
                total += contact.frame.reshape(3, 3).T @ force[:3]
        parts.append(float(np.linalg.norm(total)))
        mujoco.mj_step1(model, data)

    unwrapped.task.physics.step = watched
    down = np.array([0, 0, -0.5, 0, 0, 0, 1.0])
    for _ in range(14):
        parts.clear()
        info = env.step(down)[4]
        assert info["object_force_n"] == pytest.approx(max(parts), rel=1e-9)
    assert info["object_force_n"] > 20
    assert info["contact_force_n"] < 10


def test_pressing_the_cube_on_the_table_counts_where_it_is_asked_for(single: MakeSingle) -> None:
    env, plain = single("PandaPlay", object_limit_n=20.0), single("PandaPlay")
    kinds = set(VIOLATIONS)
    for one in (env, plain):
        one.reset(seed=0)
        place = (*one.unwrapped.task.hand.pose()[0][0, :2], 0.0)
        one.reset(seed=0, options={"object": place})
    down = np.array([0, 0, -0.5, 0, 0, 0, 1.0])
    told = []
    for _ in range(14):
        (_, reward, _, _, info), other = env.step(down), plain.step(down)
        pressed = info["object_force_n"] > 20.0
        told.append(pressed)
        assert info["violations"] == {**other[4]["violations"], "object_force": pressed}
        assert set(other[4]["violations"]) == kinds
        assert info["reward_vector"][1] == other[4]["reward_vector"][1] - pressed
        assert reward == pytest.approx(sum(info["reward_terms"].values()))
    assert not told[0]
    assert told[-1]


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_a_limit_of_what_presses_the_object_is_above_0(limit: float, single: MakeSingle) -> None:
    with pytest.raises(CadenzaError, match="object_limit_n must be above 0"):
        single("PandaPlay", object_limit_n=limit)


@pytest.mark.parametrize("task", ["Reach", "Push", "PickPlace"])
def test_a_limit_that_would_do_nothing_is_refused(task: str, single: MakeSingle) -> None:
    with pytest.raises(CadenzaError, match="object_limit_n is of Play"):
        single(f"Panda{task}", object_limit_n=20.0)


@pytest.mark.parametrize("settings", [{}, {"control": "osc"}, {"actions": "joints"}])
def test_an_action_that_is_none_changes_nothing(settings: dict[str, str], single: MakeSingle) -> None:
    env, twin = single("PandaPlay", **settings), single("PandaPlay", **settings)
    for one in (env, twin):
        one.reset(seed=0)
    size = env.action_space.shape[0]
    good = np.full(size, 0.2, np.float32)
    env.step(good), twin.step(good)
    for wrong in (np.full(size, np.nan), np.append(good[:-1], np.inf), 0.1, good[None], good[:-1], np.ones(1)):
        with pytest.raises(CadenzaError, match=r"not finite|shape"):
            env.step(wrong)
    one, two = env.step(good), twin.step(good)
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1] == two[1]
    assert np.isfinite(one[4]["reward_vector"]).all()


def test_vectorised_actions_are_not_spread_over_the_copies(together: MakeVec) -> None:
    env = together("PandaPlay", 3)
    env.reset()
    for wrong in (np.zeros(7), np.zeros((1, 7)), np.zeros((3, 1)), np.float64(0.0), np.zeros((3, 6))):
        with pytest.raises(CadenzaError, match=r"here it has \(3, 7\)"):
            env.step(wrong)


@pytest.mark.parametrize(
    ("name", "goal"),
    [("PandaReach", (0.4, 0.55, 0.2)), ("PandaPush", (0.4, 0.55)), ("PandaPickPlace", (0.4, 0.55, 0.1))],
)
def test_goals_beyond_where_the_hand_is_kept_are_refused(
    name: str, goal: tuple[float, ...], single: MakeSingle
) -> None:
    with pytest.raises(CadenzaError, match="out of reach"):
        single(name).reset(options={"goal": goal})
    single(name, bounds=False).reset(options={"goal": goal})


def test_only_a_cube_that_falls_ends_play(single: MakeSingle) -> None:
    env = single("PandaPlay")
    env.reset(seed=0, options={"object": (0.5, 0.65, 0.0)})
    env.task.physics.qvel[0, env.task._object_dof + 1] = 1.5
    ends = [env.step(np.zeros(7)) for _ in range(15)]
    assert not ends[0][2]
    first = next(index for index, step in enumerate(ends) if step[2])
    assert ends[first][4]["violations"]["off_table"]
    assert not any(step[4]["violations"]["off_table"] for step in ends[:first])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("PandaPlay", {"object": (2.0, 0.0, 0.0)}, "off the table"),
        ("PandaPlay", {"object": (0.5, 0.0, 0.01, 0.0)}, "off the table"),
        ("PandaPlay", {"object": (0.94, 0.0, 0.0)}, "off the table"),  # the middle is on it, an edge is not
        ("PandaPlay", {"object": (0.92, 0.0, np.pi / 4)}, "off the table"),  # nor is a corner
        ("PandaPlay", {"object": (0.0, 0.0, 0.0)}, "inside the arm"),
        ("PandaPlay", {"object": (0.05, 0.0, 0.0)}, "inside the arm"),
        ("PandaPlay", {"object": (0.5, np.nan, 0.0)}, "takes x, y, yaw"),
        ("PandaPlay", {"object": (0.5,)}, "takes x, y, yaw"),
        ("PandaPlay", {"goal": (0.5, 0.0, 0.1)}, "no goal"),
        ("PandaPlay", {"objects": (0.5, 0.0, 0.1)}, "no option of reset"),
        ("PandaReach", {"goal": (1.5, 0.0, 0.2)}, "out of reach"),
        ("PandaReach", {"goal": (0.5, 0.0, -0.2)}, "out of reach"),
        ("PandaPush", {"goal": (0.5, 0.0, 0.3)}, "stays at z"),
        ("PandaPickPlace", {"goal": (-0.5, 0.0, 0.1)}, "out of reach"),
    ],
)
def test_bad_options_are_refused_and_change_nothing(
    name: str, options: dict[str, Any], message: str, single: MakeSingle, together: MakeVec
) -> None:
    env, many = single(name), together(name, 2)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(CadenzaError) as refused:
        env.reset(options=options)
    assert message in f"{refused.value} {refused.value.advice}"
    assert (env.get_state()["physics"] == before["physics"]).all()
    many.set_options(options)
    with pytest.raises(CadenzaError):
        many.reset()


@pytest.mark.parametrize(
    "settings",
    [{"rewards": 1}, {"camera": "front"}, {"control": "pid"}, {"actions": "feet"}, {"reward": "sum"}],
    ids=lambda settings: next(iter(settings)),
)
def test_unknown_settings_are_named(settings: dict[str, Any], single: MakeSingle) -> None:
    with pytest.raises(UnknownNameError):
        single("PandaPush", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": {"reach": 0.5, "safety": 0.6}}, {"actions": "joints", "control": "osc"}, {"physics_dt_s": 0.004},
        {"physics_dt_s": 0.05},
        {"weights": 3}, {"start_yaw_rad": float("inf")}, {"episode_steps": 2.5}, {"bounds": "no way"},
        {"camera": "top", "camera_size": 4}, {"threshold_m": 0.0}, {"start_noise_m": -1.0},
    ],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any], single: MakeSingle) -> None:
    with pytest.raises(CadenzaError):
        single("PandaPlay", **settings)


def test_options_place_cube_and_goal(single: MakeSingle, together: MakeVec) -> None:
    options = {"object": (0.42, 0.1, 0.5), "goal": (0.6, -0.1)}
    env, many = single("PandaPush"), together("PandaPush", 2)
    one, _ = env.reset(seed=0, options=options)
    many.set_options(options)
    two = many.reset()
    for observation in (one, {name: values[1] for name, values in two.items()}):
        np.testing.assert_allclose(observation["achieved_goal"], (0.42, 0.1, 0.025), atol=1e-6)
        np.testing.assert_allclose(observation["desired_goal"], (0.6, -0.1, 0.025), atol=1e-6)
    # Used once.
    assert abs(env.reset()[0]["desired_goal"] - one["desired_goal"]).max() > 1e-4


@pytest.mark.parametrize("reward", ["sparse", "dense"])
def test_rewards_of_goals_are_those_of_the_steps(reward: str, together: MakeVec) -> None:
    env = together("PandaReach", 4, reward=reward)
    env.seed(1)
    env.reset()
    random = np.random.default_rng(0)
    for _ in range(10):
        observation, rewards, _, infos = env.step(random.uniform(-1, 1, (4, 7)))
        again = env.compute_reward(observation["achieved_goal"], observation["desired_goal"], infos)
        assert (again.astype(np.float32) == rewards).all()
        one = env.compute_reward(observation["achieved_goal"][0], observation["desired_goal"][0], {})
        assert type(one) is float
    assert env.compute_reward(np.zeros(3), np.array([0.03, 0.04, 0.001]), {}) == pytest.approx(
        -1.0 if reward == "sparse" else -0.05, abs=1e-4
    )


@pytest.mark.parametrize("arm", ["Panda", "UR5e", "SO101"])
def test_drawn_goals_can_be_reached(arm: str, together: MakeVec) -> None:
    env = together(f"{arm}Reach", 8)
    env.seed(0)
    seen = env.reset()
    for _ in range(99):
        actions = np.zeros((8, 7))
        actions[:, :3] = 0.25 * (seen["desired_goal"] - seen["achieved_goal"]) / 0.04
        seen, _, _, infos = env.step(actions)
    assert all(info["is_success"] for info in infos)
    assert max(info["distance_m"] for info in infos) < 0.005


def test_starts_lie_on_the_table_and_within_reach(together: MakeVec) -> None:
    env = together("PandaPlay", 64)
    env.seed(0)
    state, part = env.reset(), env.task.layout.slices()["object_position"]
    position, place = state[:, part], WORKSPACES["panda"]
    assert (np.abs(position[:, :2] - place.center) <= place.start_noise).all()
    assert (np.hypot(position[:, 0], position[:, 1]) <= place.radius[1]).all()
    assert np.ptp(position[:, 0]) > 0.3
    assert np.ptp(position[:, 1]) > 0.3


def test_a_grasp_holds(single: MakeSingle) -> None:
    """Down on the cube, close, up: both fingers touch it, and it comes along."""
    env = single("PandaPlay")
    state, _ = env.reset(seed=0, options={"object": (0.46, 0.0, 0.0)})
    parts = env.task.layout.slices()
    info: dict[str, Any] = {}
    for step in range(70):
        action = np.array([0, 0, 0, 0, 0, 0, -1.0 if step < 25 else 1.0])
        if step < 25:
            action[:3] = 0.4 * (state[parts["object_position"]] - state[parts["hand_position"]]) / 0.04
        elif step > 45:
            action[2] = 0.3
        state, _, _, _, info = env.step(np.clip(action, -1, 1))
        if step == 45:
            assert info["grasped"]
            assert not info["lifted"]
    assert info["grasped"]
    assert info["lifted"]


def test_pictures_in_the_observation(needs_gl: None, single: MakeSingle, together: MakeVec) -> None:
    env, many = single("PandaPush", camera=("scene", "top"), camera_size=64), together("PandaPlay", 2, camera="scene")
    seen, _ = env.reset(seed=0)
    assert seen["scene"].shape == seen["top"].shape == (64, 64, 3)
    assert isinstance(env.observation_space, gym.spaces.Dict)
    assert env.observation_space.contains(seen)
    assert seen["scene"].std() > 10
    both = many.reset()
    assert both["scene"].shape == (2, 96, 96, 3)
    assert (both["scene"][0] != both["scene"][1]).any()  # their cubes lie elsewhere
    env.close()
    many.close()


@pytest.mark.parametrize(("arm", "highest"), [("Panda", 0.125), ("UR5e", 0.332)])  # 0.025 + 2 * 0.05, and home
def test_hands_with_a_goal_stay_near_the_work_and_play_is_free(arm: str, highest: float, together: MakeVec) -> None:
    up_and_over = np.array([[0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]], np.float32)
    heights, turns = {}, {}
    for bounds in (None, False):
        envs = together(f"{arm}Push", 1, bounds=bounds)
        envs.seed(0)
        envs.reset()
        home = envs.task.hand.pose()[1]
        for _ in range(40):
            envs.step(up_and_over)
        position, quaternion = envs.task.hand.pose()
        heights[bounds], turns[bounds] = position[0, 2], length(rotation_difference(quaternion, home))[0, 0]
    assert heights[None] == pytest.approx(highest, abs=0.02)
    assert heights[False] > highest + 0.03
    assert turns[None] == pytest.approx(0.8, abs=0.05)
    assert turns[False] > 1.2
    assert together(f"{arm}Play", 1).task.driver.bounds is None
    assert together(f"{arm}Play", 1, bounds=True).task.driver.bounds is not None


@pytest.mark.parametrize("task", ["Reach", "Push", "PickPlace"])
def test_shaped_rewards_are_for_learners_without_hindsight(task: str, single: MakeSingle, together: MakeVec) -> None:
    env, envs = single(f"Panda{task}", reward="shaped"), together(f"Panda{task}", 1, reward="shaped")
    envs.seed(5)
    one, many = env.reset(seed=5)[0], envs.reset()
    layout = env.task.layout.slices()
    achieved = one[layout["hand_position" if task == "Reach" else "object_position"]]
    np.testing.assert_allclose(one[layout["goal_offset"]], one[layout["goal_position"]] - achieved, atol=1e-6)
    action = np.random.default_rng(0).uniform(-1, 1, (30, 7)).astype(np.float32)
    for row in action:
        observation, reward, _, _, info = env.step(row)
        many, rewards, _, _ = envs.step(row[None])
        np.testing.assert_array_equal(observation, many[0])
        assert reward == pytest.approx(rewards[0]) == pytest.approx(sum(info["reward_terms"].values()))
        assert 0.0 < reward < 1.0
    with pytest.raises(AttributeError, match="more than goals"):
        env.compute_reward(np.zeros(3), np.zeros(3), {})
    with pytest.raises(CadenzaError, match="more than goals"):
        envs.compute_reward(np.zeros(3), np.zeros(3), {})
    check_env(env)


def test_the_shaped_reward_prefers_the_goal_to_the_way_there(single: MakeSingle) -> None:
    env = single("PandaPush", reward="shaped")
    rewards = []
    for cube in ((0.45, 0.0, 0.0), (0.55, 0.0, 0.0), (0.6, 0.0, 0.0)):
        env.reset(seed=0, options={"object": cube, "goal": (0.6, 0.0)})
        rewards.append(env.step(np.zeros(7, np.float32))[4]["reward_terms"])
    assert (rewards[0]["goal"], rewards[2]["goal"]) == (0.0, 0.25)
    assert rewards[0]["near"] < rewards[1]["near"] < rewards[2]["near"]
    assert rewards[0]["hand"] > rewards[2]["hand"]  # the hand starts at x = 0.46 m


def test_bounds_grow_with_where_cubes_and_goals_may_be(together: MakeVec) -> None:
    plain, wide = together("PandaPush", 1), together("PandaPush", 1, goal_noise_m=0.2)
    assert plain.task.driver.bounds.high[1] == pytest.approx(0.25)
    assert wide.task.driver.bounds.high[1] == pytest.approx(0.3)


def test_a_step_before_the_first_reset_is_refused(single: MakeSingle, together: MakeVec) -> None:
    with pytest.raises(CadenzaError, match="before the first reset"):
        single("PandaPush").step(np.zeros(7, np.float32))
    with pytest.raises(CadenzaError, match="before the first reset"):
        together("PandaPush", 2).step(np.zeros((2, 7)))


def test_states_that_are_not_finite_are_refused(single: MakeSingle) -> None:
    env = single("PandaPlay")
    env.reset(seed=0)
    state, before = env.get_state(), env.data.qpos.copy()
    state["physics"] = np.full_like(state["physics"], np.nan)
    with pytest.raises(CadenzaError, match="not finite"):
        env.set_state(state)
    np.testing.assert_array_equal(env.data.qpos, before)


def test_an_episode_of_no_number_of_steps_is_refused() -> None:
    for steps in ("abc", None, 2.5, 0):
        with pytest.raises(CadenzaError, match="episode_steps"):
            make_env("cadenza/PandaPlay-v0", pictures=False, episode_steps=steps)
