"""Each event does what its row says, to what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.events import EVENTS, describe, planned
from cadenza.envs.legged.task import LeggedTask
from cadenza.envs.names import UnknownNameError
from cadenza.envs.registration import make_env
from cadenza.robots.motors import MOTORS

FIRST = np.zeros(1, dtype=np.intp)
# What MuJoCo derives from masses and armatures.
DERIVED = {
    "body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0", "cam_poscom0", "light_poscom0",
    "dof_length", "actuator_length0", "body_sameframe", "body_simple", "dof_simplenum",
}  # fmt: skip
GAINS = {"actuator_gainprm", "actuator_biasprm"}
# Event -> a value, fields that change, whether MuJoCo derives others from them.
FIELDS: dict[str, tuple[float, set[str], bool]] = {
    "mass": (1.1, {"body_mass", "body_inertia"}, True),
    "payload": (0.05, {"body_mass"}, True),
    "com": (0.02, {"body_ipos"}, True),
    "friction": (0.4, {"geom_friction"}, False),
    "kp": (0.9, GAINS, False),
    "kd": (1.1, {"dof_damping"}, False),  # a servo's damping is the joint's
    "strength": (0.95, {"actuator_forcerange"}, False),
    "weak_knee": (0.5, {"actuator_forcerange"}, False),
    "armature": (1.2, {"dof_armature"}, True),
    "friction_loss": (2.0, {"dof_frictionloss"}, False),
    "voltage": (0.9, GAINS | {"actuator_forcerange"}, False),
    "command_delay": (3, set(), False),
    "observation_delay": (2, set(), False),
    "encoder_offset": (0.01, set(), False),
    "imu_tilt": (0.03, set(), False),
    "sensor_noise": (1.0, set(), False),
    "push": (0.8, set(), False),
}
MakeTask = Callable[..., LeggedTask]


def arrays(model: mujoco.MjModel) -> dict[str, np.ndarray]:
    found = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: value.copy() for name, value in found.items() if isinstance(value, np.ndarray)}


def changed(before: dict[str, np.ndarray], model: mujoco.MjModel) -> set[str]:
    return {name for name, value in arrays(model).items() if not np.array_equal(value, before[name], equal_nan=True)}


def test_every_event_is_looked_at() -> None:
    assert list(FIELDS) == [event.name for event in EVENTS]


def test_nominal_leaves_the_model_as_it_was(make_task: MakeTask) -> None:
    task = make_task()
    before = arrays(task.model)
    task.reset(FIRST)
    task.step(np.zeros((1, 20)))
    task.reset(FIRST)
    assert changed(before, task.model) == set()
    assert describe(task.events) == {}


@pytest.mark.parametrize("name", list(FIELDS))
def test_an_event_changes_its_fields_only(name: str, make_task: MakeTask) -> None:
    value, fields, derives = FIELDS[name]
    task = make_task(conditions={name: value})
    assert list(describe(task.events)) == [name]
    before = arrays(task.model)
    task.reset(FIRST)
    found = changed(before, task.model)
    assert found >= fields
    assert found - fields <= (DERIVED if derives else set())
    again = arrays(task.model)
    task.reset(FIRST)
    assert changed(again, task.model) == set(), "factors are of the nominal values, not of the last ones"


def test_factors_and_shares(make_task: MakeTask) -> None:
    task = make_task()
    nominal = arrays(task.model)

    def with_(**conditions: float) -> mujoco.MjModel:
        made = make_task(conditions=conditions)
        made.reset(FIRST)
        return made.model

    total = nominal["body_mass"].sum()
    np.testing.assert_allclose(with_(mass=1.1).body_mass, 1.1 * nominal["body_mass"])
    assert with_(payload=0.05).body_mass.sum() == pytest.approx(total + 0.05 * task.robot.mass_kg)
    base = task.model.body("body_link").id
    np.testing.assert_allclose(with_(com=0.02).body_ipos[base] - nominal["body_ipos"][base], 0.02 * task.home_height)
    np.testing.assert_allclose(with_(kp=0.9).actuator_gainprm[:, 0], 0.9 * nominal["actuator_gainprm"][:, 0])
    np.testing.assert_allclose(with_(kp=0.9).actuator_biasprm[:, 1], -0.9 * nominal["actuator_gainprm"][:, 0])
    np.testing.assert_allclose(with_(kd=1.1).dof_damping[6:], 1.1 * nominal["dof_damping"][6:])
    np.testing.assert_allclose(with_(strength=0.9).actuator_forcerange, 0.9 * nominal["actuator_forcerange"])
    np.testing.assert_allclose(with_(armature=1.2).dof_armature[6:], 1.2 * nominal["dof_armature"][6:])
    np.testing.assert_allclose(with_(friction_loss=2.0).dof_frictionloss[6:], 2.0 * nominal["dof_frictionloss"][6:])


def test_a_weak_knee_is_one(make_task: MakeTask) -> None:
    task = make_task(conditions={"weak_knee": 0.5})
    before = arrays(task.model)
    task.reset(FIRST)
    factor = task.model.actuator_forcerange[:, 1] / before["actuator_forcerange"][:, 1]
    names = task.robot.joint_names
    assert {name: value for name, value in zip(names, factor.tolist(), strict=True) if value != 1} == {"r_knee": 0.5}


@pytest.mark.parametrize("friction", [None, 0.4, 1.2])
def test_friction_is_that_of_the_contacts(friction: float | None, make_task: MakeTask) -> None:
    task = make_task(conditions={} if friction is None else {"friction": friction})
    task.reset(FIRST)
    for _ in range(5):
        task.step(np.zeros((1, 20)))
    contacts = task.physics.data.contact  # type: ignore[attr-defined]
    assert len(contacts.friction) > 0
    expected = task.robot.sole_friction if friction is None else friction
    np.testing.assert_allclose(contacts.friction[:, 0], expected)
    np.testing.assert_allclose(task.last_signals.friction, expected)


def test_voltage_is_felt_by_servos_alone(make_task: MakeTask) -> None:
    task = make_task(conditions={"voltage": 0.9})
    before = arrays(task.model)
    task.reset(FIRST)
    assert {MOTORS[joint.motor].actuator for joint in task.robot.joints} == {"dc_motor"}
    np.testing.assert_allclose(task.model.actuator_gainprm[:, 0], 0.9 * before["actuator_gainprm"][:, 0])
    np.testing.assert_allclose(task.model.actuator_forcerange, 0.9 * before["actuator_forcerange"])
    np.testing.assert_array_equal(task.model.dof_damping, before["dof_damping"])


@pytest.mark.parametrize("robot_name", ["unitree_g1"])
def test_voltage_leaves_torque_controlled_drives_alone(robot_name: str, make_task: MakeTask) -> None:
    task = make_task(robot=robot_name, conditions={"voltage": 0.9})
    before = arrays(task.model)
    task.reset(FIRST)
    assert changed(before, task.model) == set()


def test_pushes_kick_the_base_in_any_direction(make_task: MakeTask) -> None:
    task = make_task(n=64, conditions={"push": 0.5})
    task.reset(np.arange(64))
    due = task.conditioner._next_push_s.copy()
    assert due.min() >= 4.0
    assert due.max() <= 8.0
    before = task.physics.qvel.copy()
    task.conditioner.push(task.random, task.physics.qvel, 6.0, task.parameters)
    kick = task.physics.qvel - before
    pushed = due <= 6.0
    np.testing.assert_allclose(np.hypot(kick[pushed, 0], kick[pushed, 1]), 0.5 * task.robot.speed_m_s)
    assert not kick[~pushed].any()
    assert not kick[:, 2:].any()
    angles = np.arctan2(kick[pushed, 1], kick[pushed, 0])
    assert np.histogram(angles, bins=4, range=(-np.pi, np.pi))[0].min() > 0
    assert (task.conditioner._next_push_s > 0).all()


def test_pushes_come_as_often_as_the_settings_say(make_task: MakeTask) -> None:
    task = make_task(n=8, conditions={"push": 0.01}, push_every_s=(0.1, 0.2))
    task.reset(np.arange(8))
    assert ((task.conditioner._next_push_s >= 0.1) & (task.conditioner._next_push_s <= 0.2)).all()
    pushes = np.zeros(8)
    for _ in range(100):
        before = task.conditioner._next_push_s.copy()
        task.conditioner.push(task.random, task.physics.qvel, 0.02, task.parameters)
        pushes += task.conditioner._next_push_s > before
    assert (pushes >= 2.0 / 0.22 - 1).all()
    assert (pushes <= 2.0 / 0.1).all()
    for wrong in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(CadenzaError, match="push_every_s"):
            make_task(push_every_s=wrong)


def test_a_push_is_announced_to_critics(make_task: MakeTask) -> None:
    task = make_task(conditions={"push": 0.5}, privileged=True)
    task.reset(FIRST)
    task.conditioner._next_push_s[:] = 0.51
    told = [task.step(np.zeros((1, 20)))[0][0, task.layout.slices()["push_soon"]][0] for _ in range(3)]
    # A step's signals are read before the clock of pushes moves on.
    assert told == [0.0, 1.0, 1.0]


def test_encoders_have_steps_and_an_offset(make_task: MakeTask) -> None:
    task = make_task(conditions={"encoder_offset": 0.01})
    task.reset(FIRST)
    random = np.random.default_rng(0)
    for _ in range(5):
        task.step(random.uniform(-1, 1, (1, 20)))
        s = task.last_signals
        step = 2 * np.pi / MOTORS["XM430-W350"].encoder_counts
        counts = s.joint_angle / step
        np.testing.assert_allclose(counts, np.rint(counts), atol=1e-6)
        assert np.abs(s.joint_angle - s.angle - 0.01).max() <= step / 2 + 1e-12
        rate = MOTORS["XM430-W350"].velocity_step_rad_s
        assert np.abs(s.joint_velocity - s.velocity).max() <= rate / 2 + 1e-12
        np.testing.assert_allclose(s.joint_velocity / rate, np.rint(s.joint_velocity / rate), atol=1e-6)


def test_a_tilted_imu_turns_what_it_measures(make_task: MakeTask) -> None:
    task = make_task(conditions={"imu_tilt": 0.03})
    task.reset(FIRST)
    task.step(np.full((1, 20), 0.3))
    s = task.last_signals
    # From the unit's axes to the body's: a turn of half angles (0.015, 0.015, 0.015), made a unit quaternion.
    turn = Rotation.from_quat([0.015, 0.015, 0.015, 1.0]).inv()
    np.testing.assert_allclose(s.gravity, turn.apply(s.tilt_gravity), atol=1e-12)
    np.testing.assert_allclose(s.gyro, turn.apply(s.base_rotation), atol=1e-12)


def test_noise_is_what_the_terms_declare(make_task: MakeTask) -> None:
    noisy, quiet = make_task(conditions={"sensor_noise": 1.0}, command=(0, 0, 0)), make_task(command=(0, 0, 0))
    found = []
    for seed in range(30):
        for task in (noisy, quiet):
            task.seed(0, seed)
        found.append(noisy.reset(FIRST)[0] - quiet.reset(FIRST)[0])
    most = np.abs(found).max(axis=0)
    assert (most <= quiet.layout.noise + 1e-12).all()
    declared = quiet.layout.noise > 0
    assert (most[declared] > 0.7 * quiet.layout.noise[declared]).all()
    assert not most[~declared].any()


def test_a_seed_draws_the_same_and_ranges_hold(make_task: MakeTask) -> None:
    task = make_task(n=32, randomised=True)
    task.reset(np.arange(32))
    first = {name: value.copy() for name, value in task.conditioner.values.items()}
    for name, event in task.events.items():
        if event.when == "interval":
            continue
        assert (first[name] >= event.low).all()
        assert (first[name] <= event.high).all()
        assert np.ptp(first[name]) > 0 or event.low == event.high
        if event.whole:
            np.testing.assert_array_equal(first[name], np.rint(first[name]))
    for index in range(32):
        task.seed(index, index)
    task.reset(np.arange(32))
    for name, value in task.conditioner.values.items():
        np.testing.assert_array_equal(value, first[name])


def test_conditions_stand_beside_those_of_the_task(make_task: MakeTask) -> None:
    task = make_task("stand", conditions={"friction": 0.4})
    assert sorted(describe(task.events)) == ["friction", "push"]
    assert describe(make_task("stand", conditions={"push": 0.0}).events) == {}


def test_a_curriculum_may_choose_within_the_range(make_task: MakeTask) -> None:
    task = make_task(conditions={"friction": [0.4, 1.2]})
    task.parameters[0] = {"friction": 0.5}
    task.reset(FIRST)
    assert task.conditioner.values["friction"][0, 0] == 0.5
    task.parameters[0] = {"friction": 1.3}
    with pytest.raises(CadenzaError, match="outside its range") as caught:
        task.reset(FIRST)
    assert "conditions=" in caught.value.advice
    nominal = make_task()
    nominal.parameters[0] = {"command_delay": 2}
    with pytest.raises(CadenzaError, match="outside its range"):
        nominal.reset(FIRST)


@pytest.mark.parametrize(
    ("settings", "message", "near"),
    [
        ({"conditions": {"fricton": 0.4}}, "no condition named 'fricton'", "friction"),
        ({"histroy": 3}, "no setting of this task named 'histroy'", "history"),
        ({"weights": {"velocty": 1.0}}, "no reward term named 'velocty'", "velocity"),
    ],
)
def test_wrong_names_are_answered_with_the_nearest(settings: dict[str, Any], message: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=message) as caught:
        make_env("cadenza/OP3Walk-v0", pictures=False, **settings)
    assert near in caught.value.advice


def test_a_range_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match="the lower end comes first"):
        planned(False, {"friction": (1.0, 0.5)})
