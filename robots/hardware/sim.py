"""A robot whose motors are a simulation, behind the same interface as real buses.

It rounds what a wire would round: goals and angles to encoder steps, gains to a servo's P register, angular velocity
and tilt to the inertial unit's counts. So a policy meets here what it meets through a driver and an emulator.
:class:`SimRounding` holds every step as data; 0 leaves a quantity as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.actuators import actuation
from cadenza.robots.description import LeggedRobot
from cadenza.robots.encoders import angle_steps, quantise, velocity_steps
from cadenza.robots.hardware.clock import Clock, VirtualClock
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.estop import EStop
from cadenza.robots.hardware.limits import JointLimits, device_limit_c
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.stopping import StopPolicy
from cadenza.robots.hardware.types import (
    Capabilities,
    Fault,
    Identity,
    ImuState,
    JointCommand,
    JointState,
    Mode,
    RobotState,
    Sent,
)
from cadenza.robots.motor_thermal import XM430_W350, Winding
from cadenza.robots.motors import MOTORS, dynamixel_duty_per_rad

if TYPE_CHECKING:
    from cadenza.robots.hardware.plant import Plant

Array = NDArray[np.float64]

P_REGISTER_DEFAULT: dict[str, int] = {"XM430": 800, "STS3215": 32}
"""Position P gain as delivered, by family: ROBOTIS e-manual, XM430-W350, address 84; BAM's STS3215 actuator. It is what
``duty_per_rad`` of robots/motors.py belongs to, so one unit of the register is worth that divided by this."""
TORQUE_COUNTS_PER_NM: dict[str, float] = {"XM430": 149.8}
"""Present Current(126) per torque, by family: ROBOTIS-GIT/ROBOTIS-Framework, ``XM-430.device``."""
P_REGISTER_MOST = 16383
"""Largest P gain that a DYNAMIXEL takes."""
TAKES_KP = ("XM", "XL", "XC", "XH")
"""Families whose driver writes the P gain with each command (robots/hardware/dynamixel/bus.py); other servos keep the
one they were configured with."""
OPENCR_GYRO_STEP_RAD_S = math.radians(2000 / 32800)
"""ROBOTIS-OP3, open_cr_module: raw * 2000 / 32800 deg/s."""
OPENCR_TILT_STEP_RAD = math.radians(0.1)
"""Roll and pitch of the OP3's OpenCR firmware, which gravity is taken from (robots/hardware/dynamixel/opencr.py)."""


@dataclass(frozen=True, eq=False)
class SimRounding:
    """Steps in which n motors and an inertial unit speak; 0: not rounded. Arrays have shape (n,)."""

    angle_rad: Array
    """Measured."""
    speed_rad_s: Array
    goal_rad: Array
    kp: Array
    """N m/rad for one unit of the P register."""
    torque_nm: Array
    takes_kp: NDArray[np.bool_]
    """Position servos that take kp with each command."""
    temperature_c: float = 1.0
    voltage_v: float = 0.1
    gyro_rad_s: float = OPENCR_GYRO_STEP_RAD_S
    tilt_rad: float = OPENCR_TILT_STEP_RAD
    """Of roll and pitch, z-y-x Euler angles, which make gravity's direction."""

    @classmethod
    def of_robot(cls, robot: LeggedRobot) -> Self:
        """As the motors of the joint table and an OpenCR have it."""
        angle = angle_steps(robot)
        torque = np.array([1 / value if value else 0.0 for value in _by_family(robot, TORQUE_COUNTS_PER_NM)])
        gain = np.array(_gain_steps(robot))
        return cls(angle, velocity_steps(robot), angle, gain, torque, _take_kp(robot))

    @classmethod
    def exact(cls, robot: LeggedRobot) -> Self:
        """Nothing is rounded."""
        none = np.zeros(len(robot.joints))
        return cls(none, none, none, none, none, _take_kp(robot), 0.0, 0.0, 0.0, 0.0)


def _take_kp(robot: LeggedRobot) -> NDArray[np.bool_]:
    return np.array([row.motor.startswith(TAKES_KP) for row in robot.joints])


