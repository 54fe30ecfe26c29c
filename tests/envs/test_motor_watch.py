"""The wrapper: what it reads of which environment, and that it can be stored and restored in the middle."""

from __future__ import annotations

import io
import json
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from cadenza.envs.guard import FiniteGuard
from cadenza.envs.motor_metrics import METRICS, TORQUE_METRICS
from cadenza.envs.motor_watch import BLOCK, MotorWatch, motor_watches
from cadenza.envs.registration import make_env
from cadenza.envs.state import EnvStateError, flatten_state, get_env_state, set_env_state, unflatten_state
from cadenza.robots.gym_humanoid import ACTUATORS


def through_files(state: dict[str, Any]) -> dict[str, Any]:
    tree, arrays = flatten_state(state)
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return unflatten_state(json.loads(json.dumps(tree, allow_nan=False)), np.load(file, allow_pickle=False))


def play(env: gym.Env, actions: Any) -> None:
    for action in actions:
        *_, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()


def summary(watch: MotorWatch) -> dict[str, Any]:
    told = watch.summary()
    assert told is not None
    return told


# ------------------------------------------------------------------ what the actuators obey


@pytest.mark.parametrize(
    ("env_id", "action", "saturated", "load"),
    [
        ("cadenza/HumanoidPaper-v0", 0.2, 0.0, 0.5),  # the motors obey 0.4
        ("cadenza/HumanoidPaper-v0", 0.39, 1.0, 0.975),
        ("cadenza/HumanoidPaper-v0", 0.9, 1.0, 1.0),
        ("cadenza/Humanoid-v0", 0.5, 0.0, 0.5),
        ("cadenza/Humanoid-v0", -0.96, 1.0, 0.96),
        ("Humanoid-v5", 0.2, 0.0, 0.5),
        ("Hopper-v5", 0.5, 0.0, 0.5),
    ],
)
def test_range_of_the_motor_and_not_of_the_action(env_id: str, action: float, saturated: float, load: float) -> None:
    watch = MotorWatch(make_env(env_id))
    watch.reset(seed=0)
    play(watch, [np.full(watch.action_space.shape, action, np.float32)] * 10)
    told = summary(watch)
    assert told["saturated_share"] == saturated
    assert told["torque_rms_over_rated"] == pytest.approx(load / 0.2, rel=1e-6)
    assert told["action_change_mean"] == pytest.approx(0.0, abs=1e-6)
    assert told["seconds"] == pytest.approx(10 * watch.unwrapped.dt)  # type: ignore[attr-defined]


def test_joints_are_named_in_the_order_of_ctrl() -> None:
    watch = MotorWatch(make_env("cadenza/Humanoid-v0"))
    assert watch.names == list(ACTUATORS)
    watch.reset(seed=0)
    action = np.zeros(17, np.float32)
    action[ACTUATORS.index("left_knee")] = 1.0
    watch.step(action)
    assert summary(watch)["worst_joint"]["winding_peak_c"] == "left_knee"
    assert MotorWatch(make_env("Hopper-v5")).names == ["thigh_joint", "leg_joint", "foot_joint"]


def test_it_changes_nothing() -> None:
    plain, watch = make_env("Hopper-v5"), MotorWatch(make_env("Hopper-v5"))
    plain.action_space.seed(0)
    for env in (plain, watch):
        env.reset(seed=3)
    for _ in range(BLOCK + 50):
        action = plain.action_space.sample()
        ours, theirs = watch.step(action), plain.step(action)
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert ours[1:4] == theirs[1:4]
        assert ours[4] == theirs[4]
        if theirs[2] or theirs[3]:
            assert watch.reset()[0].tobytes() == plain.reset()[0].tobytes()


