"""What the policy reads on a robot is what it read in training, bit by bit; what it asks for is what it asked there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.controllers.bundle import BundleError, PolicyBundle
from cadenza.controllers.deployment_facts import DeploymentFacts, TermFacts, rollout_bounds
from cadenza.controllers.observation import ObservationBuilder, ObservationWatch, UndeployableError
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.envs.registration import make_env
from cadenza.robots.hardware.types import ImuState, JointState, RobotState

STEPS = 200


def state_of(env: Any) -> RobotState:
    """What the robot would measure: the task's own measured signals."""
    seen = env.unwrapped.seen()
    joints = JointState.unknown(seen.joint_angle.shape[1])
    joints.q, joints.dq = seen.joint_angle[0].copy(), seen.joint_velocity[0].copy()
    return RobotState(joints, ImuState(seen.gyro[0].copy(), seen.gravity[0].copy(), 0.0), 0.0)


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("task", ["walk", "stand"])
def test_the_observation_is_the_environments_bit_by_bit(facts_of: Any, task: str, history: int) -> None:
    env, facts = facts_of(task, history=history)
    builder = ObservationBuilder(facts)
    random = np.random.default_rng(0)
    compared = begun = 0
    observation, _ = env.reset(seed=1)
    fresh = True
    for step in range(STEPS):
        seen = env.unwrapped.seen()
        if fresh:
            builder.begin(float(seen.phase[0]))
        built = builder.observe(
            seen.joint_angle, seen.joint_velocity, seen.gyro, seen.gravity, seen.command, seen.action
        )
        np.testing.assert_array_equal(built, observation, err_msg=f"step {step}")
        compared, begun = compared + 1, begun + fresh
        action = 0.3 * random.uniform(-1, 1, 20).astype(np.float32)
        observation, _, terminated, truncated, _ = env.step(action)
        fresh = terminated or truncated
        if fresh:
            observation, _ = env.reset()
    assert (compared, begun >= 1) == (STEPS, True)


@pytest.mark.parametrize("task", ["walk", "stand"])
def test_the_policy_moves_the_robot_as_in_training(small_bundle: Any, task: str) -> None:
    """Closed loop in the environment: actions and targets are those of bundle.act and of the task."""
    path = small_bundle(task)
    bundle = PolicyBundle.load(path)
    runner = PolicyRunner(bundle)
    env = make_env(bundle.manifest.env_id, pictures=False, visuals=False)
    inner: Any = env.unwrapped
    observation, _ = env.reset(seed=3)
    runner.reset(float(inner.seen().phase[0]))
    for _ in range(100):
        command = runner.step(state_of(env), inner.seen().command[0])
        np.testing.assert_array_equal(runner.observation, observation)
        action = bundle.act(observation)
        np.testing.assert_array_equal(runner.action.astype(np.float32), action)
        observation, _, terminated, _, _ = env.step(action)
        np.testing.assert_array_equal(command.q, inner.data.ctrl[inner.task.addresses.actuator])
        if terminated:
            observation, _ = env.reset()
            runner.reset(float(inner.seen().phase[0]))
    facts = bundle.manifest.deployment
    assert facts is not None
    np.testing.assert_array_equal(command.kp, [row.kp for row in facts.joints])
    assert not command.dq.any()
    assert not command.tau.any()


def test_missed_ticks_let_the_clock_run_on(small_bundle: Any) -> None:
    runner = PolicyRunner(PolicyBundle.load(small_bundle("walk")))
    state, go = at_home(runner), np.array([0.2, 0.0, 0.0])
    runner.step(state, go)
    runner.step(state, go, ticks=4)
    assert runner.phase == pytest.approx(4 * 0.02 / 0.6)
    runner.step(state, np.zeros(3))  # the command before it still moved
    assert runner.phase == pytest.approx(5 * 0.02 / 0.6)
    runner.step(state, np.zeros(3))
    assert runner.phase == pytest.approx(5 * 0.02 / 0.6)


def at_home(runner: PolicyRunner) -> RobotState:
    joints = JointState.unknown(20)
    joints.q, joints.dq = runner.home, np.zeros(20)
    return RobotState(joints, ImuState(np.zeros(3), np.array([0.0, 0.0, -1.0]), 0.0), 0.0)


