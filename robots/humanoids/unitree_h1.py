"""Unitree H1: 19 joints, 51 kg, 1.8 m, one motor in each ankle.

Order, limits and peak torques are the Menagerie's; bus ids those of Unitree's SDK (``JointIndex`` of
unitreerobotics/unitree_sdk2, ``h1_arm_sdk_dds_example.cpp``; 9 is not used). The URDF of unitree_ros that we read lets
the hips pitch from -3.14 to 2.53 rad; the Menagerie's narrower limits stand here.

We know of no published rotor inertias: 0.1 kg m^2 is the Menagerie's, and what follows from it is no better. Legs and
torso get 15 Hz and a damping ratio of 1.5, which is 888 N m/rad (MuJoCo Playground's ``h1_mjx_feetonly.xml`` has 800 in
the legs, its ``h1_mjx.xml`` 200 to 300 and 40 in the ankles); the arms 10 Hz and 1. The policy that Unitree ships runs
on 150 N m/rad, 200 in the knees and 40 in the ankles (unitree_rl_gym, ``deploy_mujoco/configs/h1.yaml``), on which the
robot cannot stand without a policy: m g h is 51 kg * 9.81 m/s^2 * 0.97 m = 490 N m/rad.
"""

from __future__ import annotations

from cadenza.robots.description import Foot, Imu, Joint, LeggedRobot
from cadenza.robots.motors import joint


def _row(bus_id: int, name: str, part: str, low: float, high: float, home: float = 0.0) -> Joint:
    frequency_hz, damping_ratio = (10.0, 1.0) if bus_id > 11 else (15.0, 1.5)
    return joint(
        name,
        f"Unitree H1 {part}",
        bus_id,
        (low, high),
        home_rad=home,
        natural_frequency_hz=frequency_hz,
        damping_ratio=damping_ratio,
    )


# Id, name, motor, limits [rad], home [rad].
_JOINTS = (
    _row(7, "left_hip_yaw", "hip", -0.43, 0.43),
    _row(3, "left_hip_roll", "hip", -0.43, 0.43),
    _row(4, "left_hip_pitch", "hip", -1.57, 1.57, -0.158),
    _row(5, "left_knee", "knee", -0.26, 2.05, 0.5),
    _row(10, "left_ankle", "ankle", -0.87, 0.52, -0.342),
    _row(8, "right_hip_yaw", "hip", -0.43, 0.43),
    _row(0, "right_hip_roll", "hip", -0.43, 0.43),
    _row(1, "right_hip_pitch", "hip", -1.57, 1.57, -0.158),
    _row(2, "right_knee", "knee", -0.26, 2.05, 0.5),
    _row(11, "right_ankle", "ankle", -0.87, 0.52, -0.342),
    _row(6, "torso", "hip", -2.35, 2.35),
    _row(16, "left_shoulder_pitch", "shoulder", -2.87, 2.87),
    _row(17, "left_shoulder_roll", "shoulder", -0.34, 3.11),
    _row(18, "left_shoulder_yaw", "elbow", -1.3, 4.45),
    _row(19, "left_elbow", "elbow", -1.25, 2.61),
    _row(12, "right_shoulder_pitch", "shoulder", -2.87, 2.87),
    _row(13, "right_shoulder_roll", "shoulder", -3.11, 0.34),
    _row(14, "right_shoulder_yaw", "elbow", -4.45, 1.3),
    _row(15, "right_elbow", "elbow", -1.25, 2.61),
)

ROBOT = LeggedRobot(
    name="unitree_h1",
    prefix="H1",
    title="Unitree H1",
    menagerie="unitree_h1",
    licence="BSD-3-Clause",
    mass_kg=51.437,
    joints=_JOINTS,
    base="pelvis",
    # The soles are three capsules each; this is the middle of what touches flat ground.
    feet=(
        Foot("left", "left_ankle_link", (0.0525, 0.0, -0.07)),
        Foot("right", "right_ankle_link", (0.0525, 0.0, -0.07)),
    ),
    imu=Imu("torso_link", (-0.04452, -0.01891, 0.27756)),
    action_scale=0.3,
    physics_dt_s=0.004,
    gait_period_s=0.9,
    clearance_m=0.1,
    speed_m_s=0.6,
)
