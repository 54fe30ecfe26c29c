"""From an arm's joint table and its Menagerie models to a ``mujoco.MjSpec``.

The models give bodies, inertias, joint axes, geoms and the linkage of a gripper; the table gives limits, armature,
friction, actuators and their order. No table, floor, object or light: those are the environment's.

Names that are added: site ``tcp`` (its axes: :mod:`cadenza.robots.arm_description`) and sites ``left_finger`` and
``right_finger`` on the faces that grip. Actuators: one per row of the table, named like its joint, and behind them
``gripper`` where the hand has a drive of its own; its ``ctrl`` is the value of the fingers' joints, m or rad.
"""

from __future__ import annotations

from typing import Literal

import mujoco
import numpy as np

from cadenza.robots.actuators import add_actuator, add_torque_actuator
from cadenza.robots.arm_description import ArmRobot, GripperDrive, Mount, Tool
from cadenza.robots.menagerie import menagerie_spec
from cadenza.robots.model_parts import body_of, drop_geom, drop_unused_meshes, set_joint, strip

Actuation = Literal["position", "torque"]
Contacts = Literal["all", "hand", "none"]
GRIPPER = "gripper"
"""Name of the actuator of a gripper that is no row of the table."""
TCP = "tcp"
_SITES = (TCP, "left_finger", "right_finger")


def build_spec(
    arm: ArmRobot,
    *,
    actuation: Actuation = "position",
    contacts: Contacts = "all",
    visuals: bool = True,
    rigid_hand: bool = False,
    mount: Mount | None = None,
) -> mujoco.MjSpec:
    """The arm's model with the table's actuators and limits, and the sites that controllers need.

    Args:
        arm: its joint table and where its models come from.
        actuation: ``position``: ``ctrl`` of an arm joint is its target angle, rad, obeyed with the table's kp and kd;
            an arm whose maker compensates gravity does so here too, within the torque limits. ``torque``: ``ctrl`` is
            a torque, N m, within the table's limits, and nothing is compensated. A gripper takes positions in both.
        contacts: ``all``: as the model has it, the arm's links touch each other too. ``hand``: only what hangs on
            ``tool_body`` touches, and nothing of the arm itself. ``none``: nothing touches.
        visuals: keep the meshes that only show.
        rigid_hand: take the joints and the drive of the fingers away: a model of the arm alone, for kinematics.
        mount: where the base stands, instead of the arm's own place.

    Raises:
        MissingModelError: a model has not been fetched.
        ValueError: the table and the models do not have the same joints.
    """
    spec = menagerie_spec(arm.menagerie, arm.entry)
    strip(spec, _SITES)
    if arm.impratio > 1:
        spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, arm.impratio
    if arm.tool is not None:
        _attach(spec, arm, arm.tool)
    joints = _arm_joints(spec, arm)
    for row in arm.joints:
        set_joint(joints[row.name], row)
    _place(spec, arm, mount or arm.mount)
    if rigid_hand:
        _freeze_hand(spec, arm)
    _add_actuators(spec, arm, actuation, rigid_hand)
    _set_contacts(spec, arm, contacts)
    if not visuals:
        for geom in list(spec.geoms):
            if not (geom.contype or geom.conaffinity):
                drop_geom(spec, geom)
    drop_unused_meshes(spec)
    tcp = arm.tcp
    body_of(spec, arm, tcp.body).add_site(name=TCP, pos=tcp.position, quat=tcp.quaternion, group=5)
    for finger in arm.gripper.fingers:
        body_of(spec, arm, finger.body).add_site(name=f"{finger.name}_finger", pos=finger.tip, group=5)
    if actuation == "position" and arm.compensates_gravity:
        _compensate_gravity(spec, arm)
    spec.option.timestep = arm.physics_dt_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    return spec


def _attach(spec: mujoco.MjSpec, arm: ArmRobot, tool: Tool) -> None:
    hand = menagerie_spec(tool.menagerie, tool.entry)
    strip(hand, _SITES)
    # Otherwise MuJoCo warns that it keeps the arm's.
    hand.option.cone, hand.option.impratio = spec.option.cone, spec.option.impratio
    site = spec.site(tool.site)
    if site is None:
        names = ", ".join(found.name for found in spec.sites)
        raise ValueError(f"{arm.title}: the model {arm.menagerie} has no site {tool.site!r}; there are: {names}.")
    spec.attach(hand, site=site, prefix=tool.prefix)


def _arm_joints(spec: mujoco.MjSpec, arm: ArmRobot) -> dict[str, mujoco.MjsJoint]:
    """The model's joints by name, after comparing those outside the hand with the table."""
    found = {joint.name: joint for joint in spec.joints}
    hand = {joint.name for joint in _hand_joints(spec, arm)}
    missing = [name for name in (*arm.joint_names, *arm.gripper.joints) if name not in found]
    extra = [name for name in found if name not in arm.joint_names and name not in hand]
    if missing or extra:
        raise ValueError(
            f"{arm.title}: the joint table and the model {' + '.join(arm.models)} differ. "
            f"Not in the model: {', '.join(missing) or 'none'}. Not in the table: {', '.join(extra) or 'none'}."
        )
    return found


