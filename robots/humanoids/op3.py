"""ROBOTIS OP3: 20 XM430-W350 servos on one bus, 3.1 kg, 0.51 m.

The table stands in the order of the bus ids (ROBOTIS-GIT/ROBOTIS-OP3, ``op3_manager/config/OP3.robot``), which is not
that of the model.

Limits. ROBOTIS publishes motion ranges at the motor's output axis, clockwise positive (its Japanese support, as this
project's notes give it; that page itself was not read again). A DYNAMIXEL's position grows counter-clockwise. The
joints of the model take their axes from ROBOTIS's URDF, where we assume that a servo's growing position is the positive
direction: the published range of a right joint is then the model's with both signs turned round, and left is the mirror
image of right. Read so, the thigh swings 135 deg forward and 28 back, the knee folds 148 deg, the shank leans 110 deg
over the toes, and the hips open 90 deg outward and 45 inward; the hulls of the model's brackets collide first in the
same directions. Read the other way round the thigh would swing 135 deg back. No source confirms the signs of every
joint; where the two readings cannot be told apart (shoulder roll, head tilt) the table holds the range that both allow.

Gains. 21.1 N m/rad is the Menagerie's, with armature 0.045 kg m^2, friction 0.03 N m and damping 1.084 N m s/rad.
Others quote these numbers, with a peak torque of 4.1 N m, as what Haarnoja et al. (2023) identified on an OP3 servo;
we have not read them in the paper. The servo as delivered (Position P Gain 800) has 18.9 at 12 V if the units of its
loop are what robots/motors.py assumes; 21.1 is then what a gain of 894 has, or 800 at 13.4 V: the two agree within
12 %. An identified damping would hold the gear's viscous friction too; the table's is the back-EMF of the data sheet,
4.1 N m / 46 rpm = 0.851. The peak torque is the data sheet's 4.1 N m; the Menagerie's model allows 5.
"""

from __future__ import annotations

from cadenza.robots.description import Foot, Imu, Joint, LeggedRobot
from cadenza.robots.motors import degrees, joint

_KP = 21.1


def _row(bus_id: int, name: str, low_deg: float, high_deg: float, home_deg: float = 0.0) -> Joint:
    home_rad = degrees(home_deg, home_deg)[0]
    return joint(name, "XM430-W350", bus_id, degrees(low_deg, high_deg), home_rad=home_rad, kp=_KP)


# Bus id, name, limits and home pose in degrees.
_JOINTS = (
    _row(1, "r_sho_pitch", -179, 179),
    _row(2, "l_sho_pitch", -179, 179),
    _row(3, "r_sho_roll", -100, 100, -60),
    _row(4, "l_sho_roll", -100, 100, 60),
    _row(5, "r_el", -135, 135, 20),
    _row(6, "l_el", -135, 135, -20),
    _row(7, "r_hip_yaw", -45, 90),
    _row(8, "l_hip_yaw", -90, 45),
    _row(9, "r_hip_roll", -45, 90),
    _row(10, "l_hip_roll", -90, 45),
    _row(11, "r_hip_pitch", -28, 135, 31),
    _row(12, "l_hip_pitch", -135, 28, -31),
    _row(13, "r_knee", -148, 135, -66),
    _row(14, "l_knee", -135, 148, 66),
    _row(15, "r_ank_pitch", -110, 28, -35),
    _row(16, "l_ank_pitch", -28, 110, 35),
    _row(17, "r_ank_roll", -90, 80),
    _row(18, "l_ank_roll", -80, 90),
    _row(19, "head_pan", -135, 135),
    _row(20, "head_tilt", -90, 90),
)

ROBOT = LeggedRobot(
    name="op3",
    prefix="OP3",
    title="ROBOTIS OP3",
    menagerie="robotis_op3",
    licence="Apache-2.0",
    mass_kg=3.14747,
    joints=_JOINTS,
    base="body_link",
    # The soles are the lower faces of the boxes under ll6 and rl6.
    feet=(
        Foot("left", "l_ank_roll_link", (0.024, 0.0125, -0.0305)),
        Foot("right", "r_ank_roll_link", (0.024, -0.0125, -0.0305)),
    ),
    # The OpenCR board sits in the trunk; the model marks no place, so this is its origin with its axes.
    imu=Imu("body_link"),
    action_scale=0.3,
    physics_dt_s=0.004,
    gait_period_s=0.6,
    clearance_m=0.03,
    speed_m_s=0.2,
    notes="The IMU's place and axes on the real robot are not verified.",
)
