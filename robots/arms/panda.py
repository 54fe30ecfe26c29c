"""Franka Emika Panda: 7 joints and the Franka Hand, 17.5 kg in the model.

Limits. Angles are the Menagerie's, which are Franka's of the FCI documentation ("Robot and interface specifications",
limits for Panda) but for joint 2 and 4 ends rounded there. Torques 87 and 12 N m and speeds 2.175 and 2.61 rad/s are
from the same page, at second hand: the Menagerie has the torques, libfranka's ``rate_limiting.h`` the speeds.

Gains. kp and kd are the Menagerie's (4500/450, 3500/350, 2000/200): stiff, and slow, for kd / kp is 0.1 s. A controller
that knows how fast its target moves makes up for that (controllers/joint_pd.py). The armature of 0.1 kg m^2 for every
joint is the Menagerie's round figure, not a measurement. Its joint damping of 1 N m s/rad, as round, is left out: dry
and viscous friction of a real Panda were not read from any source, and both are 0 here.

Hand. Opening 0 to 80 mm and up to 50 mm/s per finger; grasps hold with up to 70 N for ever (Franka Hand, product
manual, at second hand). The Menagerie's drive pulls with 100 N/m, which holds a 5 cm cube with 1.25 N a finger; ours
has 1000 N/m and at most 40 N on the two fingers together, chosen so that such a cube is held with 12.5 N a finger.

Home is the pose of the specification (docs/arms.md), with the TCP 0.46 m before the base and 9 cm high,
pointing down and 7 degrees outward.
"""

from __future__ import annotations

from cadenza.robots.arm_description import ArmRobot, Finger, Frame, Gripper, GripperDrive
from cadenza.robots.description import Joint
from cadenza.robots.motors import add_motors, drive, joint

_SOURCE = (
    "Peak torque: the Menagerie's Panda and Franka's FCI documentation. Speed: Franka's joint limit (libfranka), not "
    "the motor's speed without load, which is not published. Armature: the Menagerie's round figure. Friction 0: not "
    "known. Supply: 48 V is assumed; nothing depends on it."
)
_SUPPLY = (48.0, 48.0, 48.0)
add_motors(
    drive("Franka 87 N m", 87.0, 2.175, 0.1, 0.0, _SUPPLY, _SOURCE),
    drive("Franka 12 N m", 12.0, 2.61, 0.1, 0.0, _SUPPLY, _SOURCE),
)


def _row(number: int, limits_rad: tuple[float, float], kp: float, home_rad: float) -> Joint:
    motor = "Franka 87 N m" if number <= 4 else "Franka 12 N m"
    return joint(f"joint{number}", motor, number, limits_rad, home_rad=home_rad, kp=kp, kd=kp / 10)


ROBOT = ArmRobot(
    name="panda",
    prefix="Panda",
    title="Franka Emika Panda",
    menagerie="franka_emika_panda",
    licence="Apache-2.0",
    mass_kg=17.451901,
    # Limits and home in rad.
    joints=(
        _row(1, (-2.8973, 2.8973), 4500, 0.0),
        _row(2, (-1.7628, 1.7628), 4500, 0.1963),
        _row(3, (-2.8973, 2.8973), 3500, 0.0),
        _row(4, (-3.0718, -0.0698), 3500, -2.6180),
        _row(5, (-2.8973, 2.8973), 2000, 0.0),
        _row(6, (-0.0175, 3.7525), 2000, 2.9416),
        _row(7, (-2.8973, 2.8973), 2000, 0.7854),
    ),
    base="link0",
    # Franka's own default end-effector frame of the hand, 103.4 mm before the flange side of the hand.
    tcp=Frame("hand", (0.0, 0.0, 0.1034)),
    gripper=Gripper(
        name="Franka Hand",
        joints=("finger_joint1", "finger_joint2"),
        closed=0.0,
        open=0.04,
        width_m=(0.0, 0.08),
        speed=0.05,
        # The pads' inner faces are the planes y = 0 of the finger bodies.
        fingers=(
            Finger("left", "left_finger", (0.0, 0.0, 0.0445)),
            Finger("right", "right_finger", (0.0, 0.0, 0.0445)),
        ),
        drive=GripperDrive(kp=1000.0, kd=100.0, force=40.0, source="chosen; see the module's docstring"),
    ),
    tool_body="hand",
    tool_mass_kg=0.76,
    reach_m=0.947,
    physics_dt_s=0.004,
    compensates_gravity=True,
)
