"""Is a robot's file right? Checks of a joint table against the compiled model, and of the home pose in simulation.

Each check takes a robot and returns what is wrong, a sentence each; an empty list means it holds. ``cadenza robots
check`` prints them, and the tests run them on every robot that ships.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.robots.actuators import actuation
from cadenza.robots.building import Contacts, build_spec
from cadenza.robots.description import LeggedRobot
from cadenza.robots.joint_excess import joint_excess
from cadenza.robots.menagerie import menagerie_spec
from cadenza.robots.pose import home_angles, home_qpos, joint_addresses

GRAVITY = 9.81


def on_ground(robot: LeggedRobot, **options: Any) -> mujoco.MjModel:
    """The robot, compiled over a plane at z = 0; ``options`` as for ``build_spec``."""
    spec = build_spec(robot, visuals=False, **options)
    spec.worldbody.add_geom(name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1])
    return spec.compile()


def at_home(robot: LeggedRobot, model: mujoco.MjModel) -> mujoco.MjData:
    """A simulation that starts at home, with the targets that hold it."""
    data = mujoco.MjData(model)
    data.qpos[:] = home_qpos(robot, model)
    data.ctrl[:] = home_angles(robot)
    mujoco.mj_forward(model, data)
    return data


def table(robot: LeggedRobot) -> list[str]:
    """The joint table is what is simulated: order, limits, armature, friction, gains."""
    model = on_ground(robot)
    index = joint_addresses(model, robot)
    wrong = []

    def compare(what: str, found: Any, wanted: Any) -> None:
        if not np.allclose(found, wanted, rtol=1e-9, atol=1e-12):
            wrong.append(f"{what} is {found} in the model, {wanted} in the table.")

    compare("the actuators' order", index.actuator, np.arange(len(robot.joints)))
    compare("the number of actuators", model.nu, len(robot.joints))
    compare("the step", model.opt.timestep, robot.physics_dt_s)
    for row, joint in enumerate(robot.joints):
        act, at, dof = actuation(joint), model.joint(joint.name).id, index.dof[row]
        compare(f"{joint.name}: the actuator's joint", model.actuator_trnid[row, 0], at)
        compare(f"{joint.name}: range", model.jnt_range[at], joint.limits_rad)
        compare(f"{joint.name}: control range", model.actuator_ctrlrange[row], joint.limits_rad)
        compare(f"{joint.name}: force", model.actuator_forcerange[row], (-joint.torque_nm, joint.torque_nm))
        compare(f"{joint.name}: armature", model.dof_armature[dof], joint.armature)
        compare(f"{joint.name}: friction", model.dof_frictionloss[dof], joint.friction_nm)
        compare(f"{joint.name}: damping", model.dof_damping[dof], act.damping)
        compare(f"{joint.name}: kp", model.actuator_gainprm[row, 0], act.kp)
        compare(f"{joint.name}: bias", model.actuator_biasprm[row, :3], (0, -act.kp, -act.kv))
    return wrong


def bodies(robot: LeggedRobot) -> list[str]:
    """Masses, inertias and axes are those of the model in the Menagerie, and the stated mass is theirs."""
    theirs = menagerie_spec(robot.menagerie, robot.entry).compile()
    wrong = []
    mass = float(theirs.body_mass.sum())
    if abs(mass - robot.mass_kg) > 1e-6:
        wrong.append(f"mass_kg is {robot.mass_kg}, the model weighs {mass:.7f} kg.")
    kinds: tuple[Contacts, ...] = ("feet", "all")
    for contacts in kinds:
        ours = build_spec(robot, visuals=False, contacts=contacts).compile()
        wrong += [
            f"{field} differs from the Menagerie's with contacts={contacts!r}."
            for field in ("body_mass", "body_inertia", "body_ipos", "body_pos", "body_quat", "jnt_axis", "jnt_pos")
            if not np.allclose(getattr(ours, field), getattr(theirs, field), rtol=0, atol=1e-9)
        ]
    return wrong


def limits(robot: LeggedRobot) -> list[str]:
    """Nothing in the table exceeds the motor, or the model where the model has a limit."""
    theirs = menagerie_spec(robot.menagerie, robot.entry).compile()
    wrong = []
    for joint in robot.joints:
        wrong += joint_excess(joint, theirs)
    return wrong


@dataclass(frozen=True)
class Stance:
    """How a robot stands at home."""

    tilt_deg: tuple[float, float]
    """Of the left and right sole, from the points in which each meets the ground."""
    off_centre_m: tuple[float, float]
    """From each table's sole to the middle of those points."""
    margin: float
    """Of the centre of mass over the support: 1 in its middle, 0 at its edge."""


def stance(robot: LeggedRobot) -> Stance:
    """Let the home pose 1 mm into flat ground, so that every point that carries meets it, and look at the contacts.

    Raises:
        ValueError: a foot meets the ground in fewer than two points.
    """
    model = on_ground(robot)
    data = at_home(robot, model)
    data.qpos[joint_addresses(model, robot).base_qpos + 2] -= 0.001
    mujoco.mj_forward(model, data)
    tilts, off, points = [], [], []
    for foot in robot.feet:
        body = model.body(foot.body).id
        touching = [c for c in data.contact if body in model.geom_bodyid[list(c.geom)]]
        if len(touching) < 2:
            raise ValueError(f"the {foot.name} foot meets flat ground in {len(touching)} points; is `sole` its lowest?")
        # A contact lies half-way between the two surfaces.
        sole = np.array([[c.pos[0], c.pos[1], c.pos[2] + c.dist / 2] for c in touching])
        flat = sole[:, :2] - sole[:, :2].mean(axis=0)
        slope = np.linalg.lstsq(flat, sole[:, 2] - sole[:, 2].mean(), rcond=None)[0]
        tilts.append(math.degrees(math.atan(float(np.linalg.norm(slope)))))
        middle = (sole[:, :2].min(axis=0) + sole[:, :2].max(axis=0)) / 2
        off.append(float(np.linalg.norm(middle - data.site(f"{foot.name}_sole").xpos[:2])))
        points.append(sole[:, :2])
    centre = data.subtree_com[model.body(robot.base).id][:2]
    return Stance((tilts[0], tilts[1]), (off[0], off[1]), _margin(np.concatenate(points), centre))


