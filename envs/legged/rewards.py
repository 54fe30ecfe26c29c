"""Reward terms that several tasks share: pure functions of the signals, each in [0, 1], shape (n,).

Rewards among them are 1 when all is well; penalties are 0 then, and carry a negative weight in a task's configuration.
Quantities are compared with the robot's own (its torque limits, its weight, its height), so that one set of weights
fits robots of 3 and of 50 kg.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.legged.signals import Signals
from cadenza.envs.legged.terms import bell, norm_bell, share

Array = NDArray[np.float64]
GRAVITY_M_S2 = 9.81


# --- what a robot is for ------------------------------------------------------------------------------------------


def velocity_tracking(s: Signals, width_m_s: float) -> Array:
    """Forward and sideways velocity as commanded."""
    return norm_bell(s.base_velocity[:, :2] - s.command[:, :2], width_m_s)


def yaw_tracking(s: Signals, width_rad_s: float) -> Array:
    """Yaw rate as commanded."""
    return bell(s.base_rotation[:, 2] - s.command[:, 2], width_rad_s)


def upright(s: Signals) -> Array:
    """1 upright, 0 from lying on."""
    return np.clip(s.up, 0.0, 1.0)


def height(s: Signals, width_share: float) -> Array:
    """Base as high as in the home pose."""
    return bell(s.height - s.home_height, width_share * s.home_height)


def home_pose(s: Signals, width_rad: float) -> Array:
    """All joints near home."""
    return np.exp(-np.square(s.angle - s.home).mean(axis=1) / width_rad**2)


def balance(s: Signals, width_share: float) -> Array:
    """The point where the base would come to rest over one foot (its extrapolated position) between the feet.

    That point is the base's position plus its velocity over sqrt(g / height), Hof 2008 ("The extrapolated center of
    mass concept suggests a simple control of balance in walking"), with the base for the centre of mass. A push throws
    it beyond the feet, where only a step brings them under it again. The width is a share of the home height.
    """
    thrown = s.base_velocity[:, :2] * np.sqrt(s.home_height / GRAVITY_M_S2)
    return norm_bell(thrown - (s.feet_ahead - s.home_feet_ahead), width_share * s.home_height)


# --- how it is to walk --------------------------------------------------------------------------------------------


def stance_expected(phase: Array, duty: float) -> Array:
    """Which feet a gait has on the ground, 1 or 0, (n, 2): left from phase 0 on, right half a cycle later."""
    both = np.stack([phase, (phase + 0.5) % 1.0], axis=1)
    return (both < duty).astype(np.float64)


def gait_contact(s: Signals, duty: float) -> Array:
    """Share of the feet that are where the phase wants them; at a zero command both belong on the ground."""
    expected = np.where(s.moves[:, None] > 0, stance_expected(s.phase, duty), 1.0)
    return (s.foot_contact == expected).mean(axis=1)


def swing_height(phase: Array, duty: float, top_m: float) -> Array:
    """How high each sole should be, m, (n, 2): a half sine over its swing."""
    both = np.stack([phase, (phase + 0.5) % 1.0], axis=1)
    through = np.clip((both - duty) / (1.0 - duty), 0.0, 1.0)
    return top_m * np.sin(np.pi * through)


def clearance(s: Signals, duty: float, top_m: float) -> Array:
    """Soles follow the swing's half sine."""
    wanted = np.where(s.moves[:, None] > 0, swing_height(s.phase, duty, top_m), 0.0)
    return np.exp(-np.square(s.foot_height - wanted).sum(axis=1) / (0.5 * top_m) ** 2)


def foot_slip(s: Signals, most_m_s: float) -> Array:
    """Speed of soles along the ground while they touch it."""
    speed = np.sqrt(np.square(s.foot_velocity[:, :, :2]).sum(axis=2))
    return share((speed * s.foot_contact).sum(axis=1), most_m_s)


# --- what it should spare -----------------------------------------------------------------------------------------


def vertical_velocity(s: Signals, most_m_s: float) -> Array:
    """Squared, of the base."""
    return share(np.square(s.base_velocity[:, 2]), most_m_s**2)


def roll_pitch_rate(s: Signals, most_rad_s: float) -> Array:
    """Squared, of the base."""
    return share(np.square(s.base_rotation[:, :2]).sum(axis=1), most_rad_s**2)


def tilt(s: Signals) -> Array:
    """Squared sine of the base's tilt."""
    return share(np.square(s.tilt_gravity[:, :2]).sum(axis=1), 1.0)


def torque(s: Signals) -> Array:
    """Mean squared torque over its limit."""
    return share(np.square(s.torque / s.torque_limit).mean(axis=1), 1.0)


def action_rate(s: Signals) -> Array:
    """Mean squared first and second difference of the action; 1 at differences of 1."""
    first = s.action - s.last_action
    second = s.action - 2.0 * s.last_action + s.action_before_last
    return share((np.square(first) + np.square(second)).mean(axis=1), 1.0)


def joint_limits(s: Signals, margin_rad: float) -> Array:
    """How far joints have come into the last ``margin_rad`` before their limits, the worst one."""
    low, high = s.limits[:, 0], s.limits[:, 1]
    into = np.maximum(low + margin_rad - s.angle, s.angle - (high - margin_rad))
    return share(np.maximum(into, 0.0).max(axis=1), margin_rad)


def pose_deviation(s: Signals, joints: NDArray[np.intp], most_rad: float) -> Array:
    """Mean squared deviation of some joints from home; 0 without any."""
    if not len(joints):
        return np.zeros(s.count)
    # take, as indexing with [:, joints] lays the result out by columns, and sums over them in another order.
    return share(np.square(np.take(s.angle, joints, axis=1) - s.home[joints]).mean(axis=1), most_rad**2)


def hard_landing(s: Signals) -> Array:
    """Force under the feet beyond twice the weight, as a share of another two weights."""
    return share(np.maximum(s.foot_force.max(axis=1) - 2.0 * s.weight_n, 0.0), 2.0 * s.weight_n)


def joint_motion(s: Signals, most_rad_s: float) -> Array:
    """Mean squared joint velocity."""
    return share(np.square(s.velocity).mean(axis=1), most_rad_s**2)
