"""What an arm is, as data: a joint table, a tool centre point, a gripper and a place to stand. Imports no MuJoCo.

An arm is one file in ``robots/arms/`` that defines ``ROBOT``, an :class:`ArmRobot`. Its joint table holds the motors in
the order of ``ctrl``, of actions and of the motor bus. A gripper whose motor sits on the arm's own bus is a row of the
table (SO-101); one that is a tool of its own (Franka Hand, Robotiq 2F-85) has a :class:`GripperDrive` instead, and its
``ctrl`` stands behind those of the table.

The frame of the tool centre point (TCP): z points out of the hand, y is the direction in which the fingers close, x
completes a right-handed frame.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cadenza.robots.description import Joint, TableRobot, Vector3

if TYPE_CHECKING:
    import mujoco

Quaternion = tuple[float, float, float, float]
"""wxyz."""


@dataclass(frozen=True)
class Frame:
    """A frame fixed to a body."""

    body: str
    position: Vector3
    """Of its origin in the body's frame, m."""
    quaternion: Quaternion = (1.0, 0.0, 0.0, 0.0)
    """From its axes to the body's."""


@dataclass(frozen=True)
class Mount:
    """Where the arm's base stands in the world."""

    position: Vector3 = (0.0, 0.0, 0.0)
    """m."""
    quaternion: Quaternion = (1.0, 0.0, 0.0, 0.0)
    """From the base's axes to the world's; the arm reaches towards the world's +x."""


@dataclass(frozen=True)
class Tool:
    """A second model that is screwed to the arm's flange."""

    menagerie: str
    licence: str
    site: str
    """Of the arm's model, at which the tool's world frame is put."""
    prefix: str
    """Before every name of the tool, as both models have a body ``base``."""
    entry: str | None = None
    """The Menagerie's entry point; None takes its default model."""


@dataclass(frozen=True)
class Finger:
    """One finger: the body that grips, and the middle of the face with which it does."""

    name: Literal["left", "right"]
    body: str
    tip: Vector3
    """In the body's frame, m."""


@dataclass(frozen=True)
class GripperDrive:
    """The motor of a gripper that is no row of the joint table: a position drive with a limited force.

    It acts on the mean of the coupled joints. Units are those of the joints: N and m for sliding fingers, N m and rad
    for turning ones.
    """

    kp: float
    kd: float
    force: float
    source: str


@dataclass(frozen=True)
class Gripper:
    """How a hand opens."""

    name: str
    joints: tuple[str, ...]
    """Of the model; those after the first are coupled to it and have the same value."""
    closed: float
    """Value of those joints with the fingers together, m or rad."""
    open: float
    """Value with the fingers apart, m or rad."""
    width_m: tuple[float, float]
    """Between the fingers' faces, closed and open; a test measures it on the model."""
    speed: float
    """At which a target moves, m/s or rad/s of the joints."""
    fingers: tuple[Finger, Finger]
    """Left, right."""
    drive: GripperDrive | None
    """None: the first of the joints is a row of the joint table."""


@dataclass(frozen=True)
class ArmRobot(TableRobot):
    """A manipulator: joint table, tool centre point, gripper, mount and where its model comes from."""

    base: str
    """The body that stands on the mount."""
    tcp: Frame
    gripper: Gripper
    tool_body: str
    """First body of the hand."""
    tool_mass_kg: float
    """Of that body and all that hangs on it."""
    reach_m: float
    """From the first joint that lifts to the TCP with the arm stretched out; the scale of its Jacobian."""
    physics_dt_s: float
    """At which the shipped gains are stable."""
    compensates_gravity: bool
    """Whether the maker's controller carries the arm's own weight in position control."""
    mount: Mount = field(default_factory=Mount)
    entry: str | None = None
    """The Menagerie's entry point; None takes its default model."""
    tool: Tool | None = None
    impratio: float = 1.0
    """Above 1: elliptic friction cones with this ratio of friction to normal impedance, against slip in a grasp."""
    notes: str = ""
    parts: dict[str, Any] = field(default_factory=dict)
    """What only this arm's own file knows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_table = self.gripper.joints[0] in self.joint_names
        if in_table == (self.gripper.drive is not None):
            raise ValueError(
                f"{self.title}: the gripper's motor is either a row of the joint table or a drive of its own; "
                f"{self.gripper.joints[0]} is {'both' if in_table else 'neither'}."
            )
        if in_table and self.gripper.joints[0] != self.joint_names[-1]:
            raise ValueError(f"{self.title}: the gripper's row {self.gripper.joints[0]} must be the table's last.")

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models it is put together from."""
        return (self.menagerie,) if self.tool is None else (self.menagerie, self.tool.menagerie)

    @property
    def arm_joints(self) -> tuple[Joint, ...]:
        """The rows that move the hand, in table order: all but a gripper's."""
        return tuple(joint for joint in self.joints if joint.name not in self.gripper.joints)

    def build_spec(self, **options: Any) -> mujoco.MjSpec:
        """The arm's model with the table's actuators and limits; see :mod:`cadenza.robots.arm_building`."""
        from cadenza.robots.arm_building import build_spec

        return build_spec(self, **options)