def _hand_joints(spec: mujoco.MjSpec, arm: ArmRobot) -> list[mujoco.MjsJoint]:
    """Joints of the fingers and their linkage: those behind ``tool_body`` that are not arm joints."""
    below = _subtree(body_of(spec, arm, arm.tool_body))
    arm_names = {row.name for row in arm.arm_joints}
    return [joint for joint in spec.joints if joint.parent.name in below and joint.name not in arm_names]


def _subtree(body: mujoco.MjsBody) -> set[str]:
    names = {body.name}
    for child in body.bodies:
        names |= _subtree(child)
    return names


def _place(spec: mujoco.MjSpec, arm: ArmRobot, mount: Mount) -> None:
    base = body_of(spec, arm, arm.base)
    base.pos, base.quat = mount.position, mount.quaternion


def _freeze_hand(spec: mujoco.MjSpec, arm: ArmRobot) -> None:
    for kind in (spec.equalities, spec.tendons):
        for element in list(kind):
            spec.delete(element)
    for joint in _hand_joints(spec, arm):
        spec.delete(joint)


def _add_actuators(spec: mujoco.MjSpec, arm: ArmRobot, actuation: Actuation, rigid_hand: bool) -> None:
    if actuation not in ("position", "torque"):
        raise ValueError(f"actuation is 'position' or 'torque', not {actuation!r}.")
    for row in arm.joints:
        of_hand = row.name in arm.gripper.joints
        if of_hand and rigid_hand:
            continue
        if actuation == "torque" and not of_hand:
            add_torque_actuator(spec, row)
        else:
            add_actuator(spec, row)
    if arm.gripper.drive is not None and not rigid_hand:
        _add_drive(spec, arm, arm.gripper.drive)


def _add_drive(spec: mujoco.MjSpec, arm: ArmRobot, drive: GripperDrive) -> None:
    """The hand's own motor, on the mean of the coupled joints."""
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    mean = spec.add_tendon(name=GRIPPER)
    for name in arm.gripper.joints:
        mean.wrap_joint(name, 1 / len(arm.gripper.joints))
    made = spec.add_actuator(name=GRIPPER, target=GRIPPER, trntype=mujoco.mjtTrn.mjTRN_TENDON)
    made.gaintype, made.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    made.gainprm[0] = drive.kp
    made.biasprm[:3] = (0.0, -drive.kp, -drive.kd)
    made.ctrllimited = made.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    made.ctrlrange = sorted((arm.gripper.closed, arm.gripper.open))
    made.forcerange = (-drive.force, drive.force)


def _set_contacts(spec: mujoco.MjSpec, arm: ArmRobot, contacts: Contacts) -> None:
    if contacts not in ("all", "hand", "none"):
        raise ValueError(f"contacts is 'all', 'hand' or 'none', not {contacts!r}.")
    hand = _subtree(body_of(spec, arm, arm.tool_body))
    for geom in list(spec.geoms):
        collides = bool(geom.contype or geom.conaffinity)
        if collides and (contacts == "none" or (contacts == "hand" and geom.parent.name not in hand)):
            drop_geom(spec, geom)
    _set_pads(spec, arm, contacts)


def _set_pads(spec: mujoco.MjSpec, arm: ArmRobot, contacts: Contacts) -> None:
    """Boxes of our own along a finger's inner face, in place of a hull that fills the space between the fingers."""
    pads: dict[str, tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...]] = arm.parts.get(
        "pads", {}
    )
    for name, boxes in pads.items():
        body = body_of(spec, arm, name)
        for geom in list(body.geoms):
            if geom.contype or geom.conaffinity:
                drop_geom(spec, geom)
        if contacts == "none":
            continue
        for number, (position, half_size) in enumerate(boxes):
            pad = body.add_geom(
                name=f"{name}_pad{number}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=position, size=half_size
            )
            pad.mass, pad.group, pad.condim, pad.friction = 0.0, 3, 4, (1.0, 0.02, 0.0001)


def _compensate_gravity(spec: mujoco.MjSpec, arm: ArmRobot) -> None:
    """The maker's controller carries the arm and the hand; its torque counts among that of the motors."""
    for name in _subtree(body_of(spec, arm, arm.base)):
        spec.body(name).gravcomp = 1.0
    for row in arm.joints:
        spec.joint(row.name).actgravcomp = True
        spec.joint(row.name).actfrclimited = mujoco.mjtLimited.mjLIMITED_TRUE
        spec.joint(row.name).actfrcrange = np.array((-row.torque_nm, row.torque_nm))