def _by_family(robot: LeggedRobot, table: Mapping[str, float]) -> list[float]:
    """A family's number for each joint; 0 where its motor's family has none."""
    return [next((table[one] for one in table if row.motor.startswith(one)), 0.0) for row in robot.joints]


def _gain_steps(robot: LeggedRobot) -> list[float]:
    motors = [MOTORS[row.motor] for row in robot.joints]
    units = _by_family(robot, P_REGISTER_DEFAULT)
    return [
        motor.duty_per_rad / unit * motor.peak_torque_nm if unit else 0.0
        for motor, unit in zip(motors, units, strict=True)
    ]


@dataclass
class SimFaults:
    """What goes wrong, on demand; joints by name. Change it at any time."""

    mute: set[str] = field(default_factory=set)
    """They do not answer: the last sample ages."""
    frozen: set[str] = field(default_factory=set)
    """Their encoder is stuck: the same angle, as if new."""
    nan: set[str] = field(default_factory=set)
    """Their angle is not a number."""
    temperature_c: dict[str, float] = field(default_factory=dict)
    """What they report in place of the model's."""
    bits: dict[str, Fault] = field(default_factory=dict)
    """Faults they report."""
    supply_v: float | None = None
    imu_mute: bool = False
    gravity: tuple[float, float, float] | None = None
    """What the inertial unit reports in place of the model's."""
    unplugged: bool = False
    """The port is gone."""


