"""Two kinds of actuator behind one interface: a joint's row in, MuJoCo's numbers out.

``pd``: a torque-controlled drive. ``torque = clip(kp (target - q) - kd dq, +-peak)``.

``dc_motor``: a hobby or DYNAMIXEL servo. Its firmware turns the position error into the duty of a bridge,
``V = clip(g (target - q), +-1) V_bat``. A winding of resistance R with torque constant k_t and back-EMF constant k_e
gives ``torque = k_t (V - k_e dq) / R``. With stall torque ``s = k_t V_bat / R`` and no-load speed ``n = V_bat / k_e``::

    torque = clip(kp (target - q), +-s) - (s / n) dq,      kp = g s

So the saturation acts on the *voltage*, before the back-EMF: a motor pushed backwards brakes with more than its stall
torque, and one that runs at ``n`` has nothing left. In MuJoCo the first term is a position actuator with kp alone whose
force is limited to +-s, the second is the joint's damping ``s / n``, which the implicit integrator takes at any step.
``s`` and ``kp`` are proportional to the supply, ``s / n = k_t k_e / R`` is not: :func:`at_voltage`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from cadenza.robots.description import ActuatorKind, Joint, TableRobot
from cadenza.robots.motors import MOTORS

if TYPE_CHECKING:
    import mujoco

RobotT = TypeVar("RobotT", bound=TableRobot)


@dataclass(frozen=True)
class Actuation:
    """What MuJoCo needs to act as the motor of one joint."""

    kp: float
    """Gain on target - q, N m/rad."""
    kv: float
    """Gain on -dq inside the force limit, N m s/rad."""
    damping: float
    """Joint damping outside the force limit, N m s/rad."""
    force_nm: float
    """Limit of the actuator's force."""


def actuation(joint: Joint, kind: ActuatorKind | None = None) -> Actuation:
    """The joint's motor as MuJoCo's numbers; ``kind`` overrides that of the motor."""
    kind = kind or MOTORS[joint.motor].actuator
    if kind == "dc_motor":
        return Actuation(kp=joint.kp, kv=0.0, damping=joint.kd, force_nm=joint.torque_nm)
    return Actuation(kp=joint.kp, kv=joint.kd, damping=0.0, force_nm=joint.torque_nm)


def torque(joint: Joint, error_rad: float, velocity_rad_s: float, kind: ActuatorKind | None = None) -> float:
    """N m at the joint for a position error (target - q) and a speed, without dry friction."""
    act = actuation(joint, kind)
    inside = act.kp * error_rad - act.kv * velocity_rad_s
    return min(max(inside, -act.force_nm), act.force_nm) - act.damping * velocity_rad_s


def add_actuator(spec: mujoco.MjSpec, joint: Joint, kind: ActuatorKind | None = None) -> mujoco.MjsActuator:
    """Append the joint's position actuator; ``ctrl`` is the target angle in rad, clamped to the joint's limits."""
    import mujoco

    act = actuation(joint, kind)
    made = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    made.gaintype = mujoco.mjtGain.mjGAIN_FIXED
    made.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    made.gainprm[0] = act.kp
    made.biasprm[:3] = (0.0, -act.kp, -act.kv)
    made.ctrllimited = made.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    made.ctrlrange = joint.limits_rad
    made.forcerange = (-act.force_nm, act.force_nm)
    return made


def add_torque_actuator(spec: mujoco.MjSpec, joint: Joint) -> mujoco.MjsActuator:
    """Append the joint's motor as a source of torque; ``ctrl`` is the torque in N m, clamped to the joint's limit."""
    import mujoco

    made = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    made.ctrllimited = made.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    made.ctrlrange = made.forcerange = (-joint.torque_nm, joint.torque_nm)
    return made


def at_voltage(robot: RobotT, supply_v: float) -> RobotT:
    """The robot on another supply: stall torque and kp of its ``dc_motor`` joints scale with it, kd does not.

    A ``pd`` drive regulates current; within its range the supply changes neither gains nor peak torque.

    Raises:
        ValueError: outside the range a motor's maker allows.
    """
    rows = []
    for joint in robot.joints:
        motor = MOTORS[joint.motor]
        low, high = motor.voltage_range_v
        if not low <= supply_v <= high:
            raise ValueError(f"{motor.name} runs on {low:g} to {high:g} V, not on {supply_v:g} V.")
        factor = supply_v / motor.nominal_voltage_v if motor.actuator == "dc_motor" else 1.0
        rows.append(
            replace(
                joint,
                kp=joint.kp * factor,
                torque_nm=joint.torque_nm * factor,
                velocity_rad_s=joint.velocity_rad_s * factor,
            )
        )
    return replace(robot, joints=tuple(rows))
