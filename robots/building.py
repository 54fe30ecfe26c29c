"""From a joint table and a Menagerie model to a ``mujoco.MjSpec``.

The model gives bodies, inertias, joint axes and geoms; everything the table knows (limits, armature, friction, damping,
actuators, their order) comes from the table. No floor and no light: those are the environment's.

Names that are added: site ``imu``; per foot (``left``, ``right``) site ``<foot>_sole`` and sensors ``<foot>_position``
(world, m), ``<foot>_velocity`` (world, m/s) and ``<foot>_contact`` (number of contacts, then the sum of their forces on
what the foot touches, world frame, N). With ``backlash``, a joint ``<joint>_backlash`` behind every joint that has one.
"""

from __future__ import annotations

from typing import Literal

import mujoco

from cadenza.robots.actuators import add_actuator
from cadenza.robots.description import ActuatorKind, Foot, Joint, LeggedRobot
from cadenza.robots.menagerie import menagerie_spec
from cadenza.robots.model_parts import body_of, drop_geom, drop_unused_meshes, set_first, set_joint, strip
from cadenza.robots.motors import MOTORS

BACKLASH_SUFFIX = "_backlash"

Contacts = Literal["feet", "all"]

_CONTACT_DATA = (1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND)) | (1 << int(mujoco.mjtConDataField.mjCONDATA_FORCE))
_NET_FORCE = 3
"""The value of ``reduce="netforce"`` in a contact sensor's parameters (order of the MJCF keywords)."""


def build_spec(
    robot: LeggedRobot,
    *,
    contacts: Contacts = "feet",
    backlash: bool = False,
    visuals: bool = True,
    actuator: ActuatorKind | None = None,
) -> mujoco.MjSpec:
    """The robot's model with the table's actuators, limits, sites and foot sensors.

    Args:
        robot: its joint table and where its model comes from.
        contacts: ``feet``: only the feet touch, and only what is not the robot; everything else passes through the
            ground, which is enough where a fall ends the episode. ``all``: as the model has it.
        visuals: keep the meshes that only show. Without them a model compiles in milliseconds instead of seconds and
            moves the same: masses are the model's inertias, not its meshes'.
        backlash: put the free play of its motor behind each joint.
        actuator: one kind of actuator for all joints, instead of each motor's own.

    Raises:
        MissingModelError: the model has not been fetched.
        ValueError: the table and the model do not have the same joints.
    """
    spec = menagerie_spec(robot.menagerie, robot.entry)
    strip(spec, ("imu", "left_sole", "right_sole"))
    joints = _joints_by_name(spec, robot)
    for row in robot.joints:
        set_joint(joints[row.name], row, actuator)
        if backlash and MOTORS[row.motor].backlash_rad > 0:
            _add_backlash(joints[row.name], row, robot.physics_dt_s)
    for row in robot.joints:
        add_actuator(spec, row, actuator)
    _set_contacts(spec, robot, contacts)
    if not visuals:
        for geom in list(spec.geoms):
            if not (geom.contype or geom.conaffinity):
                drop_geom(spec, geom)
    drop_unused_meshes(spec)
    imu = robot.imu
    body_of(spec, robot, imu.body).add_site(name="imu", pos=imu.position, quat=imu.quaternion, group=5)
    for foot in robot.feet:
        _add_foot(spec, robot, foot)
    spec.option.timestep = robot.physics_dt_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    return spec


def _joints_by_name(spec: mujoco.MjSpec, robot: LeggedRobot) -> dict[str, mujoco.MjsJoint]:
    free = mujoco.mjtJoint.mjJNT_FREE
    found = {joint.name: joint for joint in spec.joints if joint.type != free}
    missing = [name for name in robot.joint_names if name not in found]
    extra = [name for name in found if name not in robot.joint_names]
    if missing or extra:
        raise ValueError(
            f"{robot.title}: the joint table and the model {robot.menagerie} differ. "
            f"Not in the model: {', '.join(missing) or 'none'}. Not in the table: {', '.join(extra) or 'none'}."
        )
    return found


def _set_contacts(spec: mujoco.MjSpec, robot: LeggedRobot, contacts: Contacts) -> None:
    feet = {foot.body: foot for foot in robot.feet}
    soles = dict.fromkeys(feet, 0)
    if contacts == "feet":
        for element in [*spec.pairs, *spec.excludes]:
            spec.delete(element)
    for geom in list(spec.geoms):
        collides = bool(geom.contype or geom.conaffinity)
        foot = feet.get(geom.parent.name)
        if foot is not None and (geom.name in foot.geoms if foot.geoms else collides):
            soles[foot.body] += 1
            geom.friction[0] = robot.sole_friction
            geom.condim = max(geom.condim, 3)
            # The ground's bit meets the foot's affinity; two feet have no bit in common and pass each other.
            geom.contype, geom.conaffinity = (
                (0, 1) if contacts == "feet" else (geom.contype or 1, geom.conaffinity or 1)
            )
        elif collides and contacts == "feet":
            drop_geom(spec, geom)
    for body, count in soles.items():
        if not count or (feet[body].geoms and count != len(feet[body].geoms)):
            names = ", ".join(geom.name or "(no name)" for geom in spec.body(body).geoms)
            raise ValueError(
                f"{robot.title}: the foot {body} has nothing to touch the ground with; its geoms: {names}."
            )


def _add_foot(spec: mujoco.MjSpec, robot: LeggedRobot, foot: Foot) -> None:
    sole = f"{foot.name}_sole"
    body_of(spec, robot, foot.body).add_site(name=sole, pos=foot.sole, group=5)
    kinds = {"position": mujoco.mjtSensor.mjSENS_FRAMEPOS, "velocity": mujoco.mjtSensor.mjSENS_FRAMELINVEL}
    for what, kind in kinds.items():
        spec.add_sensor(name=f"{foot.name}_{what}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=sole)
    touch = spec.add_sensor(name=f"{foot.name}_contact", type=mujoco.mjtSensor.mjSENS_CONTACT)
    # XBODY: the foot's body with all that hangs on it, e.g. toes.
    touch.objtype, touch.objname = mujoco.mjtObj.mjOBJ_XBODY, foot.body
    touch.intprm[:3] = (_CONTACT_DATA, _NET_FORCE, 1)


def _add_backlash(joint: mujoco.MjsJoint, row: Joint, step_s: float) -> None:
    """A free hinge between gear and limb, as wide as the play.

    The actuator stays on the gear's side, so the position loop does not see the play; a real servo's encoder sits on
    the output shaft and does. MuJoCo's limits are springs that get softer the lighter the joint, hence an armature of
    2 % of the motor's and the stiffest spring the step allows: under 1 N m an OP3's joint goes 4 % beyond its play.
    """
    half = MOTORS[row.motor].backlash_rad / 2
    play = joint.parent.add_joint(name=row.name + BACKLASH_SUFFIX, type=mujoco.mjtJoint.mjJNT_HINGE)
    play.axis, play.pos = joint.axis, joint.pos
    play.range, play.limited = (-half, half), mujoco.mjtLimited.mjLIMITED_TRUE
    play.solref_limit, play.solimp_limit = (2 * step_s, 1.0), (0.99, 0.999, 1e-4, 0.5, 2.0)
    play.armature = 0.02 * row.armature
    play.frictionloss = 0.0
    play.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
    set_first(play, "damping", 0.0)
    set_first(play, "stiffness", 0.0)
