"""Reward terms: numbers worked out by hand, and all of them within [0, 1] whatever happens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cadenza.envs.legged import rewards
from cadenza.envs.legged.physics import SinglePhysics
from cadenza.envs.legged.signals import Signals
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.legged.tasks import TASKS

MakeTask = Callable[..., LeggedTask]
MakeSignals = Callable[..., Signals]


@pytest.mark.parametrize("task_name", list(TASKS))
def test_terms_stay_within_their_bounds(task_name: str, make_task: MakeTask) -> None:
    small = {"poses": 4} if task_name == "get_up" else {}
    task = make_task(task_name, n=16, randomised=True, **small)
    random = np.random.default_rng(0)
    task.reset(np.arange(16))
    extremes = {name: [1.0, 0.0] for name in task.reward_names}
    for count in range(80):
        # Half of them jitter from bound to bound, the others drift.
        action = random.uniform(-1, 1, (16, 20)) if count % 2 else np.sign(random.standard_normal((16, 20)))
        _, reward, terminated, terms = task.step(action)
        assert list(terms) == list(task.reward_names)
        total = np.zeros(16)
        for weight, (name, values) in zip(task.reward_weights, terms.items(), strict=True):
            assert values.shape == (16,)
            extremes[name] = [min(extremes[name][0], values.min()), max(extremes[name][1], values.max())]
            total += weight * values
        np.testing.assert_array_equal(reward, np.maximum(total, 0.0))
        task.reset(np.flatnonzero(terminated))
    wrong = {name: (low, high) for name, (low, high) in extremes.items() if low < 0.0 or high > 1.0}
    assert wrong == {}
    assert set(task.reward_names) == set(task.weights)


def test_velocity_tracking_by_hand(make_signals: MakeSignals) -> None:
    s = make_signals(command=[[0.2, 0.0, 0.3], [0.0, 0.0, 0.0]], base_velocity=[[0.1, 0.05, 9.0], [0.0, 0.0, 9.0]])
    # An error of (0.1, 0.05): exp(-(0.01 + 0.0025) / 0.01) = exp(-1.25).
    np.testing.assert_allclose(rewards.velocity_tracking(s, 0.1), [0.2865047968601901, 1.0], rtol=1e-12)


def test_yaw_tracking_by_hand(make_signals: MakeSignals) -> None:
    s = make_signals(command=[[0, 0, 0.5], [0, 0, 0]], base_rotation=[[7, 7, 0.1], [0, 0, 0]])
    np.testing.assert_allclose(rewards.yaw_tracking(s, 0.4), [np.exp(-1.0), 1.0], rtol=1e-12)


def test_gait_contact_by_hand(make_signals: MakeSignals) -> None:
    # Phase 0.1, duty 0.6: left (0.1) and right (0.6, no longer below 0.6) -> left stands, right swings.
    s = make_signals(phase=[0.1, 0.3], foot_contact=[[1, 1], [1, 0]])
    # Phase 0.3: right is at 0.8 and swings, left stands.
    np.testing.assert_array_equal(rewards.gait_contact(s, 0.6), [0.5, 1.0])
    still = make_signals(phase=[0.1, 0.3], foot_contact=[[1, 1], [1, 0]], moves=[0, 0])
    np.testing.assert_array_equal(rewards.gait_contact(still, 0.6), [1.0, 0.5])


def test_swing_height_by_hand() -> None:
    # Duty 0.5: the swing is 0.5 to 1; its middle (0.75) is the top, a third of it the sine of 60 degrees.
    phase = np.array([0.75, 0.0, 0.5 + 0.5 / 3])
    found = rewards.swing_height(phase, 0.5, 0.04)
    np.testing.assert_allclose(found[:, 0], [0.04, 0.0, 0.04 * np.sqrt(3) / 2], atol=1e-12)
    np.testing.assert_allclose(found[:, 1], [0.0, 0.0, 0.0], atol=1e-12)


def test_action_rate_by_hand(make_signals: MakeSignals) -> None:
    s = make_signals(
        action=[[0.3, 0.0, 0.0], [1, 1, 1]], last_action=[[0.1, 0.0, 0.0], [-1, -1, -1]],
        action_before_last=[[0.0, 0.0, 0.0], [1, 1, 1]],
    )  # fmt: skip
    # First difference 0.2, second 0.3 - 0.2 + 0 = 0.1: (0.04 + 0.01) / 3. The other is cut at 1.
    np.testing.assert_allclose(rewards.action_rate(s), [0.05 / 3, 1.0], rtol=1e-12)


def test_joint_limits_by_hand(make_signals: MakeSignals) -> None:
    s = make_signals(angle=[[0.95, -0.92, 0.0], [0.5, -0.5, 0.0]])
    np.testing.assert_allclose(rewards.joint_limits(s, 0.1), [0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(rewards.joint_limits(make_signals(angle=np.full((2, 3), -1.5)), 0.1), [1.0, 1.0])


def test_torque_by_hand(make_signals: MakeSignals) -> None:
    s = make_signals(torque=[[1, 1, 0], [-2, 0, 0]], torque_limit=[2, 2, 2])
    np.testing.assert_allclose(rewards.torque(s), [0.5 / 3, 1 / 3], rtol=1e-12)


def test_balance_by_hand(make_signals: MakeSignals) -> None:
    # Half a metre a second over 0.981 m comes to rest sqrt(0.1) x 0.5 = 0.158 m ahead; the feet are 0.1 m ahead of the
    # base, 0.02 m of it at home, so that 0.0781 m are missing. The other copy's feet are just where they belong.
    s = make_signals(
        base_velocity=[[0.5, 0.0, 3.0], [0.0, 0.5, 0.0]], feet_ahead=[[0.1, 0.0], [0.02, np.sqrt(0.025)]],
        home_feet_ahead=[0.02, 0.0], home_height=0.981,
    )  # fmt: skip
    missing = 0.5 * np.sqrt(0.1) - 0.08
    expected = [np.exp(-((missing / (0.2 * 0.981)) ** 2)), 1.0]
    np.testing.assert_allclose(rewards.balance(s, 0.2), expected, rtol=1e-12)


def test_feet_of_the_task_are_seen_from_the_base(make_task: MakeTask) -> None:
    task = make_task("stand", start_noise_rad=0.0)
    task.reset(np.zeros(1, dtype=np.intp))  # in any direction: what is seen does not depend on it
    signals = task._signals(np.zeros(1, dtype=np.intp))
    np.testing.assert_allclose(signals.feet_ahead[0], signals.home_feet_ahead, atol=1e-9)
    np.testing.assert_allclose(rewards.balance(signals, 0.3), 1.0)
    feet = [task.model.body(foot.body).id for foot in task.robot.feet]
    assert isinstance(task.physics, SinglePhysics)
    middle = task.physics.data.xpos[feet].mean(axis=0) - task.physics.data.qpos[:3]
    assert abs(signals.home_feet_ahead[1]) < 1e-6  # left and right are alike
    assert np.hypot(*middle[:2]) < 0.2 * task.home_height  # and no metres away, whatever point of a foot one takes
    assert np.hypot(*signals.home_feet_ahead) < 0.2 * task.home_height


def test_foot_slip_counts_feet_that_touch(make_signals: MakeSignals) -> None:
    moving = np.zeros((2, 2, 3))
    moving[:, 0] = (0.03, 0.04, 5.0)
    s = make_signals(foot_velocity=moving, foot_contact=[[1, 1], [0, 1]])
    np.testing.assert_allclose(rewards.foot_slip(s, 0.2), [0.25, 0.0], atol=1e-12)


def test_at_home_all_is_well(make_signals: MakeSignals) -> None:
    s = make_signals()
    assert (rewards.upright(s) == 1).all()
    assert (rewards.height(s, 0.1) == 1).all()
    assert (rewards.home_pose(s, 0.3) == 1).all()
    assert not rewards.tilt(s).any()
    assert not rewards.hard_landing(s).any()
    assert not rewards.pose_deviation(s, np.array([], dtype=np.intp), 0.1).any()
