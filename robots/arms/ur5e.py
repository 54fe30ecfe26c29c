"""Universal Robots UR5e with a Robotiq 2F-85: 6 joints and an adaptive gripper, 22.0 kg.

Limits. +-360 deg, the elbow +-180 deg in the model; 180 deg/s for every joint (UR5e technical specification, at second
hand). Torques of 150 N m (size 3 joints) and 28 N m (size 1) are the Menagerie's, as Universal Robots' support article
"Max. joint torques" has them.

Gains. kp and kd are the Menagerie's (2000/400 and 500/100). Its armature of 0.1 kg m^2 for every joint is a round
figure. Friction is not known and left at 0.

Gripper. The Menagerie's four-bar linkage, attached to the flange, with its drive in radians: 100 N m/rad, 10 N m s/rad,
at most 5 N m. Opening 0 to 85 mm, 20 to 150 mm/s and 20 to 235 N by Robotiq's manual; ours closes at 100 mm/s.

Home: the TCP 0.51 m before the base and 33 cm high, pointing down, elbow up. The Menagerie turns the base by 180
degrees about z; here it stands unturned, so that the arm reaches towards +x.
"""

from __future__ import annotations

from cadenza.robots.arm_description import ArmRobot, Finger, Frame, Gripper, GripperDrive, Tool
from cadenza.robots.description import Joint
from cadenza.robots.motors import add_motors, degrees, drive, joint

_SOURCE = (
    "Peak torque: Universal Robots' article on joint torques and the Menagerie's UR5e. Speed: the limit of the data "
    "sheet, 180 deg/s, not the motor's speed without load. Armature: the Menagerie's round figure. Friction 0: not "
    "known. Supply: 48 V is assumed; nothing depends on it."
)
_SUPPLY = (48.0, 48.0, 48.0)
add_motors(
    drive("UR size 3", 150.0, degrees(180, 180)[0], 0.1, 0.0, _SUPPLY, _SOURCE),
    drive("UR size 1", 28.0, degrees(180, 180)[0], 0.1, 0.0, _SUPPLY, _SOURCE),
)


def _row(bus_id: int, name: str, limit_rad: float, home_rad: float) -> Joint:
    motor, kp = ("UR size 3", 2000) if bus_id <= 3 else ("UR size 1", 500)
    limits_rad = (-limit_rad, limit_rad)
    return joint(f"{name}_joint", motor, bus_id, limits_rad, home_rad=home_rad, kp=kp, kd=kp / 5)


ROBOT = ArmRobot(
    name="ur5e",
    prefix="UR5e",
    title="UR5e with Robotiq 2F-85",
    menagerie="universal_robots_ur5e",
    licence="BSD-3-Clause",
    mass_kg=22.047508,
    # Joint limit and home in rad.
    joints=(
        _row(1, "shoulder_pan", 6.28319, -0.2659),
        _row(2, "shoulder_lift", 6.28319, -1.5708),
        _row(3, "elbow", 3.1415, 1.5708),
        _row(4, "wrist_1", 6.28319, -1.5708),
        _row(5, "wrist_2", 6.28319, -1.5708),
        _row(6, "wrist_3", 6.28319, -0.2659),
    ),
    base="base",
    # Of the model's site `pinch`, which is between the pads.
    tcp=Frame("2f85_base", (0.0, 0.0, 0.145)),
    gripper=Gripper(
        name="Robotiq 2F-85",
        joints=("2f85_right_driver_joint", "2f85_left_driver_joint"),
        closed=0.8,
        open=0.0,
        width_m=(0.0, 0.085),
        speed=0.94,
        fingers=(
            Finger("left", "2f85_left_pad", (0.0, -0.0066, 0.01875)),
            Finger("right", "2f85_right_pad", (0.0, -0.0066, 0.01875)),
        ),
        drive=GripperDrive(kp=100.0, kd=10.0, force=5.0, source="the Menagerie's 2F-85, its 0 to 255 turned into rad"),
    ),
    tool_body="2f85_base_mount",
    tool_mass_kg=1.052608,
    reach_m=1.09,
    physics_dt_s=0.004,
    compensates_gravity=True,
    tool=Tool("robotiq_2f85", "BSD-2-Clause", site="attachment_site", prefix="2f85_"),
    impratio=10.0,
)
