"""Is an arm's file right? Checks of its table against the compiled models, of the home pose and of the gripper.

As in :mod:`cadenza.robots.checking`, each check takes an arm and returns what is wrong, a sentence each; ``cadenza
robots check`` prints them, and the tests run them on every arm that ships.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from cadenza.robots.actuators import actuation
from cadenza.robots.arm_building import GRIPPER, build_spec
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import arm_index, home_angles, put_at_home, tcp_pose
from cadenza.robots.joint_excess import joint_excess
from cadenza.robots.menagerie import menagerie_spec


def compiled(arm: ArmRobot, **options: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The arm alone, at home; ``options`` as for ``build_spec``."""
    model = build_spec(arm, visuals=False, **options).compile()
    data = mujoco.MjData(model)
    put_at_home(model, data, arm)
    return model, data


def table(arm: ArmRobot) -> list[str]:
    """The joint table is what is simulated: order, limits, armature, friction, gains, torque limits."""
    model, _ = compiled(arm)
    wrong = []

    def compare(what: str, found: Any, wanted: Any) -> None:
        if not np.allclose(found, wanted, rtol=1e-9, atol=1e-12):
            wrong.append(f"{what} is {found} in the model, {wanted} in the table.")

    order = [model.actuator(number).name for number in range(model.nu)]
    wanted = [*arm.joint_names, *([GRIPPER] if arm.gripper.drive else [])]
    if order != wanted:
        wrong.append(f"the actuators are {', '.join(order)}; the table has {', '.join(wanted)}.")
        return wrong
    compare("the step", model.opt.timestep, arm.physics_dt_s)
    for row, joint in enumerate(arm.joints):
        act, at = actuation(joint), model.joint(joint.name).id
        dof = model.jnt_dofadr[at]
        compare(f"{joint.name}: the actuator's joint", model.actuator_trnid[row, 0], at)
        compare(f"{joint.name}: range", model.jnt_range[at], joint.limits_rad)
        compare(f"{joint.name}: control range", model.actuator_ctrlrange[row], joint.limits_rad)
        compare(f"{joint.name}: force", model.actuator_forcerange[row], (-joint.torque_nm, joint.torque_nm))
        compare(f"{joint.name}: armature", model.dof_armature[dof], joint.armature)
        compare(f"{joint.name}: friction", model.dof_frictionloss[dof], joint.friction_nm)
        compare(f"{joint.name}: damping", model.dof_damping[dof], act.damping)
        compare(f"{joint.name}: kp", model.actuator_gainprm[row, 0], act.kp)
        compare(f"{joint.name}: bias", model.actuator_biasprm[row, :3], (0, -act.kp, -act.kv))
    torques = build_spec(arm, visuals=False, actuation="torque").compile()
    for row, joint in enumerate(arm.arm_joints):
        compare(f"{joint.name}: torque range", torques.actuator_ctrlrange[row], (-joint.torque_nm, joint.torque_nm))
        compare(f"{joint.name}: torque gain", torques.actuator_gainprm[row, 0], 1.0)
    return wrong


def bodies(arm: ArmRobot) -> list[str]:
    """Masses, inertias and axes are those of the models, and the stated masses are theirs."""
    ours, _ = compiled(arm)
    theirs = [(menagerie_spec(arm.menagerie, arm.entry).compile(), "")]
    if arm.tool is not None:
        theirs.append((menagerie_spec(arm.tool.menagerie, arm.tool.entry).compile(), arm.tool.prefix))
    wrong = []
    for found, stated, what in (
        (float(sum(model.body_mass.sum() for model, _ in theirs)), arm.mass_kg, "mass_kg"),
        (float(ours.body_subtreemass[ours.body(arm.tool_body).id]), arm.tool_mass_kg, "tool_mass_kg"),
    ):
        if abs(found - stated) > 1e-6:
            wrong.append(f"{what} is {stated}, the model's is {found:.7f} kg.")
    for model, prefix in theirs:
        for number in range(1, model.nbody):
            name = model.body(number).name
            mine = ours.body(prefix + name).id
            root = model.body_parentid[number] == 0
            # Where the base stands and where the tool is screwed on is ours to say.
            fields = ("body_mass", "body_inertia", "body_ipos", *(() if root else ("body_pos", "body_quat")))
            wrong += [
                f"{prefix}{name}: {field} differs from the model's."
                for field in fields
                if not np.allclose(getattr(ours, field)[mine], getattr(model, field)[number], rtol=0, atol=1e-9)
            ]
        for number in range(model.njnt):
            name = model.joint(number).name
            mine = ours.joint(prefix + name).id
            if not np.allclose(ours.jnt_axis[mine], model.jnt_axis[number], rtol=0, atol=1e-9):
                wrong.append(f"{prefix}{name}: the axis differs from the model's.")
    return wrong


def limits(arm: ArmRobot) -> list[str]:
    """The table keeps the model's joint order, and nothing in it exceeds the motor or the model's limits."""
    theirs = menagerie_spec(arm.menagerie, arm.entry).compile()
    wrong = []
    order = [name for name in (theirs.joint(i).name for i in range(theirs.njnt)) if name in arm.joint_names]
    if order != list(arm.joint_names):
        wrong.append(f"the table's order differs from the model's: {', '.join(order)}.")
    for joint in arm.joints:
        wrong += joint_excess(joint, theirs)
    return wrong


