"""Steps from a model to a robot of ours that legged robots and arms share. They change a ``MjSpec`` in place."""

from __future__ import annotations

from pathlib import PurePath

import mujoco
import numpy as np

from cadenza.robots.actuators import actuation
from cadenza.robots.description import ActuatorKind, Joint, TableRobot

_DEFAULTS = {
    "geom": (
        *("type", "contype", "conaffinity", "condim", "priority", "group", "friction", "solmix", "solref", "solimp"),
        *("margin", "gap", "rgba", "material"),
    ),
    "joint": ("armature", "damping", "frictionloss", "stiffness", "range", "limited", "axis", "actfrclimited"),
    "site": ("type", "group", "size", "rgba", "material"),
}
"""Attributes whose defaults a model may have changed."""


def strip(spec: mujoco.MjSpec, sites: tuple[str, ...] = ()) -> None:
    """Remove what the joint table or the environment decides: key frames, actuators, sensors, lights, named sites.

    Args:
        spec: the model.
        sites: names that we give to sites of our own; the model's may sit elsewhere.
    """
    for kind in (spec.keys, spec.actuators, spec.sensors, spec.lights):
        for element in list(kind):
            spec.delete(element)
    for site in list(spec.sites):
        if site.name in sites:
            spec.delete(site)
    # Elements were given their defaults when the model was read; what an environment adds is to start from MuJoCo's
    # own, not from, say, a model's "no geom collides".
    fresh = mujoco.MjSpec().default
    for kind in ("geom", "joint", "site"):
        ours, plain = getattr(spec.default, kind), getattr(fresh, kind)
        for name in _DEFAULTS[kind]:
            setattr(ours, name, getattr(plain, name))


def set_joint(joint: mujoco.MjsJoint, row: Joint, kind: ActuatorKind | None = None) -> None:
    """Give a joint of the model the numbers of its row."""
    joint.range = row.limits_rad
    joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
    joint.actfrclimited = mujoco.mjtLimited.mjLIMITED_FALSE
    joint.armature = row.armature
    joint.frictionloss = row.friction_nm
    set_first(joint, "damping", actuation(row, kind).damping)
    set_first(joint, "stiffness", 0.0)


def set_first(joint: mujoco.MjsJoint, name: str, value: float) -> None:
    """Set a coefficient that newer versions of MuJoCo keep as a polynomial and older ones as one number."""
    if isinstance(getattr(joint, name), np.ndarray):
        getattr(joint, name)[:] = (value, *[0.0] * (len(getattr(joint, name)) - 1))
    else:
        setattr(joint, name, value)


def body_of(spec: mujoco.MjSpec, robot: TableRobot, name: str) -> mujoco.MjsBody:
    """The body of that name.

    Raises:
        ValueError: there is none; the message lists those that exist.
    """
    body = spec.body(name)
    if body is None:
        names = ", ".join(body.name for body in spec.bodies)
        raise ValueError(f"{robot.title}: the model {robot.menagerie} has no body {name!r}; there are: {names}.")
    return body


def drop_geom(spec: mujoco.MjSpec, geom: mujoco.MjsGeom) -> None:
    """Remove a geom; where the body's inertia comes from its geoms, only keep it from touching anything."""
    if geom.parent.explicitinertial:
        spec.delete(geom)
    else:
        geom.contype = geom.conaffinity = 0


def drop_unused_meshes(spec: mujoco.MjSpec) -> None:
    """Remove meshes that no geom shows or touches with."""
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        # A mesh without a name is called like its file, and so is what geoms refer to.
        if (mesh.name or PurePath(mesh.file).stem) not in used:
            spec.delete(mesh)
