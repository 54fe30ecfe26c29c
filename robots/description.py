"""What a robot is, as data: the dataclasses of a joint table. Nothing here imports MuJoCo.

A legged robot is one file in ``robots/humanoids/`` that defines ``ROBOT``, a :class:`LeggedRobot`; an arm is one in
``robots/arms/`` (:mod:`cadenza.robots.arm_description`). The joint table is the only place that defines joint order:
the simulation's ``ctrl``, a policy's actions and observations and the motor bus are all indexed by it. SI units
throughout, at the joint side of the gear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import mujoco

Vector3 = tuple[float, float, float]
ActuatorKind = Literal["pd", "dc_motor"]


@dataclass(frozen=True)
class Motor:
    """One model of motor with its gear, driver and encoder."""

    name: str
    actuator: ActuatorKind
    """``pd``: a torque-controlled drive that obeys kp (target - q) - kd dq up to its peak torque. ``dc_motor``: a servo
    that sets a voltage in proportion to the position error; torque falls with speed (see robots/actuators.py)."""
    peak_torque_nm: float
    """Largest torque at standstill: stall torque of a servo, peak torque of a drive."""
    no_load_speed_rad_s: float
    """Speed at which no torque is left, at the nominal voltage."""
    armature_kg_m2: float
    """Rotor inertia times the gear ratio squared."""
    friction_nm: float
    """Dry friction of gear and bearings."""
    nominal_voltage_v: float
    voltage_range_v: tuple[float, float]
    """Supply over which the maker lets it run."""
    encoder_counts: int
    """Counts per turn of the output shaft; 0 where the maker does not say (no quantisation then)."""
    velocity_step_rad_s: float = 0.0
    """Resolution of the velocity it reports; 0: not known or fine."""
    backlash_rad: float = 0.0
    """Free play of the output shaft, whole width; used only where a task asks for backlash."""
    duty_per_rad: float = 0.0
    """Of a ``dc_motor`` with its position loop as delivered: share of full voltage per radian of error."""
    rated_torque_nm: float | None = None
    """Torque it may hold for ever, where the maker says."""
    source: str = ""
    """Where the numbers come from, and which of them are estimates."""


@dataclass(frozen=True)
class Joint:
    """One row of a joint table."""

    name: str
    """As in the robot's model."""
    motor: str
    """A key of :data:`cadenza.robots.motors.MOTORS`."""
    bus_id: int
    """Address of the motor on its bus; counted from 1 in table order where the maker publishes none."""
    limits_rad: tuple[float, float]
    velocity_rad_s: float
    """Speed limit."""
    torque_nm: float
    """Torque limit, at most the motor's peak."""
    kp: float
    """Proportional gain, N m/rad."""
    kd: float
    """Damping gain, N m s/rad. For a ``dc_motor`` no setting but the back-EMF: peak torque over no-load speed."""
    armature: float
    """kg m^2."""
    friction_nm: float
    home_rad: float = 0.0
    """Angle in the home pose, about which actions move."""
    sign: int = 1
    """+1, or -1 where the motor's positive direction is the joint's negative one."""
    zero_rad: float = 0.0
    """Joint angle at which the motor reports its centre position."""


@dataclass(frozen=True)
class Foot:
    """A foot: the body that touches the ground and the point that is called its position."""

    name: Literal["left", "right"] | str
    body: str
    sole: Vector3
    """Centre of the sole in the body's frame, m."""
    geoms: tuple[str, ...] = ()
    """Names of its geoms that touch the ground; empty: those of the body that collide in the model."""


@dataclass(frozen=True)
class Imu:
    """Where the inertial measurement unit sits."""

    body: str
    position: Vector3 = (0.0, 0.0, 0.0)
    """In the body's frame, m."""
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    """wxyz, from the unit's axes to the body's."""


@dataclass(frozen=True)
class TableRobot:
    """What every robot with a joint table is: names, licence, mass and the table."""

    name: str
    """Of its file in ``robots/humanoids/`` or ``robots/arms/``."""
    prefix: str
    """Of its tasks: ``OP3`` gives ``cadenza/OP3Walk-v0``."""
    title: str
    menagerie: str
    """Name of its model in the MuJoCo Menagerie, or of another in :data:`cadenza.robots.menagerie.OTHER_MODELS`."""
    licence: str
    mass_kg: float
    """Of the model; a test compiles it and compares."""
    joints: tuple[Joint, ...]

    def __post_init__(self) -> None:
        names = [joint.name for joint in self.joints]
        ids = [joint.bus_id for joint in self.joints]
        for kind, values in (("joint name", names), ("bus id", [str(number) for number in ids])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{self.title}: the {kind} {', '.join(twice)} stands twice in the joint table.")
        for joint in self.joints:
            low, high = joint.limits_rad
            if not low <= joint.home_rad <= high:
                raise ValueError(
                    f"{self.title}: the home pose of {joint.name} ({math.degrees(joint.home_rad):.1f} deg) lies "
                    f"outside its limits ({math.degrees(low):.1f} to {math.degrees(high):.1f} deg)."
                )

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all models it is put together from."""
        return (self.menagerie,)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """In table order."""
        return tuple(joint.name for joint in self.joints)

    def joint(self, name: str) -> Joint:
        """The row of that name.

        Raises:
            ValueError: there is none; the message lists those that exist.
        """
        for joint in self.joints:
            if joint.name == name:
                return joint
        raise ValueError(f"{self.title} has no joint named {name!r}; there are: {', '.join(self.joint_names)}.")


@dataclass(frozen=True)
class LeggedRobot(TableRobot):
    """A humanoid: joint table, body, feet, sensors and where its model comes from."""

    base: str
    """The body with the free joint."""
    feet: tuple[Foot, Foot]
    """Left, right."""
    imu: Imu
    action_scale: float
    """An action of 1 moves a target this far from home, rad."""
    physics_dt_s: float
    """At which the shipped gains are stable."""
    gait_period_s: float
    """Of a full left-right cycle at an easy walk."""
    clearance_m: float
    """Height to which a foot should swing."""
    speed_m_s: float
    """An easy walking speed, from which the tasks scale their commands."""
    entry: str | None = None
    """The Menagerie's entry point; None takes its default model."""
    sole_friction: float = 0.8
    """Sliding friction of the feet on the ground."""
    notes: str = ""
    parts: dict[str, Any] = field(default_factory=dict)
    """What only this robot's own file knows, e.g. bodies without which a simulation is faster."""

    def build_spec(self, **options: Any) -> mujoco.MjSpec:
        """The robot's model with the table's actuators and limits; see :func:`cadenza.robots.building.build_spec`."""
        from cadenza.robots.building import build_spec

        return build_spec(self, **options)