class SimPort:
    """Joints of a robot in a plant; see :class:`cadenza.robots.hardware.joint_port.JointPort`.

    With a :class:`VirtualClock` the plant follows it; with another clock it catches up at each reading and writing.

    Args:
        robot: its joint table.
        plant: with its joints, in table order.
        clock: the robot's time.
        rounding: None takes :meth:`SimRounding.of_robot`.
        supply_v: None takes the motors' nominal voltage; servos' torque and gain are in proportion to it.
        winding: how motors warm up.
        imu: whether there is an inertial unit.
    """

    def __init__(
        self,
        robot: LeggedRobot,
        plant: Plant,
        clock: Clock,
        *,
        rounding: SimRounding | None = None,
        supply_v: float | None = None,
        winding: Winding = XM430_W350,
        imu: bool = True,
    ):
        if tuple(joint.name for joint in plant.joints) != robot.joint_names:
            raise ValueError("The plant's joints are not the robot's table.")
        self.robot, self.plant, self.clock = robot, plant, clock
        self.joint_names = robot.joint_names
        self.rounding = SimRounding.of_robot(robot) if rounding is None else rounding
        self.faults = SimFaults()
        self.written: list[JointCommand] | None = None
        """Everything that was written, where a test puts a list here."""
        motors = [MOTORS[row.motor] for row in robot.joints]
        n = len(motors)
        servos = all(motor.actuator == "dc_motor" for motor in motors)
        modes = {Mode.OFF, Mode.POSITION, Mode.HOLD} | (set() if servos else {Mode.IMPEDANCE, Mode.DAMP})
        reports = frozenset({"q", "dq", "tau", "temperature", "voltage"})
        self.capabilities = Capabilities(frozenset(modes), True, 0.02, reports)
        nominal = np.array([motor.nominal_voltage_v for motor in motors])
        self._volts = nominal.copy() if supply_v is None else np.full(n, supply_v)
        self._supply = np.where([motor.actuator == "dc_motor" for motor in motors], self._volts / nominal, 1.0)
        self._winding, self._imu = winding, imu
        self._device_c = np.array([device_limit_c(row.motor) for row in robot.joints])
        self._zero = np.array([row.zero_rad for row in robot.joints])
        limits, step = np.array([row.limits_rad for row in robot.joints]), self.rounding.goal_rad
        self._lowest = _inward(limits[:, 0] - self._zero, step, np.ceil)
        self._highest = _inward(limits[:, 1] - self._zero, step, np.floor)
        self._stall = plant.stall_nm.copy()
        self._rise = np.zeros(n)
        self._shut_down = np.zeros(n, dtype=bool)
        self._last = JointState.unknown(n)
        self._last_imu = ImuState.unknown()
        self._last_at = np.full(n, -math.inf)
        self._imu_at = -math.inf
        self._watchdog_s = math.inf
        self._fed_s = math.inf
        self._tripped = False
        self._mode = Mode.OFF
        self._connected = self._active = False
        self._start_s = clock.now() - plant.time
        if isinstance(clock, VirtualClock):
            clock.followers.append(self._advance)

    # ------------------------------------------------------------------ life

    def connect(self) -> list[Identity]:
        """Nobody to ask: the joint table's motors."""
        self._check_plug()
        self._connected = True
        return [Identity(row.bus_id, row.motor, "simulated") for row in self.robot.joints]

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        self._check_plug()
        if mode not in (Mode.POSITION, Mode.IMPEDANCE) or mode not in self.capabilities.modes:
            raise HardwareError(f"These motors do not run in mode {mode.value}.")
        if self._active:
            raise HardwareError("Torque is on.", "Deactivate first.")
        if not watchdog_s > 0:
            raise HardwareError(f"A watchdog of {watchdog_s:g} s makes no sense.")
        self._mode, self._watchdog_s = mode, watchdog_s
        acts = [actuation(row) for row in self.robot.joints]
        self.plant.kp[:] = self._stiffness(self._gain(np.array([act.kp for act in acts])))
        self.plant.kd[:] = [act.kv for act in acts]
        self.plant.limit_nm[:] = self._stall * self._supply

    def prove_watchdog(self) -> None:
        """Nothing to prove; that it trips is tested."""
        self._check_plug()

    def activate(self) -> None:
        self._check_plug()
        self._catch_up()
        if self._mode == Mode.OFF:
            raise HardwareError("The motors are not configured.")
        if self._tripped or self._shut_down.any():
            raise HardwareError("A motor reports a fault.", "Clear it first.")
        self.plant.goal[:] = self._goal(self.plant.q)
        self.plant.goal_velocity[:], self.plant.tau[:] = 0.0, 0.0
        if self._mode == Mode.IMPEDANCE:
            self.plant.kp[:], self.plant.kd[:] = 0.0, 0.0
        self.plant.powered[:] = True
        self._active, self._fed_s = True, self.clock.now()

    def deactivate(self) -> None:
        """Torque off. A port that is gone cannot be told: then the watchdog is left."""
        self._check_plug()
        self._catch_up()
        self.plant.powered[:] = False
        self._active, self._fed_s = False, math.inf

    def clear_faults(self) -> None:
        self._check_plug()
        self._tripped = False
        self._shut_down[:] = False

    def close(self) -> None:
        if self._active and not self.faults.unplugged:
            self.deactivate()
        self._connected = False

    def detach(self) -> None:
        """No longer follow the virtual clock."""
        if isinstance(self.clock, VirtualClock) and self._advance in self.clock.followers:
            self.clock.followers.remove(self._advance)

    # ------------------------------------------------------------------ ticks

    def read(self) -> RobotState:
        self._check_plug()
        self._catch_up()
        now = self.clock.now()
        plant, rounding, faults, last = self.plant, self.rounding, self.faults, self._last
        angle = quantise(plant.q - self._zero, rounding.angle_rad) + self._zero
        heard = ~self._which(faults.mute)
        frozen = heard & self._which(faults.frozen) & np.isfinite(last.q)
        if frozen.any():
            angle = np.where(frozen, last.q, angle)
        last.q[heard] = angle[heard]
        last.dq[heard] = np.where(frozen, 0.0, quantise(plant.dq, rounding.speed_rad_s))[heard]
        last.tau[heard] = quantise(np.where(plant.powered, plant.force, 0.0), rounding.torque_nm)[heard]
        warm = self._winding.ambient_c + self._rise
        last.temperature[heard] = _steps(self._overridden(warm, faults.temperature_c), rounding.temperature_c)[heard]
        volts = self._volts if faults.supply_v is None else np.full(len(self._volts), faults.supply_v)
        last.voltage[heard] = _steps(volts, rounding.voltage_v)[heard]
        self._last_at[heard] = now
        q = np.where(self._which(faults.nan), np.nan, last.q) if faults.nan else last.q.copy()
        joints = JointState(
            q,
            last.dq.copy(),
            last.tau.copy(),
            last.temperature.copy(),
            last.voltage.copy(),
            self._fault_bits(heard),
            now - self._last_at,
        )
        return RobotState(joints, self._read_imu(now) if self._imu else None, now)

    def write(self, command: JointCommand) -> Sent:
        self._check_plug()
        self._catch_up()
        if not self._active:
            raise HardwareError("Torque is off: nothing can be commanded.")
        if command.mode not in self.capabilities.modes or command.mode == Mode.OFF:
            raise HardwareError(f"These motors do not run in mode {command.mode.value}.")
        if not command.finite():
            raise HardwareError("A command that is not finite.")
        now = self.clock.now()
        self._fed_s = now
        if self.written is not None:
            self.written.append(command)
        none = np.full(len(self._zero), np.nan)
        goal = self._goal(command.q)
        sent = JointCommand(goal, none, none, none, none, command.mode)
        if self._tripped:
            return Sent(sent, now, delivered=False)
        plant = self.plant
        hears = ~self._which(self.faults.mute)
        plant.goal[hears] = goal[hears]
        if self._mode == Mode.IMPEDANCE or command.mode == Mode.DAMP:
            for mine, theirs in (
                (plant.goal_velocity, command.dq),
                (plant.tau, command.tau),
                (plant.kp, np.zeros_like(none) if command.mode == Mode.DAMP else command.kp),
                (plant.kd, command.kd),
            ):
                mine[hears] = theirs[hears]
            got = {name: getattr(command, name).copy() for name in ("dq", "tau", "kp", "kd")}
            sent = replace(sent, **got)
        elif self.rounding.takes_kp.any():
            kp, takes = self._gain(command.kp), self.rounding.takes_kp
            np.copyto(plant.kp, self._stiffness(kp), where=hears & takes)
            sent = replace(sent, kp=np.where(takes, kp, np.nan))
        return Sent(sent, now)

    # ------------------------------------------------------------------ inside

    def _goal(self, q: Array) -> Array:
        """Goals in whole steps, inside the limits that the motors themselves hold."""
        goal = quantise(q - self._zero, self.rounding.goal_rad)
        return np.minimum(np.maximum(goal, self._lowest), self._highest) + self._zero

    def _gain(self, kp: Array) -> Array:
        """kp as the P registers can hold it."""
        step = self.rounding.kp
        return np.where(step > 0, np.clip(quantise(kp, step), 0.0, P_REGISTER_MOST * step), kp)

    def _stiffness(self, kp: Array) -> Array:
        """What such a gain is worth at the present supply, N m/rad, (n,).

        For a DYNAMIXEL in the order of products of the emulated firmware: another one differs in the last bit, which
        contacts amplify to steps of an encoder within some hundred ticks.
        """
        step, takes = self.rounding.kp, self.rounding.takes_kp
        plain = kp * self._supply
        if not (takes & (step > 0)).any():
            return plain
        units = np.round(kp / np.where(step > 0, step, 1.0)).astype(int).tolist()
        duty = np.array([dynamixel_duty_per_rad(unit) for unit in units])
        return np.where(takes & (step > 0), duty * (self._stall * self._supply), plain)

    def _which(self, names: Iterable[str]) -> NDArray[np.bool_]:
        return np.array([name in names for name in self.joint_names]) if names else np.zeros(len(self._zero), bool)

    def _overridden(self, values: Array, by_name: dict[str, float]) -> Array:
        return np.array([by_name.get(name, value) for name, value in zip(self.joint_names, values, strict=True)])

    def _fault_bits(self, heard: NDArray[np.bool_]) -> NDArray[np.int64]:
        bits = np.where(heard, 0, int(Fault.SILENT)).astype(np.int64)
        bits[self._shut_down] |= int(Fault.OVERHEATED)
        if self._tripped:
            bits |= int(Fault.COMMUNICATION_LOST)
        for name, fault in self.faults.bits.items():
            bits[self.joint_names.index(name)] |= int(fault)
        return bits

    def _read_imu(self, now: float) -> ImuState:
        if not self.faults.imu_mute:
            gyro, gravity = self.plant.imu()
            if self.faults.gravity is not None:
                gravity = np.array(self.faults.gravity)
            gravity = _tilt_steps(gravity, self.rounding.tilt_rad)
            self._last_imu = ImuState(_steps(gyro, self.rounding.gyro_rad_s), gravity, 0.0)
            self._imu_at = now
        return replace(self._last_imu, age=now - self._imu_at)

    def _check_plug(self) -> None:
        if self.faults.unplugged:
            raise HardwareError("The simulated port is unplugged.", "Plug it in again.")

    def _catch_up(self) -> None:
        if not isinstance(self.clock, VirtualClock):
            self._advance(self.clock.now())

    def _advance(self, until_s: float) -> None:
        trip_s = self._fed_s + self._watchdog_s
        if trip_s < until_s and not self._tripped:
            self._step(trip_s)
            # As the bus watchdog of a DYNAMIXEL: the motor stops where it is and refuses goals until it is cleared.
            self._tripped = True
            self.plant.goal[:] = self.plant.q
            self.plant.goal_velocity[:], self.plant.tau[:] = 0.0, 0.0
        self._step(until_s)

    def _step(self, until_s: float) -> None:
        before = self.plant.time
        self.plant.advance(until_s - self._start_s)
        passed = self.plant.time - before
        if passed <= 0:
            return
        load = np.clip(np.where(self.plant.powered, self.plant.force, 0.0) / self._stall, -1.0, 1.0)
        self._rise = self._winding.heat(self._rise, load[None], passed)[0]
        too_hot = self._overridden(self._winding.ambient_c + self._rise, self.faults.temperature_c) >= self._device_c
        if too_hot.any():
            self._shut_down |= too_hot
            self.plant.powered[self._shut_down] = False


