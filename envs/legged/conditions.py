"""Carries events out: draws their values and puts them into a simulation, its sensors and its disturbances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.events import PUSH_EVERY_S, Event, Range
from cadenza.envs.legged.frames import DOWN, multiply, rotate_back
from cadenza.envs.legged.physics import Physics
from cadenza.robots.description import LeggedRobot
from cadenza.robots.encoders import angle_steps, quantise, velocity_steps
from cadenza.robots.motors import MOTORS
from cadenza.robots.pose import JointIndex

Array = NDArray[np.float64]
Ids = NDArray[np.intp]

# Which fields of the model the events write, so that only those get values of their own for every copy.
_FIELDS = {
    "mass": ("body_mass", "body_inertia"),
    "payload": ("body_mass",),
    "com": ("body_ipos",),
    "friction": ("geom_friction",),
    "kp": ("actuator_gainprm", "actuator_biasprm"),
    "kd": ("actuator_biasprm", "dof_damping"),
    "strength": ("actuator_forcerange",),
    "weak_knee": ("actuator_forcerange",),
    "armature": ("dof_armature",),
    "friction_loss": ("dof_frictionloss",),
    "voltage": ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"),
}


@dataclass(frozen=True)
class Measured:
    """What sensors say, shapes (n, joints), (n, joints), (n, 3), (n, 3)."""

    angle: Array
    velocity: Array
    gyro: Array
    gravity: Array


class Conditioner:
    """The conditions of n copies.

    Args:
        robot: whose motors and IMU they are.
        model: of all copies, with nominal values.
        physics: whose fields are written.
        events: by name, from :func:`cadenza.envs.legged.events.planned`.
        addresses: of the robot's joints in the model.
        home_height: of the base in the home pose, m.
        push_every_s: time between two pushes, drawn evenly.

    Raises:
        CadenzaError: ``push_every_s`` is no range of times.
    """

    def __init__(
        self,
        robot: LeggedRobot,
        model: mujoco.MjModel,
        physics: Physics,
        events: Mapping[str, Event],
        addresses: JointIndex,
        home_height: float,
        push_every_s: Range = PUSH_EVERY_S,
    ):
        self.robot, self.physics, self.events, self._at = robot, physics, events, addresses
        if not 0.0 < push_every_s[0] <= push_every_s[1]:
            raise CadenzaError(
                f"push_every_s = {push_every_s} is no range of times: the lower end comes first, and is above 0 s.",
                "For example push_every_s=(4.0, 8.0).",
            )
        self._push_every_s = push_every_s
        self._base = model.body(robot.base).id
        names = [foot.body for foot in robot.feet] + ["world"]
        bodies = [model.body(name).id for name in names]
        self._ground = np.flatnonzero(np.isin(model.geom_bodyid, bodies))
        self._right_knee = [row for row, name in enumerate(robot.joint_names) if _is_right_knee(name)]
        self._servo = np.array([MOTORS[joint.motor].actuator == "dc_motor" for joint in robot.joints])
        self._angle_steps, self._velocity_steps = angle_steps(robot), velocity_steps(robot)
        self._home_height = home_height

        active = [name for name, event in events.items() if not event.idle]
        fields = dict.fromkeys(field for name in active for field in _FIELDS.get(name, ()))
        self.fields = {field: physics.field(field) for field in fields}
        self._nominal = {field: getattr(model, field).copy() for field in self.fields}
        self._heavy = any(field.startswith("body_") for field in self.fields)
        sizes = {"robot": 1, "joint": len(robot.joints), "body": model.nbody, "axis": 3}
        self.values = {
            name: np.full((physics.n, sizes[event.per]), event.nominal, dtype=np.float64)
            for name, event in events.items()
        }
        self._begun = np.zeros(physics.n, dtype=bool)
        self._next_push_s = np.full(physics.n, np.inf)
        self._turn = np.tile([1.0, 0.0, 0.0, 0.0], (physics.n, 1))

    # ------------------------------------------------------------------ drawing

    def forget(self, index: int) -> None:
        """A copy is begun anew: its startup events are still to come."""
        self._begun[index] = False

    def draw(self, index: int, random: np.random.Generator, parameters: Mapping[str, float]) -> dict[str, Array]:
        """Draw a copy's values for the next episode; :meth:`apply` puts them into the model.

        Args:
            index: of the copy.
            random: its generator.
            parameters: of a curriculum; one with the name of an event is its value.
        """
        for name, event in self.events.items():
            row = self.values[name][index]
            if name in parameters and event.when != "interval":
                row[:] = self._chosen(event, float(parameters[name]))
            elif event.idle or event.when == "interval" or (event.when == "startup" and self._begun[index]):
                continue
            elif event.low == event.high:
                row[:] = event.low
            elif event.whole:
                row[:] = random.integers(int(event.low), int(event.high) + 1, len(row))
            else:
                row[:] = random.uniform(event.low, event.high, len(row))
        self._begun[index] = True
        self._next_push_s[index] = random.uniform(*self._push_every_s) if self._pushes(parameters) else np.inf
        half = 0.5 * self.values["imu_tilt"][index]
        turn = np.array([1.0, half[0], half[1], half[2]])
        self._turn[index] = multiply(np.asarray(self.robot.imu.quaternion), turn / np.sqrt(np.square(turn).sum()))
        return {name: self.values[name][index] for name in self.values}

    def _chosen(self, event: Event, value: float) -> float:
        """A curriculum's value, if the simulation was made for it: fields of the model and delays are laid out once."""
        if value != event.nominal and not event.low <= value <= event.high:
            raise CadenzaError(
                f"The parameter {event.name} = {value:g} lies outside its range here, {event.low:g} to {event.high:g}.",
                f'Make the environment with conditions={{"{event.name}": (low, high)}} that holds it.',
            )
        return value

    def _pushes(self, parameters: Mapping[str, float]) -> bool:
        return not self.events["push"].idle or "push" in parameters

    def apply(self, ids: Ids) -> None:
        """Write the drawn values of these copies into their models."""
        if not self.fields:
            return
        v, base, nominal, fields = self.values, self._base, self._nominal, self.fields
        act, dof = self._at.actuator, self._at.dof
        for index in ids:
            if "body_mass" in fields:
                fields["body_mass"][index] = nominal["body_mass"] * v["mass"][index]
                fields["body_mass"][index, base] += v["payload"][index, 0] * self.robot.mass_kg
            if "body_inertia" in fields:
                fields["body_inertia"][index] = nominal["body_inertia"] * v["mass"][index][:, None]
            if "body_ipos" in fields:
                fields["body_ipos"][index, base] = nominal["body_ipos"][base] + v["com"][index] * self._home_height
            if "geom_friction" in fields:
                fields["geom_friction"][index, self._ground, 0] = v["friction"][index, 0]
            supply = np.where(self._servo, v["voltage"][index, 0], 1.0)
            if "actuator_gainprm" in fields:
                gain = nominal["actuator_gainprm"][act, 0] * v["kp"][index] * supply
                fields["actuator_gainprm"][index, act, 0] = gain
                fields["actuator_biasprm"][index, act, 1] = -gain
            if "dof_damping" in fields:
                damping, bias = nominal["dof_damping"], nominal["actuator_biasprm"]
                fields["dof_damping"][index, dof] = damping[dof] * v["kd"][index]
                fields["actuator_biasprm"][index, act, 2] = bias[act, 2] * v["kd"][index]
            if "actuator_forcerange" in fields:
                strength = v["strength"][index] * supply
                strength[self._right_knee] *= v["weak_knee"][index, 0]
                limits = nominal["actuator_forcerange"][act] * strength[:, None]
                fields["actuator_forcerange"][index, act] = limits
            if "dof_armature" in fields:
                fields["dof_armature"][index, dof] = nominal["dof_armature"][dof] * v["armature"][index]
            if "dof_frictionloss" in fields:
                loss = nominal["dof_frictionloss"][dof] * v["friction_loss"][index]
                fields["dof_frictionloss"][index, dof] = loss
        if self._heavy or "dof_armature" in fields:
            self.physics.set_const(ids)

    # ------------------------------------------------------------------ acting

    def push(
        self, random: Sequence[np.random.Generator], qvel: Array, dt_s: float, parameters: Sequence[Mapping[str, float]]
    ) -> None:
        """Let time pass; copies whose time has come get a kick of random direction."""
        self._next_push_s -= dt_s
        event = self.events["push"]
        for index in np.flatnonzero(self._next_push_s <= 0.0).tolist():
            own, low, high = random[index], event.low, event.high
            angle, speed = own.uniform(-np.pi, np.pi), own.uniform(low, high) if high > low else low
            speed = parameters[index].get("push", speed) * self.robot.speed_m_s
            qvel[index, 0] += speed * np.cos(angle)
            qvel[index, 1] += speed * np.sin(angle)
            self._next_push_s[index] = own.uniform(*self._push_every_s)

    def push_soon(self, rows: Ids) -> Array:
        """1 in the half second before a push, (n, 1)."""
        return (self._next_push_s[rows] < 0.5).astype(np.float64)[:, None]

    def measure(self, sensed: Array, rows: Ids) -> Measured:
        """Encoders and IMU of these copies.

        Args:
            sensed: true joint angles, velocities, base quaternion and rotation, shape (len(rows), 2 joints + 7).
            rows: which copies.
        """
        count = len(self._servo)
        angle = sensed[:, :count] + self.values["encoder_offset"][rows]
        velocity = sensed[:, count : 2 * count]
        turn = self._turn[rows]
        gravity = rotate_back(turn, rotate_back(sensed[:, 2 * count : 2 * count + 4], DOWN))
        gyro = rotate_back(turn, sensed[:, 2 * count + 4 :])
        angle, velocity = quantise(angle, self._angle_steps), quantise(velocity, self._velocity_steps)
        return Measured(angle, velocity, gyro, gravity)

    def back_emf(self, damping: Array) -> Array:
        """The servos' share of the joints' damping, N m s/rad, (n, joints), of ``dof_damping`` (n, nv)."""
        return damping[:, self._at.dof] * self._servo

    # ------------------------------------------------------------------ state of a run

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "values": {name: value.copy() for name, value in self.values.items()},
            "begun": self._begun.copy(),
            "next_push_s": self._next_push_s.copy(),
            "turn": self._turn.copy(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`; the models are written anew."""
        for name, value in state["values"].items():
            self.values[name][...] = value
        self._begun[:], self._next_push_s[:] = state["begun"], state["next_push_s"]
        self._turn[:] = state["turn"]
        self.apply(np.flatnonzero(self._begun))


def _is_right_knee(name: str) -> bool:
    """By the names that makers use: r_knee, right_knee_joint, Right_Knee_Pitch, LR_KFE."""
    name = name.lower()
    return ("knee" in name or "kfe" in name) and ("right" in name or name.startswith(("r_", "lr_")))
