"""An arm with a table, a cube, a mark for the goal, sensors for contacts, light and cameras: one compiled model.

Names that are added: geoms ``table`` and ``floor``; body, joint and geom ``object``; mocap body ``goal`` (only shows);
contact sensors ``left_touch``, ``right_touch`` (number of contacts of a finger with the cube), ``table_force`` (net
force of arm and table on each other, N) and ``self_force`` (the :data:`SELF_CONTACTS` strongest contacts of the arm
with itself, N); cameras ``scene`` and ``top``.
"""

from __future__ import annotations

import mujoco
import numpy as np

from cadenza.envs.tabletop.settings import TableConfig
from cadenza.envs.tabletop.workspaces import Workspace
from cadenza.robots.arm_description import ArmRobot

SELF_CONTACTS = 4
FLOOR_M = -0.4
IMPRATIO = 10.0
"""Frictional over normal impedance of contacts."""
_FOUND, _FORCE = 1, 2
"""Bits of a contact sensor's data, in the order of the MJCF keywords."""
_UNSORTED, _STRONGEST, _NET = 0, 2, 3
_TABLE_M = 0.04
"""Thickness of the table's top."""


def build_model(arm: ArmRobot, place: Workspace, config: TableConfig, *, goal: bool) -> mujoco.MjModel:
    """Compile an arm with its table.

    Args:
        arm: from :func:`cadenza.robots.load_arm`.
        place: its workspace.
        config: of the task.
        goal: whether there is a mark for one; without, the force between cube and table is measured.
    """
    actuation = "torque" if config.control == "osc" else "position"
    spec = arm.build_spec(actuation=actuation, contacts=config.contacts, visuals=config.visuals)
    spec.option.timestep = config.physics_dt_s
    # With pyramidal cones and an impedance ratio of 1 a grasped cube creeps out of the fingers within seconds.
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, max(spec.option.impratio, IMPRATIO)
    spec.modelname = f"{arm.prefix} at a table"
    _add_table(spec, place)
    _add_cube(spec, place)
    if goal:
        mark = spec.worldbody.add_body(name="goal", mocap=True, pos=[*place.center, place.rest])
        mark.add_geom(
            name="goal", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.6 * place.cube_half, 0, 0], contype=0,
            conaffinity=0, rgba=[0.1, 0.8, 0.25, 0.55],
        )  # fmt: skip
    _add_sensors(spec, arm)
    if not goal:
        _add_object_force(spec)
    _add_sight(spec, place)
    return spec.compile()


def _add_table(spec: mujoco.MjSpec, place: Workspace) -> None:
    (x, y), (half_x, half_y) = place.table_center, place.table_half
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[x, y, -_TABLE_M / 2], size=[half_x, half_y, _TABLE_M / 2],
        rgba=[0.72, 0.66, 0.58, 1.0],
    )  # fmt: skip
    # Only the cube's second bit meets the floor: what falls off the table stays in sight of the numbers.
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=[x, y, FLOOR_M], size=[3, 3, 0.1], contype=0,
        conaffinity=2, rgba=[0.42, 0.46, 0.5, 1.0],
    )  # fmt: skip


def _add_cube(spec: mujoco.MjSpec, place: Workspace) -> None:
    body = spec.worldbody.add_body(name="object", pos=[*place.center, place.rest])
    body.add_freejoint(name="object")
    # The cube's own solref and solimp count in all its contacts; softer, it creeps out of moving fingers in a second.
    # condim 4: friction against spinning about a contact's normal, without which two fingers hold no cube level.
    body.add_geom(
        name="object", type=mujoco.mjtGeom.mjGEOM_BOX, size=[place.cube_half] * 3, mass=place.cube_kg, condim=4,
        friction=[1.0, 0.02, 0.0001], solref=[0.01, 1.0], solimp=[0.95, 0.99, 0.001, 0.5, 2.0], priority=1, contype=3,
        conaffinity=1, rgba=[0.85, 0.25, 0.2, 1.0],
    )  # fmt: skip


def _add_sensors(spec: mujoco.MjSpec, arm: ArmRobot) -> None:
    body, geom = mujoco.mjtObj.mjOBJ_XBODY, mujoco.mjtObj.mjOBJ_GEOM
    fingers = {finger.name: finger.body for finger in arm.gripper.fingers}
    for name, one, other, kind, data, reduce, slots in (
        ("left_touch", fingers["left"], "object", geom, _FOUND, _UNSORTED, 1),
        ("right_touch", fingers["right"], "object", geom, _FOUND, _UNSORTED, 1),
        ("table_force", arm.base, "table", geom, _FORCE, _NET, 1),
        ("self_force", arm.base, arm.base, body, _FORCE, _STRONGEST, SELF_CONTACTS),
        ("pinch_force", fingers["left"], fingers["right"], body, _FORCE, _STRONGEST, SELF_CONTACTS),
    ):
        sensor = spec.add_sensor(name=name, type=mujoco.mjtSensor.mjSENS_CONTACT)
        # XBODY: the body with all that hangs on it.
        sensor.objtype, sensor.objname, sensor.reftype, sensor.refname = body, one, kind, other
        sensor.intprm[:3] = (data, reduce, slots)


def _add_object_force(spec: mujoco.MjSpec) -> None:
    """What cube and table press on each other; on its own, as it costs a twentieth of the speed (docs/tabletop.md)."""
    sensor = spec.add_sensor(name="object_force", type=mujoco.mjtSensor.mjSENS_CONTACT)
    sensor.objtype = sensor.reftype = mujoco.mjtObj.mjOBJ_GEOM
    sensor.objname, sensor.refname = "object", "table"
    sensor.intprm[:3] = (_FORCE, _NET, 1)


def _add_sight(spec: mujoco.MjSpec, place: Workspace) -> None:
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.65, 0.75, 0.85], rgb2=[0.95, 0.96, 0.97], width=256, height=1536,
    )  # fmt: skip
    for light in list(spec.lights):
        spec.delete(light)
    spec.worldbody.add_light(
        pos=[-0.3, -0.9, 2.5], dir=[0.3, 0.4, -1], type=mujoco.mjtLightType.mjLIGHT_SPOT, cutoff=60,
        diffuse=[0.5, 0.5, 0.5], specular=[0.1, 0.1, 0.1],
    )  # fmt: skip
    spec.visual.headlight.ambient = [0.4, 0.4, 0.4]
    spec.visual.headlight.diffuse = [0.45, 0.45, 0.45]
    spec.visual.headlight.specular = [0.1, 0.1, 0.1]
    x, y = place.center
    span = place.radius[1]
    # From the front right, over the table's far edge, towards the base.
    eye = (x + 1.15 * span, y - 1.15 * span, 1.05 * span)
    _aim(spec, "scene", eye, (0.65 * x, y, 0.35 * span), 45.0)
    _aim(spec, "top", (x, y, 2.0 * span), (x, y, 0.0), 45.0)
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1920, 1440


def _aim(
    spec: mujoco.MjSpec, name: str, eye: tuple[float, float, float], target: tuple[float, float, float], fovy: float
) -> None:
    """A camera that stands still and looks at a point; x, away from the arm, is up in one that looks down."""
    back = np.subtract(eye, target)
    back = back / np.linalg.norm(back)
    up = np.array([1.0, 0.0, 0.0]) if abs(back[2]) > 0.99 else np.array([0.0, 0.0, 1.0])
    right = np.cross(up, back)
    right = right / np.linalg.norm(right)
    spec.worldbody.add_camera(name=name, pos=eye, xyaxes=[*right, *np.cross(back, right)], fovy=fovy)
