"""The MuJoCo model: a Panda over a table, a cable of 24 capsules anchored at one end, and clips.

The cable is a chain of our own, as MuJoCo's composite cable and its plugin exist up to 3.17 only: a joint is two
hinges, across the cable and up, each with the spring k = E I / l and a damper D of at least 4 h k and 2e-3 N m s/rad.
Nothing of the cable touches the cable. It meets clips and fingers with its capsules, the table with one sphere a
joint: a capsule would give two contacts a segment, at places that its neighbours hold already.

The anchor is a rubber bush, 400 N/m along the table. Without any give a taut chain has none either, and a stiff arm
one millimetre too far would tear it out of the hand.

A clip is two walls, each a mocap body, so that poses and gaps are part of ``mjData`` and change without compiling.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.layouts import ROW_X_M
from cadenza.envs.cable.settings import CableConfig
from cadenza.robots import load_arm
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.model_parts import body_of, set_first

Array = NDArray[np.float64]

SEGMENTS = 24
LENGTH_M = 0.6
RADIUS_M = 0.004
EI_NM2 = 2e-4
"""Bending stiffness."""
DENSITY_KG_M3 = 1200.0
CABLE_FRICTION = 0.6
SEGMENT_M = LENGTH_M / SEGMENTS
LEAST_DAMPING = 2e-3
"""N m s/rad a hinge."""
ANCHOR_M = (ROW_X_M, -0.27, RADIUS_M)
ANCHOR_N_M = 400.0
HEADING_RAD = math.radians(-48.0)
"""In which direction the cable leaves the anchor, from +y: away from the arm."""

WALL_HEIGHT_M = 0.014
WALL_LENGTH_M = 0.014
WALL_THICKNESS_M = 0.004
LIP_M = 0.007
"""Length of the lip, 45 degrees outward: it adds 5 mm of height and as much of opening on each side."""
GAP_CLEARANCE_M = (0.0015, 0.003)
"""The gap is the cable's diameter and this much."""

FINGER_TIP_M = 0.0085
"""How far the fingers reach beyond the TCP."""

CONTACT_SOLREF = (0.008, 1.0)
CONTACT_SOLIMP = (0.98, 0.999, 0.0005, 0.5, 2.0)
"""A segment weighs 1.5 g, and MuJoCo's contacts give in proportion to mass: with the default numbers fingers that press
with 4 N would close right through the cable."""

FRICTION_DRIVE_N_M = 5000.0
"""Of the fingers without the assist: 10 N a finger on the cable instead of 2 N; a real hand grasps with up to 70 N."""

TABLE, CABLE, FINGER = 1, 2, 4
"""Contact bits: what touches cable joints, the cable, the fingers."""


def joint_stiffness(scale: float = 1.0) -> float:
    """k = E I / l of one hinge, N m/rad."""
    return scale * EI_NM2 / SEGMENT_M


def joint_damping(stiffness: float, dt_s: float) -> float:
    """D of one hinge, N m s/rad: at least 4 h k and :data:`LEAST_DAMPING`."""
    return max(LEAST_DAMPING, 4.0 * dt_s * stiffness)


def wall_names(clip: int) -> tuple[str, str]:
    """Bodies of a clip's walls: at +v and at -v."""
    return f"clip{clip}_left", f"clip{clip}_right"


def weld_name(segment: int) -> str:
    """Equality that holds a segment to the hand."""
    return f"hold{segment}"


