"""Facts come from the task and say what it is; whatever differs from what is here is refused, with both values."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.controllers.bundle import BundleError, BundleManifest, PolicyBundle, read_manifest
from cadenza.controllers.deployment import check_command, check_deployment
from cadenza.controllers.deployment_facts import SIGMAS, DeploymentFacts, normaliser_bounds, rollout_bounds
from cadenza.robots import load_humanoid
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.types import Capabilities, Mode

ROBOT = load_humanoid("op3")
MOTORS = Capabilities(frozenset({Mode.POSITION}), True, 0.02, frozenset({"q", "dq"}))


def manifest_with(path: Path, change: Any) -> BundleManifest:
    """That of a bundle with other facts, sealed anew: what an attacker or another version could have written."""
    manifest = read_manifest(path)
    assert manifest.deployment is not None
    return replace(manifest, deployment=change(manifest.deployment).sealed())


def with_joint(row: int, **changes: Any) -> Any:
    def change(facts: DeploymentFacts) -> DeploymentFacts:
        joints = list(facts.joints)
        joints[row] = replace(joints[row], **changes)
        return replace(facts, joints=tuple(joints))

    return change


def with_term(row: int, **changes: Any) -> Any:
    def change(facts: DeploymentFacts) -> DeploymentFacts:
        terms = list(facts.terms)
        terms[row] = replace(terms[row], **changes)
        return replace(facts, terms=tuple(terms))

    return change


def swapped_joints(facts: DeploymentFacts) -> DeploymentFacts:
    joints = list(facts.joints)
    joints[0], joints[1] = joints[1], joints[0]
    return replace(facts, joints=tuple(joints))


def swapped_terms(facts: DeploymentFacts) -> DeploymentFacts:
    terms = list(facts.terms)
    terms[0], terms[1] = terms[1], terms[0]
    return replace(facts, terms=tuple(terms))


def longer_history(facts: DeploymentFacts) -> DeploymentFacts:
    return replace(facts, history=2)


POISON: list[tuple[str, Any, str]] = [
    ("joint order", swapped_joints, "order of joints: l_sho_pitch is number 1 in the bundle, r_sho_pitch in"),
    ("joint name", with_joint(3, name="tail"), r"\['tail'\] only in the bundle, \['l_sho_roll'\] only in"),
    ("home", with_joint(4, home_rad=0.0), "home of r_el: 0 in the bundle, 0.349066 in the joint table"),
    ("limit", with_joint(0, limits_rad=(-1.0, 1.0)), "lower limit of r_sho_pitch: -1 in the bundle, -3.12414"),
    ("kp", with_joint(12, kp=30.0), "kp of r_knee: 30 in the bundle, 21.1 in the joint table"),
    ("kd", with_joint(12, kd=0.1), "kd of r_knee: 0.1 in the bundle"),
    ("torque", with_joint(12, torque_nm=9.0), "torque limit of r_knee: 9 in the bundle, 4.1"),
    ("velocity", with_joint(12, velocity_rad_s=9.0), "velocity limit of r_knee: 9 in the bundle"),
    ("action scale", lambda facts: replace(facts, action_scale_rad=0.5), "action scale, rad: 0.5 by .*, 0.3 here"),
    ("action kind", lambda facts: replace(facts, action="torque"), "action: 'torque' in the bundle"),
    ("rate", lambda facts: replace(facts, control_dt_s=0.01), "rate: 100 Hz by its deployment facts, 50 Hz"),
    ("history", longer_history, "history: 2 by its deployment facts, 1 here"),
    ("dimension", longer_history, "observation size: 142 by its deployment facts, 71 by its network"),
    (
        "term order",
        swapped_terms,
        r"observation terms: gravity\[0\] by its deployment facts, gyro\[0\] by its manifest",
    ),
    ("term scale", with_term(0, scale=1.0), "scale of gyro: 1 in the bundle, 0.25 here"),
    (
        "command factors",
        with_term(2, factors=(1.0, 1.0, 1.0)),
        r"factors of command: \(1, 1, 1\) in .*\(5, 5, 1\) here",
    ),
    ("unknown term", with_term(6, name="lidar"), "lidar is not known here"),
    ("privileged term", with_term(0, name="base_velocity", source="privileged"), "base_velocity is privileged"),
    ("robot", lambda facts: replace(facts, robot="unitree_g1"), "robot: 'unitree_g1' in the bundle, 'op3' here"),
]


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in POISON], ids=[row[0] for row in POISON])
def test_a_poisoned_bundle_is_refused_with_both_values(small_bundle: Any, change: Any, said: str) -> None:
    manifest = manifest_with(small_bundle("walk"), change)
    with pytest.raises(RefusedError, match=said):
        check_deployment(manifest, ROBOT)


def test_a_bundle_that_fits_passes(small_bundle: Any) -> None:
    for task in ("walk", "stand"):
        manifest = read_manifest(small_bundle(task))
        facts = check_deployment(
            manifest, ROBOT, joint_names=ROBOT.joint_names, capabilities=MOTORS, imu=True, period_s=0.02,
            calibration_joints=ROBOT.joint_names, calibration_robot="op3",
        )  # fmt: skip
        assert facts is manifest.deployment


@pytest.mark.parametrize(
    ("here", "said"),
    [
        ({"joint_names": ROBOT.joint_names[::-1]}, "order of joints: .* head_tilt in the hardware"),
        ({"calibration_joints": ROBOT.joint_names[:-1]}, r"\['head_tilt'\] only in the bundle, none only in the cal"),
        ({"calibration_robot": "booster_t1"}, "'op3' in the bundle, 'booster_t1' in the calibration"),
        ({"imu": False}, "the policy reads gyro, gravity, the hardware has no inertial unit"),
        ({"period_s": 0.01}, "rate: 50 Hz in the bundle, 100 Hz here"),
        ({"capabilities": Capabilities(frozenset({Mode.DAMP}), True)}, "needs mode position or impedance"),
        ({"capabilities": replace(MOTORS, reports=frozenset({"dq"}))}, "reads joint angles, these motors report none"),
    ],
)
def test_what_the_hardware_is_must_fit(small_bundle: Any, here: dict[str, Any], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        check_deployment(read_manifest(small_bundle("walk")), ROBOT, **here)


def test_every_difference_is_named_at_once(small_bundle: Any) -> None:
    def change(facts: DeploymentFacts) -> DeploymentFacts:
        return with_joint(12, kp=30.0)(with_term(0, scale=1.0)(replace(facts, control_dt_s=0.01)))

    with pytest.raises(RefusedError) as caught:
        check_deployment(manifest_with(small_bundle("walk"), change), ROBOT, imu=False)
    text = str(caught.value)
    for part in ("kp of r_knee", "scale of gyro", "rate: 100 Hz", "no inertial unit"):
        assert part in text
    assert "nothing was switched on" in text


@pytest.mark.parametrize("edited", ["scale", "hash", "field", "nan"])
def test_facts_that_were_edited_are_refused_at_loading(small_bundle: Any, tmp_path: Path, edited: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(small_bundle("walk"), folder)
    data = json.loads((folder / "manifest.json").read_text())
    if edited == "scale":
        data["deployment"]["terms"][0]["scale"] = 1.0
    elif edited == "hash":
        data["deployment"]["sha256"] = "0" * 64
    elif edited == "nan":
        data["deployment"]["joints"][0]["kp"] = float("nan")
    else:
        del data["deployment"]["joints"][0]["kp"]
    (folder / "manifest.json").write_text(json.dumps(data))
    said = {
        "scale": "hash differs",
        "hash": "hash differs",
        "nan": "not finite",
        "field": "JointFacts needs the fields",
    }
    with pytest.raises(BundleError, match=said[edited]):
        PolicyBundle.load(folder)


def test_facts_survive_json(small_bundle: Any) -> None:
    facts = read_manifest(small_bundle("stand")).deployment
    assert facts is not None
    again = DeploymentFacts.from_dict(json.loads(json.dumps(asdict(facts))))
    assert again == facts
    assert again.digest() == facts.sha256


def test_facts_are_the_tasks(facts_of: Any) -> None:
    env, facts = facts_of("walk", history=3)
    task = env.unwrapped.task
    assert facts.joint_names == ROBOT.joint_names
    assert (facts.robot, facts.history, facts.action_scale_rad, facts.control_dt_s) == ("op3", 3, 0.3, 0.02)
    assert [term.name for term in facts.terms] == [term.name for term in task.layout.actor]
    np.testing.assert_array_equal(np.concatenate([term.gains for term in facts.terms]), task.layout.scale)
    assert facts.entry_names() == task.layout.names()
    assert facts.observation_size == 3 * 71
    assert facts.gait_period_s == ROBOT.gait_period_s


def test_privileged_terms_are_not_among_them(facts_of: Any) -> None:
    _, facts = facts_of("walk", privileged=True)
    assert facts.sensors() == {"imu", "encoder", "command", "memory"}
    assert facts.observation_size == 71


def test_bounds_hold_what_a_rollout_met(small_bundle: Any) -> None:
    facts = read_manifest(small_bundle("walk")).deployment
    assert facts is not None
    bounds = facts.bounds
    assert (bounds.kind, bounds.samples) == ("rollout", 300)
    low, high = np.array(bounds.low), np.array(bounds.high)
    assert (low[9:29] < high[9:29]).all()
    # The command's are those of the task's ranges, over the easy speed: -0.4 to 1.2, +-0.4, +-0.5.
    np.testing.assert_allclose(low[6:9], [-0.4, -0.4, -0.5], atol=0.02)
    np.testing.assert_allclose(high[6:9], [1.2, 0.4, 0.5], atol=0.02)


def test_bounds_of_a_normaliser() -> None:
    bounds = normaliser_bounds(np.array([1.0, -2.0, 9.0]), np.array([0.5, 1.0, 9.0]), 2)
    assert (bounds.kind, bounds.low, bounds.high) == (
        "normaliser", (1.0 - SIGMAS * 0.5, -2.0 - SIGMAS), (1.0 + SIGMAS * 0.5, -2.0 + SIGMAS),
    )  # fmt: skip
    assert rollout_bounds([np.array([1.0, 2.0]), np.array([0.0, 3.0])]).low == (0.0, 2.0)


def test_commands_must_be_those_of_training(small_bundle: Any) -> None:
    walk, stand = (read_manifest(small_bundle(task)).deployment for task in ("walk", "stand"))
    assert walk is not None
    assert stand is not None
    check_command(walk, (0.2, 0.0, 0.3))
    check_command(stand, (0.0, 0.0, 0.0))
    with pytest.raises(RefusedError, match=r"forward, m/s: 0.5, in training -0.08 to 0.24"):
        check_command(walk, (0.5, 0.0, 0.0))
    with pytest.raises(RefusedError, match="three finite numbers"):
        check_command(walk, (float("nan"), 0.0, 0.0))
    with pytest.raises(RefusedError, match="takes no velocity command"):
        check_command(stand, (0.1, 0.0, 0.0))


def test_a_normaliser_in_the_policy_gives_the_bounds(op3_is_here: None, tmp_path: Path) -> None:
    from stable_baselines3 import SAC
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    from cadenza.agents.export import export_bundle, task_facts
    from cadenza.envs.registration import make_env

    env_id, kwargs = "cadenza/OP3Stand-v0", {"visuals": False}
    env = VecNormalize(DummyVecEnv([lambda: make_env(env_id, pictures=False, **kwargs)]))
    model = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, device="cpu", learning_starts=50, buffer_size=60)
    model.learn(40)
    report = export_bundle(
        model, tmp_path / "b", env_id=env_id, env_kwargs=kwargs, agent="sac", **task_facts(env_id, kwargs)
    )
    facts = read_manifest(report.path).deployment
    assert facts is not None
    rms: Any = env.obs_rms
    assert facts.bounds.kind == "normaliser"
    np.testing.assert_allclose(facts.bounds.high, rms.mean + SIGMAS * np.sqrt(rms.var + 1e-8), rtol=1e-4, atol=1e-5)


def test_other_tasks_have_no_facts() -> None:
    from cadenza.agents.export import task_facts

    assert task_facts("Pendulum-v1", {})["deployment"] is None


def test_facts_can_be_added_to_an_older_bundle(small_bundle: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from cadenza.agents import deployment_facts
    from cadenza.agents.export_facts import export_facts

    monkeypatch.setattr(deployment_facts, "ROLLOUT_STEPS", 60)
    old = tmp_path / "old"
    shutil.copytree(small_bundle("stand"), old)
    data = json.loads((old / "manifest.json").read_text())
    del data["deployment"]
    data["observation_terms"] = data["joint_order"] = data["control_rate_hz"] = None
    (old / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(RefusedError, match="exported by an older version") as caught:
        check_deployment(read_manifest(old), ROBOT)
    assert "cadenza export" in caught.value.advice
    new = export_facts(old, tmp_path / "new")
    check_deployment(read_manifest(new), ROBOT)
    observation = np.random.default_rng(0).normal(size=66)
    np.testing.assert_array_equal(PolicyBundle.load(new).act(observation), PolicyBundle.load(old).act(observation))


def test_an_observation_that_the_robot_would_get_wrong_is_not_exported(facts_of: Any) -> None:
    """A task whose term is not what its name says: the proof at export finds it."""
    from cadenza.agents.deployment_facts import with_bounds
    from cadenza.controllers.observation import UndeployableError

    env, facts = facts_of("stand")
    layout = env.unwrapped.task.layout
    layout.actor = tuple(
        replace(term, read=lambda s: 2.0 * s.gyro) if term.name == "gyro" else term for term in layout.actor
    )
    with pytest.raises(UndeployableError, match=r"differs from the task's at gyro\[0\]"):
        with_bounds(facts, env.unwrapped, lambda _: np.zeros(20, dtype=np.float32), None)