def _steps(values: Array, step: float) -> Array:
    return np.round(values / step) * step if step > 0 else values


def _inward(limits: Array, steps: Array, to: Callable[[Array], Array]) -> Array:
    """Limits at whole steps, rounded into the range."""
    slack = 1e-6 if to is np.floor else -1e-6
    divisor = np.where(steps > 0, steps, 1.0)
    return np.where(steps > 0, to(limits / divisor + slack) * divisor, limits)


def _tilt_steps(gravity: Array, step: float) -> Array:
    """Gravity's direction, (3,), as roll and pitch in whole steps give it; the OpenCR's firmware truncates them."""
    if step <= 0:
        return gravity
    x, y, z = gravity.tolist()
    # In degrees, as the firmware has it: another order of products falls on the other side of a step.
    per_degree = math.radians(1.0) / step
    pitch = int(math.degrees(math.atan2(x, math.hypot(y, z))) * per_degree) * step
    roll = int(math.degrees(math.atan2(-y, -z)) * per_degree) * step
    return np.array([math.sin(pitch), -math.sin(roll) * math.cos(pitch), -math.cos(roll) * math.cos(pitch)])


def sim_hardware(
    robot: LeggedRobot,
    clock: Clock | None = None,
    *,
    plant: Plant | None = None,
    hung_up: bool = False,
    rounding: SimRounding | None = None,
    supply_v: float | None = None,
    limits: JointLimits | None = None,
    policy: StopPolicy | None = None,
    period_s: float = 0.02,
    homing_s: float = 2.5,
    home: Array | None = None,
    estop: EStop | None = None,
) -> RobotHardware:
    """A robot's hardware in simulation.

    Args:
        robot: its joint table.
        clock: None takes a :class:`VirtualClock`, so that nothing depends on the machine.
        plant: None puts the robot on a floor in its home pose.
        hung_up: with its base fixed in the air instead.
        rounding: see :class:`SimPort`.
        supply_v: see :class:`SimPort`.
        limits: see :class:`RobotHardware`.
        policy: the same.
        period_s: the same.
        homing_s: the same.
        home: the same.
        estop: the same.
    """
    from cadenza.robots.hardware.plant import Plant

    plant = Plant.of_robot(robot, hung_up=hung_up) if plant is None else plant
    port = SimPort(robot, plant, VirtualClock() if clock is None else clock, rounding=rounding, supply_v=supply_v)
    return RobotHardware(port, robot, limits, policy, period_s=period_s, homing_s=homing_s, home=home, estop=estop)
