"""Unitree G1 with 29 joints, 33 kg, 1.3 m.

Order and bus ids are those of Unitree's SDK (``G1JointIndex``, 0 to 28, ``g1_29dof_example.cpp``), which the model
shares; in the ankles and the waist they mean pitch and roll in the SDK's mode PR only. Limits and peak torques are the
Menagerie's. The armatures come from the rotors (robots/motors.py), not from the model's 0.01 kg m^2.

Gains follow from the rotors too, but stiffer than mjlab's 10 Hz: with 28 N m/rad in each ankle the robot falls unless a
policy balances it all the time, for to stand by itself it needs more than m g h = 33 kg * 9.81 m/s^2 * 0.67 m = 220
N m/rad in its two ankles together. Here legs and waist get 20 Hz and the ankles 30 Hz (257 N m/rad each) at a damping
ratio of 1; the arms keep mjlab's 10 Hz and 2.
"""

from __future__ import annotations

from cadenza.robots.description import Foot, Imu, Joint, LeggedRobot
from cadenza.robots.motors import joint

_SMALL, _PAIR, _HIP, _KNEE, _WRIST = (
    "Unitree 5020",
    "Unitree 2x5020",
    "Unitree 7520-14",
    "Unitree 7520-22",
    "Unitree 4010",
)


def _row(bus_id: int, name: str, motor: str, low: float, high: float, home: float = 0.0) -> Joint:
    frequency_hz, damping_ratio = (10.0, 2.0) if bus_id > 14 else (30.0, 1.0) if "ankle" in name else (20.0, 1.0)
    return joint(
        f"{name}_joint",
        motor,
        bus_id,
        (low, high),
        home_rad=home,
        natural_frequency_hz=frequency_hz,
        damping_ratio=damping_ratio,
    )


# Id, name, motor, limits [rad], home [rad].
_JOINTS = (
    _row(0, "left_hip_pitch", _HIP, -2.5307, 2.8798, -0.264),
    _row(1, "left_hip_roll", _KNEE, -0.5236, 2.9671),
    _row(2, "left_hip_yaw", _HIP, -2.7576, 2.7576),
    _row(3, "left_knee", _KNEE, -0.087267, 2.8798, 0.6),
    _row(4, "left_ankle_pitch", _PAIR, -0.87267, 0.5236, -0.336),
    _row(5, "left_ankle_roll", _PAIR, -0.2618, 0.2618),
    _row(6, "right_hip_pitch", _HIP, -2.5307, 2.8798, -0.264),
    _row(7, "right_hip_roll", _KNEE, -2.9671, 0.5236),
    _row(8, "right_hip_yaw", _HIP, -2.7576, 2.7576),
    _row(9, "right_knee", _KNEE, -0.087267, 2.8798, 0.6),
    _row(10, "right_ankle_pitch", _PAIR, -0.87267, 0.5236, -0.336),
    _row(11, "right_ankle_roll", _PAIR, -0.2618, 0.2618),
    _row(12, "waist_yaw", _HIP, -2.618, 2.618),
    _row(13, "waist_roll", _PAIR, -0.52, 0.52),
    _row(14, "waist_pitch", _PAIR, -0.52, 0.52),
    _row(15, "left_shoulder_pitch", _SMALL, -3.0892, 2.6704, 0.2),
    _row(16, "left_shoulder_roll", _SMALL, -1.5882, 2.2515, 0.2),
    _row(17, "left_shoulder_yaw", _SMALL, -2.618, 2.618),
    _row(18, "left_elbow", _SMALL, -1.0472, 2.0944, 0.9),
    _row(19, "left_wrist_roll", _SMALL, -1.97222, 1.97222),
    _row(20, "left_wrist_pitch", _WRIST, -1.61443, 1.61443),
    _row(21, "left_wrist_yaw", _WRIST, -1.61443, 1.61443),
    _row(22, "right_shoulder_pitch", _SMALL, -3.0892, 2.6704, 0.2),
    _row(23, "right_shoulder_roll", _SMALL, -2.2515, 1.5882, -0.2),
    _row(24, "right_shoulder_yaw", _SMALL, -2.618, 2.618),
    _row(25, "right_elbow", _SMALL, -1.0472, 2.0944, 0.9),
    _row(26, "right_wrist_roll", _SMALL, -1.97222, 1.97222),
    _row(27, "right_wrist_pitch", _WRIST, -1.61443, 1.61443),
    _row(28, "right_wrist_yaw", _WRIST, -1.61443, 1.61443),
)

ROBOT = LeggedRobot(
    name="unitree_g1",
    prefix="G1",
    title="Unitree G1",
    menagerie="unitree_g1",
    licence="BSD-3-Clause",
    mass_kg=33.341142,
    joints=_JOINTS,
    base="pelvis",
    # Middle of the four spheres of 5 mm under each foot.
    feet=(
        Foot("left", "left_ankle_roll_link", (0.035, 0.0, -0.035)),
        Foot("right", "right_ankle_roll_link", (0.035, 0.0, -0.035)),
    ),
    imu=Imu("pelvis", (0.04525, 0.0, -0.08339)),
    action_scale=0.4,
    physics_dt_s=0.004,
    gait_period_s=0.8,
    clearance_m=0.08,
    speed_m_s=0.5,
)
