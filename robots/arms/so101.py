"""SO-101 of TheRobotStudio: 5 joints and a jaw, six Feetech STS3215 on one bus, 0.63 kg.

The follower arm with 7.4 V servos of the parts list (TheRobotStudio/SO-ARM100); ``at_voltage`` takes it to what a weak
battery gives. Names and bus ids are LeRobot's (so_follower: shoulder_pan 1 to gripper 6). Limits are the model's.

Gains follow from the servo as delivered, P coefficient 32 (robots/motors.py); LeRobot lowers it to 16 against shaking,
which halves kp. Such a servo has no integral part and carries no weight of its own accord: it sags by torque / kp, 3
degrees at half a newton metre, unless the controller adds the weight to its target (controllers/joint_pd.py).

In the model the jaws touch by the convex hulls of their meshes, which fill the space between fixed jaw and wrist, and
by two boxes of 2.5 mm at the tips. Ours touch by boxes (``parts["pads"]``) whose inner faces we measured on the meshes,
so that an object can stand between them. They are within 2 mm of the meshes there.

The jaw turns about one axis: closing, the moving face comes to the fixed one, which stays. With 5 joints the hand
cannot take every pose; what it cannot reach is a singular direction to the controllers.
"""

from __future__ import annotations

from cadenza.robots.arm_description import ArmRobot, Finger, Frame, Gripper
from cadenza.robots.motors import joint

_MOTOR = "STS3215-7.4V"

ROBOT = ArmRobot(
    name="so101",
    prefix="SO101",
    title="SO-101",
    menagerie="therobotstudio_so101",
    licence="Apache-2.0",
    mass_kg=0.632006,
    # Bus id, limits and home in rad.
    joints=(
        joint("shoulder_pan", _MOTOR, 1, (-1.91986, 1.91986)),
        joint("shoulder_lift", _MOTOR, 2, (-1.74533, 1.74533), home_rad=-0.1),
        joint("elbow_flex", _MOTOR, 3, (-1.69, 1.69)),
        joint("wrist_flex", _MOTOR, 4, (-1.65806, 1.65806), home_rad=1.37),
        joint("wrist_roll", _MOTOR, 5, (-2.74385, 2.84121), home_rad=0.0486),
        joint("gripper", _MOTOR, 6, (-0.174533, 1.745329), home_rad=0.5),
    ),
    base="base",
    tcp=Frame("gripper", (0.0021, -0.000218, -0.098), (0.0, 0.70710678, 0.70710678, 0.0)),
    gripper=Gripper(
        name="SO-101 jaw",
        joints=("gripper",),
        closed=-0.174533,
        open=1.745329,
        width_m=(0.0031, 0.1294),
        speed=3.0,
        fingers=(
            Finger("left", "gripper", (-0.008, -0.000218, -0.098)),
            Finger("right", "moving_jaw_so101_v1", (-0.0123, -0.076, 0.019)),
        ),
        drive=None,
    ),
    tool_body="gripper",
    tool_mass_kg=0.099,
    reach_m=0.41,
    physics_dt_s=0.004,
    compensates_gravity=False,
    # Body -> boxes: middle and half sizes in the body's frame, m.
    parts={
        "pads": {
            "gripper": (
                ((-0.0100, 0.0, -0.0970), (0.0020, 0.0050, 0.0070)),
                ((-0.0145, 0.0, -0.0650), (0.0025, 0.0080, 0.0250)),
                ((-0.0025, 0.0, -0.0200), (0.0320, 0.0230, 0.0180)),
            ),
            "moving_jaw_so101_v1": (
                ((-0.0093, -0.0770, 0.0190), (0.0030, 0.0050, 0.0050)),
                ((-0.0035, -0.0360, 0.0190), (0.0050, 0.0360, 0.0080)),
            ),
        }
    },
)