def _margin(points: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """Smallest distance of ``centre`` from the convex hull's edges (negative outside), over half its shorter side."""
    distances = []
    for start in points:
        for end in points:
            length = float(np.linalg.norm(end - start))
            if length > 1e-6:
                inward = np.array([start[1] - end[1], end[0] - start[0]]) / length
                if ((points - start) @ inward >= -1e-9).all():
                    distances.append(float((centre - start) @ inward))
    return min(distances) / (float((points.max(axis=0) - points.min(axis=0)).min()) / 2)


def home(robot: LeggedRobot) -> list[str]:
    """At home both soles are level within 0.5 deg and the centre of mass is over the middle of the support."""
    try:
        found = stance(robot)
    except ValueError as error:
        return [str(error)]
    wrong = []
    if max(found.tilt_deg) > 0.5:
        wrong.append(f"the soles are tilted by {found.tilt_deg[0]:.2f} and {found.tilt_deg[1]:.2f} deg.")
    if max(found.off_centre_m) > 0.01:
        wrong.append(f"`sole` is {1000 * max(found.off_centre_m):.0f} mm beside the middle of what touches the ground.")
    if found.margin < 0.6:
        wrong.append(
            f"the centre of mass is at {found.margin:.2f} of the support (1 its middle, 0 its edge); 0.6 asked."
        )
    return wrong


def standing(robot: LeggedRobot, seconds: float = 10.0, **options: Any) -> list[str]:
    """With the targets at home and nothing else it stands for ten seconds, both feet carrying."""
    model = on_ground(robot, **options)
    data = at_home(robot, model)
    index = joint_addresses(model, robot)
    start = data.qpos[index.base_qpos :][:3].copy()
    for _ in range(round(seconds / model.opt.timestep)):
        mujoco.mj_step(model, data)
    tilt = math.degrees(math.acos(min(1.0, float(data.xmat[model.body(robot.base).id][8]))))
    moved = float(np.linalg.norm(data.qpos[index.base_qpos :][:3] - start))
    if not np.isfinite(data.qpos).all() or tilt > 30:
        return [f"it fell within {seconds:g} s."]
    wrong = []
    if tilt > 6 or moved > 0.05 * start[2]:
        wrong.append(f"after {seconds:g} s it leans {tilt:.1f} deg and has moved {1000 * moved:.0f} mm.")
    if np.abs(data.qvel).max() > 0.01:
        wrong.append(f"after {seconds:g} s something still moves at {np.abs(data.qvel).max():.3f}.")
    weight = robot.mass_kg * GRAVITY
    carried = [-data.sensor(f"{foot.name}_contact").data[3] for foot in robot.feet]
    if abs(sum(carried) - weight) > 0.02 * weight or min(carried) < 0.35 * weight:
        wrong.append(f"the feet carry {carried[0]:.0f} and {carried[1]:.0f} N of {weight:.0f}.")
    load = np.abs(data.actuator_force) / [joint.torque_nm for joint in robot.joints]
    if load.max() > 0.6:
        wrong.append(f"{robot.joint_names[int(load.argmax())]} needs {load.max():.0%} of its torque to stand.")
    return wrong


def rest(robot: LeggedRobot, **options: Any) -> list[str]:
    """Held by its base and let go up to 0.1 rad from home, no joint swings up and all are at rest within 5 s."""
    spec = build_spec(robot, visuals=False, **options)
    for joint in list(spec.joints):
        if joint.type == mujoco.mjtJoint.mjJNT_FREE:
            spec.delete(joint)
    model = spec.compile()
    data = mujoco.MjData(model)
    generator = np.random.default_rng(0)
    for row in robot.joints:
        data.joint(row.name).qpos = np.clip(row.home_rad + generator.uniform(-0.1, 0.1), *row.limits_rad)
    data.ctrl[:] = home_angles(robot)
    fastest = []
    for _ in range(5):
        peak = 0.0
        for _ in range(round(1 / model.opt.timestep)):
            mujoco.mj_step(model, data)
            peak = max(peak, float(np.abs(data.qvel).max()))
        fastest.append(peak)
    shown = ", ".join(f"{peak:.2g}" for peak in fastest)
    if not fastest[-1] < 1e-3:
        return [f"joints do not come to rest: fastest in each second {shown} rad/s."]
    if any(later > 1.01 * earlier + 1e-6 for earlier, later in pairwise(fastest)):
        return [f"joints swing up: fastest in each second {shown} rad/s."]
    return []


CHECKS: dict[str, Callable[[LeggedRobot], list[str]]] = {
    "table": table,
    "bodies": bodies,
    "limits": limits,
    "home": home,
    "standing": standing,
    "rest": rest,
}
"""Name -> check."""