def home(arm: ArmRobot) -> list[str]:
    """At home nothing touches, the hand is before the base, within reach and points down within 25 degrees."""
    model, data = compiled(arm)
    index = arm_index(model, arm)
    wrong = []
    if data.ncon:
        names = {model.body(model.geom_bodyid[geom]).name for contact in data.contact for geom in contact.geom}
        wrong.append(f"at home {', '.join(sorted(names))} touch each other.")
    away = data.site_xpos[index.tcp] - data.body(arm.base).xpos
    if away[0] < 0.3 * arm.reach_m or abs(away[1]) > 0.02 or np.linalg.norm(away) > arm.reach_m:
        wrong.append(f"the hand is at {away.round(3)} m from the base; it should be before it, within reach.")
    tilt = math.degrees(math.acos(min(1.0, max(-1.0, -float(data.site_xmat[index.tcp][8])))))
    if tilt > 25:
        wrong.append(f"the hand points {tilt:.0f} deg away from down.")
    return wrong


def holding(arm: ArmRobot, seconds: float = 10.0) -> list[str]:
    """With the targets at home it holds still for ten seconds, no lower than its stiffness explains."""
    model, data = compiled(arm)
    index = arm_index(model, arm)
    weight = np.zeros(len(index.dof)) if arm.compensates_gravity else data.qfrc_bias[index.dof].copy()
    start = tcp_pose(data, index)[0]
    wrong = []
    half = round(seconds / 2 / model.opt.timestep)
    for _ in range(half):
        mujoco.mj_step(model, data)
    middle = tcp_pose(data, index)[0]
    for _ in range(half):
        mujoco.mj_step(model, data)
    drift = float(np.linalg.norm(tcp_pose(data, index)[0] - middle))
    # MuJoCo's dry friction is soft: an arm that hangs on it creeps.
    if drift > 5e-4:
        wrong.append(f"the hand still drifts: {1000 * drift:.2f} mm in {seconds / 2:g} s.")
    stiffness = np.array([row.kp for row in arm.arm_joints])
    friction = np.array([row.friction_nm for row in arm.arm_joints])
    sag = np.abs(data.qpos[index.qpos] - home_angles(arm))
    for row, most in zip(range(len(sag)), 1.2 * (np.abs(weight) + friction) / stiffness + 1e-4, strict=True):
        if sag[row] > most:
            wrong.append(f"{arm.joint_names[row]} gives way by {sag[row]:.4f} rad; its weight explains {most:.4f}.")
    if np.linalg.norm(middle - start) > 0.05 * arm.reach_m:
        wrong.append(f"the hand hangs {1000 * np.linalg.norm(middle - start):.0f} mm from home.")
    load = np.abs(data.qfrc_actuator[index.dof]) / [row.torque_nm for row in arm.arm_joints]
    if load.max() > 0.6:
        wrong.append(f"{arm.joint_names[int(load.argmax())]} needs {load.max():.0%} of its torque to hold the arm.")
    return wrong


def rest(arm: ArmRobot) -> list[str]:
    """Let go up to 0.1 rad from home, no joint swings up and all are at rest within five seconds."""
    model, data = compiled(arm)
    index = arm_index(model, arm)
    generator = np.random.default_rng(0)
    low, high = np.array([row.limits_rad for row in arm.arm_joints]).T
    data.qpos[index.qpos] = np.clip(home_angles(arm) + generator.uniform(-0.1, 0.1, len(low)), low, high)
    fastest = []
    for _ in range(5):
        peak = 0.0
        for _ in range(round(1 / model.opt.timestep)):
            mujoco.mj_step(model, data)
            peak = max(peak, float(np.abs(data.qvel[index.dof]).max()))
        fastest.append(peak)
    if not fastest[-1] < 1e-3:
        return [f"joints do not come to rest: fastest in each second {', '.join(f'{v:.2g}' for v in fastest)} rad/s."]
    return []


def gripper(arm: ArmRobot) -> list[str]:
    """It closes and opens to the stated widths, and its fingers meet in the middle where both move."""
    model, data = compiled(arm)
    index = arm_index(model, arm)
    wrong = []
    for what, target, stated in zip(
        ("closed", "open"), (arm.gripper.closed, arm.gripper.open), arm.gripper.width_m, strict=True
    ):
        data.ctrl[index.gripper_actuator] = target
        for _ in range(round(4 / model.opt.timestep)):
            mujoco.mj_step(model, data)
        left, right = data.site_xpos[index.fingers]
        width = float(np.linalg.norm(left - right))
        if abs(width - stated) > 1.5e-3:
            wrong.append(f"{what} the fingers are {1000 * width:.1f} mm apart, not {1000 * stated:.1f}.")
        if len(index.gripper_qpos) > 1:
            frame = data.site_xmat[index.tcp].reshape(3, 3)
            middle = frame.T @ ((left + right) / 2 - data.site_xpos[index.tcp])
            if abs(middle[0]) > 1e-3 or abs(middle[1]) > 1e-3:
                wrong.append(f"{what} the fingers are {1000 * middle.round(4)} mm beside the TCP.")
    return wrong


CHECKS: dict[str, Callable[[ArmRobot], list[str]]] = {
    "table": table,
    "bodies": bodies,
    "limits": limits,
    "home": home,
    "holding": holding,
    "rest": rest,
    "gripper": gripper,
}
"""Name -> check."""
