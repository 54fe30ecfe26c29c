"""The calibration file: which motors this very robot has, and how their zero lies to its joints'.

One JSON file a unit. It holds what a joint table cannot know: serial numbers, firmware, where an assembler's spline
ended up. The robot refuses to be switched on where the motors that answer are not those of the file.

The joint's angle is ``sign * motor / gear + zero_rad``, where the motor's own angle is 0 rad at its centre position.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.types import Identity
from cadenza.robots.motors import MOTORS

CALIBRATION_FORMAT = "cadenza-calibration-1"
NOMINAL = "nominal"
"""Method of a calibration that is nothing but the joint table."""
_AGAIN = "Calibrate this robot again: cadenza calibrate --help"


@dataclass(frozen=True)
class JointCalibration:
    """One joint of one unit."""

    name: str
    bus_id: int
    motor: str
    """A key of :data:`cadenza.robots.motors.MOTORS`."""
    sign: int
    zero_rad: float
    """Joint angle at which the motor is at its centre position."""
    gear: float = 1.0
    """Turns of the motor's shaft per turn of the joint, where there is a stage outside the motor."""
    firmware: str = ""
    serial: str = ""
    """Of the motor; empty where it tells none, and not compared then."""
    range_rad: tuple[float, float] | None = None
    """Joint angles seen while it was swept."""
    method: str = NOMINAL
    """How zero and sign were found."""

    def motor_range_rad(self, low_rad: float, high_rad: float) -> tuple[float, float]:
        """Joint angles as angles of the motor's shaft, in rising order."""
        ends = sorted((self.to_motor(low_rad), self.to_motor(high_rad)))
        return ends[0], ends[1]

    def to_motor(self, joint_rad: float) -> float:
        """Angle of the motor's shaft at a joint angle, rad."""
        return self.sign * (joint_rad - self.zero_rad) * self.gear

    def to_joint(self, motor_rad: float) -> float:
        """The inverse."""
        return self.sign * motor_rad / self.gear + self.zero_rad


