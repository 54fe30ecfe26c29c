"""Berkeley Humanoid: two legs of six joints under a trunk, 16 kg, 0.85 m.

Order, limits and peak torques are the Menagerie's; we know of no bus ids, so they count from 1. Motor data are the
makers' (HybridRobotics/isaac_berkeley_humanoid); their knee has twice the armature that the model gives it.

Gains: the makers train with 10 to 15 N m/rad in hips and knees and 1 in the ankles, where static friction of 1 N m does
much of the work and only a policy keeps the robot up. Here the rotors get 20 Hz at a damping ratio of 1, 88 N m/rad in
the ankles' pitch, on which it stands: m g h is 16 kg * 9.81 m/s^2 * 0.43 m = 68 N m/rad.
"""

from __future__ import annotations

from cadenza.robots.description import Foot, Imu, Joint, LeggedRobot
from cadenza.robots.motors import joint


def _row(bus_id: int, name: str, part: str, low: float, high: float, home: float = 0.0) -> Joint:
    return joint(
        name,
        f"Berkeley {part}",
        bus_id,
        (low, high),
        home_rad=home,
        natural_frequency_hz=20.0,
        damping_ratio=1.0,
    )


# Id, name, motor, limits [rad], home [rad].
_JOINTS = (
    _row(1, "LL_HR", "HXX", -0.610865, 0.610865, -0.071),
    _row(2, "LL_HAA", "HXX", -0.610865, 0.610865, 0.103),
    _row(3, "LL_HFE", "HFE", -1.74533, 0.523599, -0.403),
    _row(4, "LL_KFE", "KFE", 0.0, 2.0944, 0.983),
    _row(5, "LL_FFE", "FFE", -0.523599, 0.698132, -0.41),
    _row(6, "LL_FAA", "FAA", -0.523599, 0.523599, 0.126),
    _row(7, "LR_HR", "HXX", -0.610865, 0.610865, 0.071),
    _row(8, "LR_HAA", "HXX", -0.610865, 0.610865, -0.103),
    _row(9, "LR_HFE", "HFE", -1.74533, 0.523599, -0.403),
    _row(10, "LR_KFE", "KFE", 0.0, 2.0944, 0.983),
    _row(11, "LR_FFE", "FFE", -0.523599, 0.698132, -0.41),
    _row(12, "LR_FAA", "FAA", -0.523599, 0.523599, -0.126),
)

ROBOT = LeggedRobot(
    name="berkeley_humanoid",
    prefix="Berkeley",
    title="Berkeley Humanoid",
    menagerie="berkeley_humanoid",
    licence="BSD-3-Clause",
    mass_kg=16.0567651,
    joints=_JOINTS,
    base="torso",
    feet=(Foot("left", "ll_faa", (0.0, -0.048689, 0.014485)), Foot("right", "lr_faa", (0.0, -0.048689, 0.014485))),
    imu=Imu("torso"),
    action_scale=0.3,
    physics_dt_s=0.004,
    gait_period_s=0.6,
    clearance_m=0.05,
    speed_m_s=0.4,
)