@pytest.mark.parametrize("where", ["q", "dq", "gyro", "gravity", "command", "imu"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_no_policy(small_bundle: Any, where: str, value: float) -> None:
    runner = PolicyRunner(PolicyBundle.load(small_bundle("walk")))
    good, go = at_home(runner), np.array([0.2, 0.0, 0.0])
    runner.step(good, go)
    action, observation = runner.action.copy(), runner.observation.copy()
    bad, wrong = at_home(runner), go.copy()
    assert bad.imu is not None
    if where in ("q", "dq"):
        getattr(bad.joints, where)[7] = value
    elif where == "command":
        wrong[0] = value
    elif where == "imu":
        bad.imu = None
    else:
        getattr(bad.imu, where)[1] = value
    command = runner.step(bad, wrong)
    assert not runner.finite
    assert np.isnan(command.q).all(), "nothing that a supervisor could let through"
    np.testing.assert_array_equal(runner.action, action)
    np.testing.assert_array_equal(runner.observation, observation)
    assert np.isfinite(runner.step(good, go).q).all()
    assert runner.finite
    assert runner.phase == pytest.approx(2 * 0.02 / 0.6), "the gait's time passed meanwhile"


def test_targets_are_cut_at_the_limits(small_bundle: Any) -> None:
    runner = PolicyRunner(PolicyBundle.load(small_bundle("walk")))
    facts = runner.facts
    tight = tuple(replace(row, limits_rad=(row.home_rad - 0.001, row.home_rad + 0.001)) for row in facts.joints)
    runner.bundle.manifest = replace(runner.bundle.manifest, deployment=replace(facts, joints=tight).sealed())
    runner = PolicyRunner(runner.bundle)
    state = at_home(runner)
    state.joints.q = runner.home + 1.0
    moved = runner.step(state, np.zeros(3)).q - runner.home
    assert np.abs(moved).max() == pytest.approx(0.001)
    assert np.abs(runner.action).max() * facts.action_scale_rad > 0.001, "there was something to cut"


def test_an_older_bundle_acts_but_is_not_run_on_motors(small_bundle: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small_bundle("walk"), tmp_path / "old")
    file = tmp_path / "old" / "manifest.json"
    data = json.loads(file.read_text())
    del data["deployment"]
    file.write_text(json.dumps(data))
    bundle = PolicyBundle.load(tmp_path / "old")
    assert bundle.manifest.deployment is None
    assert bundle.act(np.zeros(71)).shape == (20,)
    with pytest.raises(BundleError, match="does not say how to run it on motors") as caught:
        PolicyRunner(bundle)
    assert "cadenza export" in caught.value.advice


def changed_term(facts: DeploymentFacts, index: int, **changes: Any) -> DeploymentFacts:
    terms = list(facts.terms)
    terms[index] = replace(terms[index], **changes)
    return replace(facts, terms=tuple(terms))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "base_velocity", "source": "privileged"}, "base_velocity is privileged"),
        ({"name": "lidar"}, "lidar is not known here"),
        ({"source": "encoder"}, "gyro comes from encoder in the bundle, from imu on a robot"),
        ({"size": 2, "factors": (1.0, 1.0)}, "gyro has 2 entries in the bundle, 3 on a robot"),
    ],
)
def test_terms_that_a_robot_cannot_fill_are_refused(facts_of: Any, changes: dict[str, Any], said: str) -> None:
    facts = changed_term(facts_of("walk")[1], 0, **changes)
    with pytest.raises(UndeployableError, match=said):
        ObservationBuilder(facts)


def test_odd_and_strange_observations() -> None:
    watch = ObservationWatch(rollout_bounds([np.array([-1.0, 0.0]), np.array([1.0, 0.0])]), ("a", "b"))
    watch.look(np.array([1.5, 0.0]))  # 0.25 widths beyond
    assert (watch.worst, watch.odd_ticks, watch.strange_in_a_row) == (0.25, 0, 0)
    watch.look(np.array([0.0, 0.15]))  # a constant entry counts as 0.2 wide
    assert watch.worst == pytest.approx(0.75)
    assert (watch.odd_ticks, watch.strange_in_a_row, watch.names[watch.worst_entry]) == (1, 0, "b")
    for count in (1, 2, 3):
        watch.look(np.array([-6.0, 0.0]))
        assert (watch.worst, watch.strange_in_a_row) == (2.5, count)
    assert watch.describe(np.array([-6.0, 0.0])) == "a = -6, in training -1 to 1 (as the policy reads it)"
    watch.look(np.array([0.0, np.nan]))
    assert (watch.worst, watch.strange_in_a_row) == (np.inf, 4)
    watch.look(np.zeros(2))
    assert (watch.worst, watch.strange_in_a_row) == (0.0, 0)


def test_term_gains_are_per_entry() -> None:
    term = TermFacts("command", 3, "command", 2.0, (5.0, 5.0, 1.0))
    np.testing.assert_array_equal(term.gains, [10.0, 10.0, 2.0])