def test_counted_again_from_the_recording() -> None:
    """Over several blocks and episodes, against plain loops over what the environment was given."""
    watch = MotorWatch(make_env("cadenza/HumanoidPaper-v0"))
    data = watch.unwrapped.data  # type: ignore[attr-defined]
    watch.action_space.seed(5)
    watch.reset(seed=5)
    episodes: list[list[Any]] = [[]]
    for _ in range(3 * BLOCK + 77):
        *_, terminated, truncated, _ = watch.step(watch.action_space.sample())
        episodes[-1].append((data.ctrl / 0.4, data.qfrc_actuator[6:].copy()))
        if terminated or truncated:
            episodes.append([])
            watch.reset()
    assert len(episodes) > 10
    limits = np.abs(data.model.actuator_gear[:, 0]) * 0.4
    order = [int(data.model.joint(name).dofadr[0]) - 6 for name in ACTUATORS]
    saturated = shocks = steps = 0
    changes: list[float] = []
    square = np.zeros(17)
    for episode in episodes:
        last_command, last_load = None, None
        for raw, torque in episode:
            command, load = np.clip(raw, -1, 1), torque[order] / limits
            steps += 1
            saturated += int((np.abs(command) > 0.95).sum())
            square += load**2
            if last_load is not None and last_command is not None:
                changes += list(np.abs(command - last_command))
                shocks += int(((load * last_load < 0) & (np.abs(load - last_load) > 0.5)).sum())
            last_command, last_load = command, load
    told = summary(watch)
    assert told["steps"] == steps == 3 * BLOCK + 77
    assert told["saturated_share"] == pytest.approx(saturated / steps / 17, rel=1e-6)
    assert told["gearbox_shocks"] == shocks
    assert told["action_change_mean"] == pytest.approx(np.mean(changes), rel=1e-6)
    assert told["action_change_p99"] == pytest.approx(np.percentile(changes, 99), abs=0.01)
    assert told["torque_rms_over_rated"] == pytest.approx(np.sqrt(square.sum() / steps / 17) / 0.2, rel=1e-6)


def test_heat_stays_when_an_episode_ends() -> None:
    watch = MotorWatch(make_env("cadenza/Humanoid-v0"))
    full, rest = np.ones(17, np.float32), np.zeros(17, np.float32)
    for _ in range(3):
        watch.reset(seed=0)
        for _ in range(10):
            watch.step(full)
    assert summary(watch)["winding_peak_c"] == pytest.approx(25 + 1375 * -np.expm1(-30 * 0.015 / 300))
    watch.reset(seed=0)
    watch.step(rest)
    assert summary(watch)["winding_peak_c"] == pytest.approx(25 + 1375 * -np.expm1(-30 * 0.015 / 300))


# ------------------------------------------------------------------ other environments


def test_without_mujoco_the_commands_alone() -> None:
    watch = MotorWatch(make_env("Pendulum-v1"))
    watch.reset(seed=0)
    play(watch, [np.array([value], np.float32) for value in (2.0, 1.0, -2.0, 0.0)])  # in [-2, 2]
    told = summary(watch)
    assert told["saturated_share"] == 0.5
    assert told["action_change_mean"] == pytest.approx((0.5 + 1.5 + 1.0) / 3)
    assert told["seconds"] == pytest.approx(0.2)
    absent = ["high_frequency_power_share", *TORQUE_METRICS]  # four steps have no spectrum
    assert [name for name in METRICS if told[name] is None] == absent


def test_nothing_to_watch() -> None:
    watch = MotorWatch(make_env("CartPole-v1"))
    watch.reset(seed=0)
    for action in (0, 1, 0):
        watch.step(action)
    assert watch.summary() is None
    assert watch.names == []
    assert motor_watches([watch, make_env("Pendulum-v1")]) == []
    assert get_env_state(watch)["layers"][0]["class"] == "MotorWatch"


def test_a_time_step_that_is_not_known() -> None:
    watch = MotorWatch(make_env("MountainCarContinuous-v0"))
    watch.reset(seed=0)
    play(watch, [np.array([1.0], np.float32)] * 3)
    told = summary(watch)
    assert (told["steps"], told["seconds"], told["saturated_share"]) == (3, None, 1.0)