@dataclass(frozen=True)
class Calibration:
    """All joints of one unit, in the robot's table order."""

    robot: str
    """Name of the robot's file in ``robots/humanoids/``."""
    date: str
    """Of the calibration, ISO 8601."""
    joints: tuple[JointCalibration, ...]
    unit: str = ""
    """What its owner calls this robot."""
    notes: str = ""

    @property
    def nominal(self) -> bool:
        """Whether any joint was never measured."""
        return any(joint.method == NOMINAL for joint in self.joints)

    @classmethod
    def for_robot(cls, robot: LeggedRobot) -> Self:
        """What the joint table says, marked ``nominal``."""
        rows = tuple(JointCalibration(row.name, row.bus_id, row.motor, row.sign, row.zero_rad) for row in robot.joints)
        return cls(robot.name, datetime.date.today().isoformat(), rows)

    def joint(self, name: str) -> JointCalibration:
        """The row of that name.

        Raises:
            RefusedError: there is none.
        """
        for row in self.joints:
            if row.name == name:
                return row
        raise RefusedError(f"The calibration of {self.robot} has no joint {name!r}.", _AGAIN)

    # ------------------------------------------------------------------ checks

    def check(self, robot: LeggedRobot) -> None:
        """Whether this belongs to such a robot and its motors can reach its joints' whole range.

        Raises:
            RefusedError: another robot's, joints missing or in another order, other motors, or the position where a
                servo's encoder wraps lies inside a joint's range; each is named.
        """
        if self.robot != robot.name:
            raise RefusedError(
                f"This calibration is of a robot named {self.robot!r}, not of {robot.name!r}.",
                "Name the file of this robot with --calibration.",
            )
        names = tuple(row.name for row in self.joints)
        if names != robot.joint_names:
            missing = sorted(set(robot.joint_names) - set(names))
            strange = sorted(set(names) - set(robot.joint_names))
            what = f"missing: {missing}, unknown: {strange}" if missing or strange else "they stand in another order"
            raise RefusedError(f"The joints of the calibration are not those of {robot.title}: {what}.", _AGAIN)
        wrong = []
        for row, joint in zip(self.joints, robot.joints, strict=True):
            if row.motor != joint.motor:
                wrong.append(f"{row.name} is a {joint.motor} in the joint table and a {row.motor} in the file")
            low, high = row.motor_range_rad(*joint.limits_rad)
            if MOTORS[joint.motor].actuator == "dc_motor" and not -math.pi <= low <= high <= math.pi:
                wrong.append(
                    f"{row.name} runs from {math.degrees(low):.1f} to {math.degrees(high):.1f} deg at its motor, where "
                    "an encoder of one turn wraps at 180 deg"
                )
        if wrong:
            raise RefusedError("; ".join(wrong) + ".", "Mount the horn so that the wrap lies outside, then calibrate.")

    def differences(self, identities: Sequence[Identity]) -> list[str]:
        """What the motors that answered say otherwise than the file; empty if nothing."""
        found = {identity.bus_id: identity for identity in identities}
        wrong = []
        for row in self.joints:
            who = found.get(row.bus_id)
            if who is None:
                wrong.append(f"{row.name}: no motor answered at id {row.bus_id}")
                continue
            if not same_model(row.motor, who.model):
                wrong.append(f"{row.name} (id {row.bus_id}): the file has a {row.motor}, there is a {who.model}")
            for what in ("firmware", "serial"):
                ours, theirs = getattr(row, what), getattr(who, what)
                if ours and theirs and ours != theirs:
                    wrong.append(f"{row.name} (id {row.bus_id}): {what} {theirs!r}, the file has {ours!r}")
        return wrong

    def compare(self, identities: Sequence[Identity]) -> None:
        """Refuse motors that are not those of this file. What a motor does not tell is not compared.

        Raises:
            RefusedError: it names each difference.
        """
        wrong = self.differences(identities)
        if wrong:
            raise RefusedError(
                f"The motors are not those of this calibration of {self.unit or self.robot}: " + "; ".join(wrong) + ".",
                "Name the file of this robot. If a motor or its firmware was changed, calibrate again: "
                "cadenza calibrate --help",
            )

    # ------------------------------------------------------------------ files

    def save(self, path: str | Path) -> None:
        """Write it, first under a temporary name.

        Raises:
            RefusedError: the file cannot be written.
        """
        path = Path(path)
        data = {"format": CALIBRATION_FORMAT, **dataclasses.asdict(self)}
        temporary = path.with_name(path.name + ".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(json.dumps(data, indent=2, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise RefusedError(f"Cannot write {path}: {error.strerror}.") from error
        except ValueError as error:
            raise RefusedError(f"This calibration holds numbers that are not finite: {error}.", _AGAIN) from error

    @classmethod
    def load(cls, path: str | Path, robot: LeggedRobot | None = None) -> Self:
        """Read and, for a robot, check a file.

        Raises:
            RefusedError: no file, damaged, of another format, or see :meth:`check`.
        """
        path = Path(path)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RefusedError(f"Cannot read the calibration {path}: {error.strerror}.", _AGAIN) from error
        except ValueError as error:
            raise RefusedError(f"The calibration {path} is damaged: {error}.", _AGAIN) from error
        made = cls.from_dict(data, str(path))
        if robot is not None:
            made.check(robot)
        return made

    @classmethod
    def from_dict(cls, data: Any, source: str = "the calibration") -> Self:
        """Check and take over parsed JSON.

        Raises:
            RefusedError: another format, or fields that are missing, unknown or of the wrong kind.
        """
        if not isinstance(data, dict) or data.get("format") != CALIBRATION_FORMAT:
            found = data.get("format") if isinstance(data, dict) else None
            raise RefusedError(f"{source} has format {found!r}; this version reads {CALIBRATION_FORMAT!r}.", _AGAIN)
        try:
            joints = tuple(_joint(row) for row in data["joints"])
            rest = {name: value for name, value in data.items() if name not in ("format", "joints")}
            if not all(isinstance(value, str) for value in rest.values()):
                raise TypeError("robot, date, unit and notes are texts")
            datetime.datetime.fromisoformat(rest["date"])
            made = cls(joints=joints, **rest)
        except (KeyError, TypeError, ValueError) as error:
            raise RefusedError(f"{source} is damaged: {type(error).__name__}: {error}.", _AGAIN) from error
        for what, values in (("name", [row.name for row in joints]), ("id", [str(row.bus_id) for row in joints])):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise RefusedError(f"{source} is damaged: the {what} {', '.join(twice)} stands twice.", _AGAIN)
        return made


def same_model(expected: str, answered: str) -> bool:
    """Whether a motor may be the one expected: variants that no register tells apart (``STS3215-12V``) share a name."""
    return answered == expected or expected.startswith(answered + "-")


def _joint(row: Any) -> JointCalibration:
    fields: dict[str, Any] = dict(row)
    for name, kind in (("bus_id", int), ("sign", int)):
        if type(fields[name]) is not kind:
            raise TypeError(f"{name} is {fields[name]!r}")
    for name in ("name", "motor", "firmware", "serial", "method"):
        if not isinstance(fields.get(name, ""), str):
            raise TypeError(f"{name} is {fields[name]!r}")
    numbers = {"zero_rad": fields["zero_rad"], "gear": fields.get("gear", 1.0)}
    if fields.get("range_rad") is not None:
        low, high = fields["range_rad"]
        numbers |= {"range_rad[0]": low, "range_rad[1]": high}
        fields["range_rad"] = (float(low), float(high))
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise TypeError(f"{name} is {value!r}")
    if fields["sign"] not in (-1, 1):
        raise ValueError(f"sign is {fields['sign']}, not 1 or -1")
    if not numbers["gear"] > 0:
        raise ValueError(f"gear is {numbers['gear']}")
    if fields["motor"] not in MOTORS:
        raise ValueError(f"there is no motor named {fields['motor']!r}")
    return JointCalibration(**fields)