def build_spec(config: CableConfig, arm: ArmRobot | None = None) -> mujoco.MjSpec:
    """The world of this many clips.

    Raises:
        MissingModelError: the Panda has not been fetched.
    """
    arm = arm or load_arm("panda")
    spec = arm.build_spec(contacts="none", visuals=config.visuals)
    spec.modelname = "cable_routing"
    option = spec.option
    option.timestep = config.physics_dt_s
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    option.noslip_iterations = 3 if config.grasp == "friction" else 0
    # With a Jacobian of this shape the sparse way is half again as quick as the one MuJoCo would choose.
    option.jacobian = mujoco.mjtJacobian.mjJAC_SPARSE
    _add_surroundings(spec)
    _add_fingers(spec, arm)
    _add_cable(spec, config.physics_dt_s)
    for clip in range(config.clips):
        _add_clip(spec, clip)
    if config.grasp == "friction":
        drive = spec.actuator("gripper")
        drive.gainprm[0], drive.biasprm[1] = FRICTION_DRIVE_N_M, -FRICTION_DRIVE_N_M
        drive.biasprm[2] = -FRICTION_DRIVE_N_M / 10
    hand = body_of(spec, arm, arm.tool_body)
    _add_wrist_cameras(hand, np.array(arm.tcp.position))
    for segment in range(SEGMENTS):
        weld = spec.add_equality(name=weld_name(segment), type=mujoco.mjtEq.mjEQ_WELD)
        weld.objtype = mujoco.mjtObj.mjOBJ_BODY
        weld.name1, weld.name2 = hand.name, f"cable{segment}"
        weld.active = False
        weld.solref, weld.solimp = CONTACT_SOLREF, CONTACT_SOLIMP
        weld.data[10] = 0.01  # m: pads are small, and hold a place better than a direction
    return spec


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = (0.25, 0.25, 0.25), (0.25, 0.25, 0.25), (0.0, 0.0, 0.0)
    world = spec.worldbody
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=(1.0, 1.0, 0.05), pos=(0.5, 0.0, 0.0),
        contype=TABLE, conaffinity=0, condim=3, friction=(CABLE_FRICTION, 0.005, 1e-4), rgba=(0.62, 0.62, 0.60, 1.0),
    )  # fmt: skip
    for position in ((0.9, -0.6, 1.5), (0.2, 0.8, 1.4)):
        light = world.add_light(pos=position, dir=(0.45 - position[0], -position[1], -position[2]))
        light.diffuse, light.ambient, light.specular = (0.4, 0.4, 0.4), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    eye, target = np.array((0.92, 0.02, 0.46)), np.array((0.47, 0.02, 0.0))
    _add_camera(world, "side", eye, target, np.array((0.0, 1.0, 0.0)), 56.0)