def test_an_action_that_is_not_finite() -> None:
    class Deaf(gym.Env):
        observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros(2, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.zeros(2, np.float32), 0.0, False, False, {}

    watch = MotorWatch(Deaf())
    watch.reset()
    play(watch, [np.array([np.nan, 0.5]), np.array([np.inf, 0.5])])
    told = summary(watch)
    assert told["joints"]["action 0"]["saturated_share"] == 0.5  # infinity is as far as it goes, NaN counts as 0
    json.dumps(told, allow_nan=False)


XML = """<mujoco><worldbody><body><joint name="hip" axis="0 1 0" {joint}/><geom size=".1"/>
<body><joint name="knee" axis="0 1 0"/><geom size=".1"/></body></body></worldbody>
<actuator><motor joint="hip" gear="50" {hip}/>{knee}</actuator></mujoco>"""


class Two(gym.Env):
    """Two actuators of a model given as XML; the action is ``ctrl``."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Box(-2.0, 2.0, (2,), np.float32)
    dt = 0.01

    def __init__(self, xml: str):
        self.xml = xml
        self.data = mujoco.MjData(mujoco.MjModel.from_xml_string(xml))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.data = mujoco.MjData(mujoco.MjModel.from_xml_string(self.xml))
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.data.model, self.data)
        return np.zeros(1), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("joint", "hip", "load"),
    [
        ("", 'ctrlrange="-.5 .5"', 0.5),  # by the command: 0.25 of 0.5
        ("", 'ctrlrange="-.5 .5" forcerange="-.3 .3"', 0.25 / 0.3),
        ('actuatorfrcrange="-15 15"', 'ctrlrange="-.5 .5"', 0.25 / 0.3),  # 15 N m are a force of 0.3 at gear 50
        ('actuatorfrcrange="-10 10"', 'ctrlrange="-.5 .5"', 1.0),  # the joint lets no more through
    ],
)
def test_limit_of_a_motor(joint: str, hip: str, load: float) -> None:
    """Also: the environment makes its data anew at each reset, and an unlimited command has the action's bounds."""
    knee = '<position joint="knee" kp="10" forcerange="-1 1"/>'
    watch = MotorWatch(Two(XML.format(joint=joint, hip=hip, knee=knee)))
    assert watch.names == ["hip", "knee"]
    watch.reset()
    watch.step(np.array([0.25, 2.0]))
    told = summary(watch)["joints"]
    assert told["hip"]["torque_rms_over_rated"] == pytest.approx(load / 0.2, rel=1e-6)
    assert told["hip"]["saturated_share"] == 0.0
    assert told["knee"]["torque_rms_over_rated"] == pytest.approx(1.0 / 0.2)
    assert told["knee"]["saturated_share"] == 1.0


def test_a_servo_without_a_limit_has_no_stall_torque() -> None:
    knee = '<position joint="knee" kp="10" ctrlrange="-1 1"/>'
    watch = MotorWatch(Two(XML.format(joint="", hip='ctrlrange="-1 1"', knee=knee)))
    watch.reset()
    watch.step(np.array([1.0, 0.5]))
    told = summary(watch)
    assert told["saturated_share"] == 0.5
    assert told["torque_rms_over_rated"] is None


# ------------------------------------------------------------------ stored and restored


@pytest.mark.parametrize("env_id", ["cadenza/HumanoidPaper-v0", "Pendulum-v1"])
@pytest.mark.parametrize("at", [0, 7, BLOCK - 1, BLOCK, BLOCK + 30])
def test_restored_it_goes_on_bit_for_bit(env_id: str, at: int) -> None:
    watch = MotorWatch(make_env(env_id))
    watch.reset(seed=1)
    watch.action_space.seed(1)
    actions = [watch.action_space.sample() for _ in range(2 * BLOCK + 20)]
    play(watch, actions[:at])
    watch.mark()
    state = through_files(get_env_state(watch))
    play(watch, actions[at:])
    fresh = MotorWatch(make_env(env_id))
    fresh.reset(seed=2)
    play(fresh, actions[5:9])
    set_env_state(fresh, state)
    play(fresh, actions[at:])
    assert fresh.summary() == watch.summary()
    for ours, theirs in zip(fresh.mark(), watch.mark(), strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_marks() -> None:
    watch = MotorWatch(make_env("Pendulum-v1"))
    watch.reset(seed=0)
    play(watch, [np.array([2.0], np.float32)] * 30)
    total, since = watch.mark()
    assert total["steps"] == since["steps"] == 30
    play(watch, [np.array([0.0], np.float32)] * BLOCK)
    total, since = watch.mark()
    assert (total["steps"], since["steps"]) == (30 + BLOCK, BLOCK)
    assert (total["saturated"].tolist(), since["saturated"].tolist()) == ([30], [0])
    assert since["change_histogram"].sum() == since["changes"]
    assert watch.mark()[1]["steps"] == 0


def test_a_state_of_before_the_watch_is_restored() -> None:
    old = FiniteGuard(make_env("Hopper-v5"))
    old.reset(seed=1)
    old.action_space.seed(1)
    actions = [old.action_space.sample() for _ in range(12)]
    play(old, actions[:6])
    state = through_files(get_env_state(old))
    new = FiniteGuard(MotorWatch(make_env("Hopper-v5")))
    new.reset(seed=2)
    set_env_state(new, state)
    for action in actions[6:]:
        assert new.step(action)[0].tobytes() == old.step(action)[0].tobytes()
    (watch,) = motor_watches([new])
    assert summary(watch)["steps"] == 6
    with pytest.raises(EnvStateError, match="MotorWatch"):  # the other way round its counts would be lost
        set_env_state(old, get_env_state(new))
