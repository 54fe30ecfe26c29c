"""Gymnasium's humanoid (``humanoid.xml`` of its MuJoCo tasks) as data.

The model is read from the installed Gymnasium, not copied here; ``tests/robots/test_gym_humanoid.py`` compiles it and
holds it to the table. The asymmetries (``right_hip_y``'s armature, ``right_knee``'s stiffness) are the model's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources

import mujoco

CTRL_LIMIT = 0.4
"""``ctrl`` of every motor is clamped to +-0.4; the torque is ``ctrl * gear``."""


@dataclass(frozen=True)
class Joint:
    """One hinge and its torque motor."""

    name: str
    limits_rad: tuple[float, float]
    """Range of the joint angle."""
    torque_nm: float
    """Largest torque of the motor: gear * 0.4."""
    armature: float
    """Rotor inertia seen at the joint, kg m^2."""
    damping: float
    """N m s/rad."""
    stiffness: float
    """Of the spring towards angle 0, N m/rad."""


def _joint(
    name: str, limits_deg: tuple[float, float], gear: float, armature: float, damping: float, stiffness: float
) -> Joint:
    limits_rad = (math.radians(limits_deg[0]), math.radians(limits_deg[1]))
    return Joint(name, limits_rad, gear * CTRL_LIMIT, armature, damping, stiffness)


# Columns: name, limits in degrees, gear, armature, damping, stiffness.
JOINTS: tuple[Joint, ...] = (
    _joint("abdomen_z", (-45, 45), 100, 0.02, 5, 20),
    _joint("abdomen_y", (-75, 30), 100, 0.02, 5, 10),
    _joint("abdomen_x", (-35, 35), 100, 0.02, 5, 10),
    _joint("right_hip_x", (-25, 5), 100, 0.01, 5, 10),
    _joint("right_hip_z", (-60, 35), 100, 0.01, 5, 10),
    _joint("right_hip_y", (-110, 20), 300, 0.008, 5, 20),
    _joint("right_knee", (-160, -2), 200, 0.006, 1, 0),
    _joint("left_hip_x", (-25, 5), 100, 0.01, 5, 10),
    _joint("left_hip_z", (-60, 35), 100, 0.01, 5, 10),
    _joint("left_hip_y", (-110, 20), 300, 0.01, 5, 20),
    _joint("left_knee", (-160, -2), 200, 0.006, 1, 1),
    _joint("right_shoulder1", (-85, 60), 25, 0.0068, 1, 1),
    _joint("right_shoulder2", (-85, 60), 25, 0.0051, 1, 1),
    _joint("right_elbow", (-90, 50), 25, 0.0028, 1, 0),
    _joint("left_shoulder1", (-60, 85), 25, 0.0068, 1, 1),
    _joint("left_shoulder2", (-60, 85), 25, 0.0051, 1, 1),
    _joint("left_elbow", (-90, 50), 25, 0.0028, 1, 0),
)
"""The joint table, in the order of ``qpos[7:]`` and ``qvel[6:]``."""

# The model lists its motors in the order of the joints, but for the first two.
ACTUATORS: tuple[str, ...] = ("abdomen_y", "abdomen_z", *(joint.name for joint in JOINTS[2:]))
"""Joint names in the order of ``ctrl``, and so of an action."""


def build_spec() -> mujoco.MjSpec:
    """The model of the installed Gymnasium."""
    xml = resources.files("gymnasium").joinpath("envs/mujoco/assets/humanoid.xml").read_text(encoding="utf-8")
    return mujoco.MjSpec.from_string(xml)