def _add_camera(body: mujoco.MjsBody, name: str, eye: Array, target: Array, right: Array, fovy_deg: float) -> None:
    """A camera at ``eye`` that looks at ``target``, with ``right`` to the right of its picture."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = right - back * (right @ back)
    up = np.cross(back, right)
    right, up = right / np.linalg.norm(right), up / np.linalg.norm(up)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.stack((right, up, back), axis=1).ravel())
    body.add_camera(name=name, pos=eye, quat=quaternion, fovy=fovy_deg)


def _add_wrist_cameras(hand: mujoco.MjsBody, tcp: Array) -> None:
    """Before and behind the fingers, along the held cable; both see what lies between and below the fingers."""
    for name, side in (("wrist_left", -1.0), ("wrist_right", 1.0)):
        eye = np.array((side * 0.085, 0.0, 0.035))
        _add_camera(hand, name, eye, tcp + np.array((side * 0.02, 0.0, 0.0)), np.array((0.0, side, 0.0)), 62.0)


def _add_fingers(spec: mujoco.MjSpec, arm: ArmRobot) -> None:
    """One box a finger: only fingers touch, with a plain face, which gives few contacts."""
    reach = arm.tcp.position[2] + FINGER_TIP_M - 0.0584  # the fingers' bodies hang 58.4 mm below the hand's
    for finger in arm.gripper.fingers:
        body_of(spec, arm, finger.body).add_geom(
            name=f"{finger.name}_pad", type=mujoco.mjtGeom.mjGEOM_BOX,
            size=(0.010, 0.006, 0.012), pos=(0.0, 0.006, reach - 0.012), mass=0.0, group=3,
            contype=CABLE, conaffinity=FINGER, condim=4, friction=(1.0, 0.005, 1e-4),
            solref=CONTACT_SOLREF, solimp=CONTACT_SOLIMP,
        )  # fmt: skip


def _add_cable(spec: mujoco.MjSpec, dt_s: float) -> None:
    anchor = spec.worldbody.add_body(name="anchor", pos=ANCHOR_M)
    anchor.add_geom(
        name="anchor", type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(0.009, 0.006, 0.0), mass=0.02,
        contype=0, conaffinity=0, rgba=(0.25, 0.25, 0.28, 1.0),
    )  # fmt: skip
    for name, axis in (("anchor_x", (1, 0, 0)), ("anchor_y", (0, 1, 0))):
        bush = anchor.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        _spring(bush, ANCHOR_N_M, 4.0 * dt_s * ANCHOR_N_M)
    stiffness = joint_stiffness()
    turn = math.pi / 2 + HEADING_RAD  # the chain's x axis, from the world's
    parent, place = anchor, (0.0, 0.0, 0.0)
    for segment in range(SEGMENTS):
        body = parent.add_body(name=f"cable{segment}", pos=place)
        if segment == 0:
            body.quat = (math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2))
        for name, axis in (("across", (0, 0, 1)), ("up", (0, 1, 0))):
            hinge = body.add_joint(name=f"cable{segment}_{name}", type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis)
            _spring(hinge, stiffness, joint_damping(stiffness, dt_s))
            hinge.limited, hinge.range = mujoco.mjtLimited.mjLIMITED_TRUE, np.radians((-80.0, 80.0))
        body.add_geom(
            name=f"cable{segment}", type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=(RADIUS_M, 0.0, 0.0),
            fromto=(0.0, 0.0, 0.0, SEGMENT_M, 0.0, 0.0), density=DENSITY_KG_M3, contype=0, conaffinity=CABLE,
            condim=3, friction=(CABLE_FRICTION, 0.005, 1e-4), rgba=(0.85, 0.18, 0.10, 1.0),
            solref=CONTACT_SOLREF, solimp=CONTACT_SOLIMP,
        )  # fmt: skip
        body.add_geom(
            name=f"cable{segment}_end", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=(RADIUS_M, 0.0, 0.0),
            pos=(SEGMENT_M, 0.0, 0.0), mass=0.0, contype=0, conaffinity=TABLE, condim=3,
            friction=(CABLE_FRICTION, 0.005, 1e-4), group=3,
        )  # fmt: skip
        parent, place = body, (SEGMENT_M, 0.0, 0.0)


def _spring(joint: mujoco.MjsJoint, stiffness: float, damping: float) -> None:
    set_first(joint, "stiffness", stiffness)
    set_first(joint, "damping", damping)


def _add_clip(spec: mujoco.MjSpec, clip: int) -> None:
    """Two walls whose inner faces are the planes x = 0 of their bodies, the walls at x > 0."""
    thick = WALL_THICKNESS_M / 2
    half = math.radians(45.0) / 2
    turned = (math.cos(half), 0.0, math.sin(half), 0.0)
    slope = math.sqrt(0.5)
    centre = (slope * (thick + LIP_M / 2), 0.0, WALL_HEIGHT_M + slope * (LIP_M / 2 - thick))
    for name in wall_names(clip):
        # The colour tells the clips apart.
        colour = ((0.10, 0.35, 0.80, 1.0), (0.05, 0.55, 0.25, 1.0), (0.45, 0.15, 0.60, 1.0))[clip]
        body = spec.worldbody.add_body(name=name, mocap=True)
        common = {
            "type": mujoco.mjtGeom.mjGEOM_BOX, "contype": CABLE | FINGER, "conaffinity": 0, "condim": 3,
            "friction": (0.3, 0.005, 1e-4), "rgba": colour, "solref": CONTACT_SOLREF, "solimp": CONTACT_SOLIMP,
        }  # fmt: skip
        body.add_geom(
            name=f"{name}_wall", size=(thick, WALL_LENGTH_M / 2, WALL_HEIGHT_M / 2),
            pos=(thick, 0.0, WALL_HEIGHT_M / 2), **common,
        )  # fmt: skip
        body.add_geom(name=f"{name}_lip", size=(thick, WALL_LENGTH_M / 2, LIP_M / 2), pos=centre, quat=turned, **common)
