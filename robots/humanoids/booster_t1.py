"""Booster T1: 23 joints, 32 kg, 1.2 m.

Order, limits and peak torques are the Menagerie's; bus ids those of Booster's SDK (``JointIndex``, 0 to 22, the same
order). Its 15, 16, 21 and 22 are the ankles' upper and lower cranks; that pitch and roll are addressed by these numbers
is assumed. Armatures and speeds are Booster's own (BoosterRobotics/booster_train, read in others' copies); all but the
head's armatures are 6 to 14 times the model's 0.005 kg m^2. With them 10 Hz and a damping ratio of 2 give 190 to 250
N m/rad in hips and knees, close to the 200 that Booster trains with, and 270 in the ankles, where Booster has 50. Two
motors move each ankle through rods, hence the ankles' doubled armature. The head's light rotors get 20 Hz and 1.
"""

from __future__ import annotations

from cadenza.robots.description import Foot, Imu, Joint, LeggedRobot
from cadenza.robots.motors import joint


def _row(bus_id: int, name: str, part: str, low: float, high: float, home: float = 0.0) -> Joint:
    frequency_hz, damping_ratio = (20.0, 1.0) if part == "head" else (10.0, 2.0)
    # The rods give an ankle's roll less torque and speed than its pitch.
    roll = "Ankle_Roll" in name
    return joint(
        name,
        f"Booster {part}",
        bus_id,
        (low, high),
        home_rad=home,
        torque_nm=15.0 if roll else None,
        velocity_rad_s=12.4 if roll else None,
        natural_frequency_hz=frequency_hz,
        damping_ratio=damping_ratio,
    )


# Id, name, motor, limits [rad], home [rad].
_JOINTS = (
    _row(0, "AAHead_yaw", "head", -1.57, 1.57),
    _row(1, "Head_pitch", "head", -0.35, 1.22),
    _row(2, "Left_Shoulder_Pitch", "4310", -3.31, 1.22, 0.2),
    _row(3, "Left_Shoulder_Roll", "4310", -1.74, 1.57, -1.35),
    _row(4, "Left_Elbow_Pitch", "4310", -2.27, 2.27),
    _row(5, "Left_Elbow_Yaw", "4310", -2.44, 0.0, -0.5),
    _row(6, "Right_Shoulder_Pitch", "4310", -3.31, 1.22, 0.2),
    _row(7, "Right_Shoulder_Roll", "4310", -1.57, 1.74, 1.35),
    _row(8, "Right_Elbow_Pitch", "4310", -2.27, 2.27),
    _row(9, "Right_Elbow_Yaw", "4310", 0.0, 2.44, 0.5),
    _row(10, "Waist", "6408", -1.57, 1.57),
    _row(11, "Left_Hip_Pitch", "8112", -1.8, 1.57, -0.288),
    _row(12, "Left_Hip_Roll", "6408", -0.2, 1.57),
    _row(13, "Left_Hip_Yaw", "6408", -1.0, 1.0),
    _row(14, "Left_Knee_Pitch", "8116", 0.0, 2.34, 0.5),
    _row(15, "Left_Ankle_Pitch", "2x4315", -0.87, 0.35, -0.212),
    _row(16, "Left_Ankle_Roll", "2x4315", -0.44, 0.44),
    _row(17, "Right_Hip_Pitch", "8112", -1.8, 1.57, -0.288),
    _row(18, "Right_Hip_Roll", "6408", -1.57, 0.2),
    _row(19, "Right_Hip_Yaw", "6408", -1.0, 1.0),
    _row(20, "Right_Knee_Pitch", "8116", 0.0, 2.34, 0.5),
    _row(21, "Right_Ankle_Pitch", "2x4315", -0.87, 0.35, -0.212),
    _row(22, "Right_Ankle_Roll", "2x4315", -0.44, 0.44),
)

ROBOT = LeggedRobot(
    name="booster_t1",
    prefix="T1",
    title="Booster T1",
    menagerie="booster_t1",
    licence="Apache-2.0",
    mass_kg=31.614357,
    joints=_JOINTS,
    base="Trunk",
    feet=(Foot("left", "left_foot_link", (0.01, 0.0, -0.03)), Foot("right", "right_foot_link", (0.01, 0.0, -0.03))),
    imu=Imu("Trunk"),
    action_scale=0.3,
    physics_dt_s=0.004,
    gait_period_s=0.7,
    clearance_m=0.06,
    speed_m_s=0.4,
)
