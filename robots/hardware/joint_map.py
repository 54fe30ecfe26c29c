"""All motors of a robot as its joints: signs, zeros and gears on the way, several buses side by side.

A bus has its motors' angles at their own shafts; the calibration file tells how they lie to the joints. Nothing else
knows both.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.bus import MotorBus, MotorSettings
from cadenza.robots.hardware.calibration import Calibration
from cadenza.robots.hardware.clock import Clock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.imu import ImuReader
from cadenza.robots.hardware.types import Capabilities, Identity, JointCommand, JointState, Mode, RobotState, Sent

Array = NDArray[np.float64]

log = logging.getLogger(__name__)

_IMU_SHARE = 0.25


def motor_settings(
    robot: LeggedRobot, calibration: Calibration | None = None, names: Sequence[str] | None = None
) -> list[MotorSettings]:
    """How a robot's motors are to be configured, at their own shafts.

    Limits of torque, speed and position are the joint table's, in the motors themselves: the second line behind the
    safety supervisor, whose own lie inside them.

    Args:
        robot: its joint table.
        calibration: of the unit; None takes the joint table's signs and zeros.
        names: of the joints on one bus, in the order wanted; None takes all in table order.

    Raises:
        RefusedError: the calibration is not one of this robot.
    """
    calibration = Calibration.for_robot(robot) if calibration is None else calibration
    calibration.check(robot)
    made = []
    for name in robot.joint_names if names is None else names:
        row, unit = robot.joint(name), calibration.joint(name)
        made.append(
            MotorSettings(
                name=name,
                bus_id=unit.bus_id,
                motor=row.motor,
                torque_limit_nm=row.torque_nm / unit.gear,
                velocity_limit_rad_s=row.velocity_rad_s * unit.gear,
                position_limits_rad=unit.motor_range_rad(*row.limits_rad),
                kp=row.kp / unit.gear**2,
                kd=row.kd / unit.gear**2,
            )
        )
    return made


class JointMap:
    """Arithmetic between joints and motors, for n joints in table order; ``joint = sign motor / gear + zero``."""

    def __init__(self, calibration: Calibration):
        rows = calibration.joints
        self.zero = np.array([row.zero_rad for row in rows])
        self.turn = np.array([row.sign * row.gear for row in rows])
        """Motor's turns per joint's, signed."""
        self._gear2 = np.square(self.turn)

    def to_motors(self, command: JointCommand) -> JointCommand:
        """A command at the motors' shafts."""
        return JointCommand(
            (command.q - self.zero) * self.turn,
            command.dq * self.turn,
            command.tau / self.turn,
            command.kp / self._gear2,
            command.kd / self._gear2,
            command.mode,
        )

    def to_joints(self, command: JointCommand) -> JointCommand:
        """The inverse."""
        return JointCommand(
            command.q / self.turn + self.zero,
            command.dq / self.turn,
            command.tau * self.turn,
            command.kp * self._gear2,
            command.kd * self._gear2,
            command.mode,
        )

    def state(self, motors: JointState) -> JointState:
        """What motors said, as the joints'."""
        return JointState(
            motors.q / self.turn + self.zero,
            motors.dq / self.turn,
            motors.tau * self.turn,
            motors.temperature,
            motors.voltage,
            motors.fault,
            motors.age,
        )


class MappedBuses:
    """A robot's joints on one or several buses; see :class:`cadenza.robots.hardware.joint_port.JointPort`.

    Args:
        robot: its joint table.
        buses: each with some of the joints, by the names in their settings; together all of them, each once.
        calibration: of this unit; None takes the joint table's, with a warning.
        clock: of buses, inertial unit and control loop.
        imu: None where there is none.
        before_connect: called first of all, e.g. to switch on the motors' supply where they have none without.
        within: gives a block in which no answer is waited for beyond so many seconds, where the buses have one.
    """

    def __init__(
        self,
        robot: LeggedRobot,
        buses: Sequence[MotorBus],
        calibration: Calibration | None,
        clock: Clock,
        imu: ImuReader | None = None,
        *,
        before_connect: Callable[[], None] | None = None,
        within: Callable[[float], AbstractContextManager[None]] = lambda seconds: nullcontext(),
    ):
        if calibration is None:
            log.warning("%s runs without a calibration file: its joint table's zeros are taken.", robot.title)
            calibration = Calibration.for_robot(robot)
        calibration.check(robot)
        self.robot, self.buses, self.calibration, self.clock, self.imu = robot, tuple(buses), calibration, clock, imu
        self.joint_names = robot.joint_names
        self._before_connect, self._within = before_connect, within
        self.budget_s = math.inf
        """What the answers to one :meth:`read` may take together, asking again included, s; needs ``within``."""
        self._map = JointMap(calibration)
        self._rows = [self._rows_of(bus) for bus in self.buses]
        every = sorted(row for rows in self._rows for row in rows.tolist())
        if every != list(range(len(self.joint_names))):
            missing = [name for row, name in enumerate(self.joint_names) if row not in every]
            twice = sorted({self.joint_names[row] for row in every if every.count(row) > 1})
            raise RefusedError(f"The buses do not carry each joint once; missing: {missing}, twice: {twice}.")
        self.capabilities = _common([bus.capabilities for bus in self.buses])

    def _rows_of(self, bus: MotorBus) -> NDArray[np.intp]:
        rows = []
        for settings in bus.settings:
            if settings.name not in self.joint_names:
                raise RefusedError(f"{self.robot.title} has no joint {settings.name!r}, which a bus carries.")
            unit = self.calibration.joint(settings.name)
            if unit.bus_id != settings.bus_id or unit.motor != settings.motor:
                raise RefusedError(
                    f"{settings.name}: the bus has a {settings.motor} at id {settings.bus_id}, the calibration a "
                    f"{unit.motor} at id {unit.bus_id}.",
                    "Make the bus from motor_settings(robot, calibration).",
                )
            rows.append(self.joint_names.index(settings.name))
        return np.array(rows, dtype=np.intp)

    # ------------------------------------------------------------------ life

    def connect(self) -> list[Identity]:
        """Identify every motor, in table order, and compare with the calibration; changes nothing on them.

        Raises:
            HardwareError: see :meth:`MotorBus.connect`.
            RefusedError: the calibration is another unit's; it names each difference.
        """
        if self._before_connect is not None:
            self._before_connect()
        found: dict[int, Identity] = {}
        try:
            for bus in self.buses:
                found |= {identity.bus_id: identity for identity in bus.connect()}
            self.calibration.compare(list(found.values()))
        except BaseException:
            self.close()
            raise
        return [found[row.bus_id] for row in self.calibration.joints]

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        if self.imu is not None:
            self.imu.configure()
        for bus in self.buses:
            bus.configure(mode, watchdog_s)

    def prove_watchdog(self) -> None:
        for bus in self.buses:
            bus.prove_watchdog()

    def activate(self) -> None:
        try:
            for bus in self.buses:
                bus.activate()
        except BaseException:
            try:
                self.deactivate()
            except HardwareError as error:
                log.error("While switching off again: %s", error)
            raise

    def deactivate(self) -> None:
        problems = self._each(lambda bus: bus.deactivate())
        if problems:
            raise HardwareError("Torque off was not confirmed: " + " ".join(problems), "Cut the motors' supply.")

    def clear_faults(self) -> None:
        """Clear whatever is latched in any motor, by an operator's order.

        Each is asked, not only those whose last sample shows a fault: a watchdog's state is read rarely, and after a
        silence all have tripped although few have been seen to.
        """
        problems = []
        for bus in self.buses:
            for settings in bus.settings:
                try:
                    bus.clear_fault(settings.bus_id)
                except HardwareError as error:
                    problems.append(f"{settings.name}: {error}")
        if problems:
            raise HardwareError("These faults stay: " + " ".join(problems))

    def close(self) -> None:
        for bus in self.buses:
            bus.close()
        if self.imu is not None:
            self.imu.close()

    def _each(self, what: Callable[[MotorBus], None]) -> list[str]:
        """Do it on every bus, whatever one of them says; their problems."""
        problems = []
        for bus in self.buses:
            try:
                what(bus)
            except HardwareError as error:
                problems.append(str(error))
        return problems

    # ------------------------------------------------------------------ ticks

    def read(self) -> RobotState:
        at_s = self.clock.now()
        n = len(self.joint_names)
        motors = JointState.unknown(n)
        with self._within(self.budget_s):
            # First, and with a part of the time alone: motors that must be asked again would leave it none.
            with self._within(_IMU_SHARE * self.budget_s):
                imu = self.imu.read() if self.imu is not None else None
            for bus, rows in zip(self.buses, self._rows, strict=True):
                part = bus.read()
                for name in ("q", "dq", "tau", "temperature", "voltage", "fault", "age"):
                    getattr(motors, name)[rows] = getattr(part, name)
        return RobotState(self._map.state(motors), imu, at_s)

    def housekeep(self) -> None:
        """What need not be known within the tick, where a bus has such; takes at most half of a read's time."""
        with self._within(0.5 * self.budget_s):
            for bus in self.buses:
                housekeep = getattr(bus, "housekeep", None)
                if housekeep is not None:
                    housekeep()

    def write(self, command: JointCommand) -> Sent:
        """Send a command, (n,). A bus whose port is gone does not keep the others from theirs.

        Raises:
            HardwareError: see :meth:`MotorBus.write`; after all buses were tried.
        """
        if not command.finite():
            raise HardwareError("A command that is not finite.")
        motors = self._map.to_motors(command)
        n = len(self.joint_names)
        blank = [np.full(n, np.nan) for _ in range(5)]
        out = JointCommand(blank[0], blank[1], blank[2], blank[3], blank[4], command.mode)
        at_s, delivered = self.clock.now(), True
        failed: HardwareError | None = None
        for bus, rows in zip(self.buses, self._rows, strict=True):
            part = JointCommand(
                motors.q[rows], motors.dq[rows], motors.tau[rows], motors.kp[rows], motors.kd[rows], command.mode
            )
            try:
                sent = bus.write(part)
            except HardwareError as error:
                failed = failed or error
                continue
            delivered = delivered and sent.delivered
            for name in ("q", "dq", "tau", "kp", "kd"):
                getattr(out, name)[rows] = getattr(sent.command, name)
        if failed is not None:
            raise failed
        return Sent(self._map.to_joints(out), at_s, delivered)


def _common(all_of: Sequence[Capabilities]) -> Capabilities:
    """What all buses can do."""
    if not all_of:
        raise RefusedError("A robot needs at least one bus.")
    modes, reports = all_of[0].modes, all_of[0].reports
    for one in all_of[1:]:
        modes, reports = modes & one.modes, reports & one.reports
    return Capabilities(
        modes,
        all(one.device_watchdog for one in all_of),
        max(one.watchdog_step_s for one in all_of),
        reports,
    )
