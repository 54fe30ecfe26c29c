"""An OP3 of 20 emulated servos in another process, behind driver, joint map, limits and lifecycle."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from bench import start

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.calibration import Calibration
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.dynamixel.bus import DynamixelBus
from cadenza.robots.hardware.dynamixel.opencr import AS_BOARD, OpenCr
from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions
from cadenza.robots.hardware.emulators.launch import Order, Spawned
from cadenza.robots.hardware.joint_map import MappedBuses, motor_settings
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.transports.serial import SerialPort
from cadenza.robots.hardware.types import Array, JointCommand

ROBOT = load_humanoid("op3")
PERIOD_S = 0.02
HOMING_S = 0.3
HOME = np.array([row.home_rad for row in ROBOT.joints])
KP = np.array([row.kp for row in ROBOT.joints])
WATCHDOG_S = 0.2


def wired_port(address: str, clock: Any, *, margin_s: float, calibration: Calibration | None = None) -> MappedBuses:
    """The joints of an OP3 behind the vendor's SDK at a serial port, and its inertial unit."""
    unit = calibration or Calibration.for_robot(ROBOT)
    wire = SerialPort(address, 2_000_000, margin_s=margin_s)
    # Emulated servos in lockstep answer a broadcast ping at once, the board at id 200 too: no 3 ms for each id.
    bus = DynamixelBus(motor_settings(ROBOT, unit), wire, clock, DynamixelOptions(broadcast_up_to=20))
    imu = OpenCr(bus.port, clock, axes=AS_BOARD)

    def power_on() -> None:
        imu.connect()
        if not imu.powered():
            imu.switch_power(True)

    return MappedBuses(ROBOT, [bus], unit, clock, imu, before_connect=power_on)


class WiredOp3:
    """A driver, not yet connected, and an experimenter's hands on what is at the other end of the wire."""

    def __init__(self, emulator: Spawned, margin_s: float = 0.3, since: int = 0):
        self.emulator, self.control = emulator, emulator.control
        state = self.control.state()
        self.clock = VirtualClock(state["time_s"])
        self.clock.followers.append(self.control.advance)
        self.port = wired_port(emulator.port, self.clock, margin_s=margin_s)
        bus = self.port.buses[0]
        assert isinstance(bus, DynamixelBus)
        self.bus: DynamixelBus = bus
        self.hardware: RobotHardware = None  # type: ignore[assignment]
        self.since = since
        """Number of the first entry of the log that is this run's."""
        self.since = self.mark()
        self.spoiled = False

    # ------------------------------------------------------------------ a run

    def set_up(self, *, prove: bool = False, homing_s: float = HOMING_S, **settings: Any) -> RobotHardware:
        """Connected and configured, torque off."""
        self.hardware = RobotHardware(self.port, ROBOT, homing_s=homing_s, **settings)
        self.hardware.connect()
        self.hardware.configure(prove_watchdog=prove)
        return self.hardware

    def run(self, ticks: int) -> None:
        """Ticks without a command."""
        for _ in range(ticks):
            self.tick(None)

    def tick(self, command: JointCommand | None) -> Any:
        """Read, write, let time pass."""
        state = self.hardware.read()
        self.hardware.step(command)
        self.clock.sleep_until(self.clock.now() + PERIOD_S)
        return state

    def go(self, **settings: Any) -> RobotHardware:
        """Started, at home and released."""
        hardware = self.hardware or self.set_up(**settings)
        hardware.start_up()
        for _ in range(200):
            self.tick(None)
            if hardware.homed:
                break
        for _ in range(25):
            self.tick(None)
        hardware.release()
        assert hardware.lifecycle == Lifecycle.ACTIVE
        return hardware

    def until_off(self, command: JointCommand | None = None, most: int = 150) -> int:
        """Ticks until torque is off, as far as the hardware knows."""
        for count in range(most):
            if not self.hardware.powered:
                return count
            self.tick(command)
        raise AssertionError(f"still {self.hardware.lifecycle.value} after {most} ticks")

    # ------------------------------------------------------------------ the truth

    def log(self) -> list[dict[str, Any]]:
        """Bytes on the wire since power-on."""
        return list(self.control.log(self.since))

    def mark(self) -> int:
        """Number of the next entry of the log."""
        entries = self.log()
        return entries[-1]["number"] + 1 if entries else self.since

    def motors(self) -> list[dict[str, Any]]:
        """In table order."""
        found = {motor["bus_id"]: motor for motor in self.control.state()["motors"]}
        return [found[row.bus_id] for row in ROBOT.joints]

    def angles(self) -> Array:
        return np.array([motor["angle_rad"] for motor in self.motors()])

    def torque(self) -> list[bool]:
        return [bool(motor["torque_enabled"]) for motor in self.motors()]

    def tripped(self) -> list[bool]:
        return [bool(motor["watchdog"]["tripped"]) for motor in self.motors()]

    def turn_to(self, q: Array) -> None:
        """Put the free shafts there by hand, rad at the joints."""
        for row, angle in zip(ROBOT.joints, q.tolist(), strict=True):
            self.control.set(row.bus_id, angle_rad=row.sign * (angle - row.zero_rad))

    def advance(self, seconds: float) -> None:
        """Time passes and nobody sends anything."""
        self.clock.sleep_until(self.clock.now() + seconds)

    def fault(self, kind: str, joint: str | None = None, **fields: Any) -> None:
        if joint is not None:
            fields["devices"] = [ROBOT.joint(joint).bus_id]
        self.control.fault(kind, **fields)

    def unplug(self) -> None:
        """Pull the host's adapter. In lockstep a wire looks at its faults when time passes."""
        self.spoiled = True
        self.control.fault("unplug")
        self.clock.sleep_until(self.clock.now() + 0.001)
        time.sleep(0.05)

    def impatient(self, margin_s: float = 0.05) -> None:
        """From here on answers are missing on purpose."""
        self.bus.port.serial.margin_s = margin_s

    def close(self) -> None:
        if self.hardware is not None:
            logging.getLogger("cadenza").setLevel(logging.CRITICAL)
            try:
                self.control.clear_faults()
                self.hardware.close()
            finally:
                logging.getLogger("cadenza").setLevel(logging.NOTSET)
        self.port.close()


class SharedOp3:
    """One process for the tests of a file, which find the robot as after power-on; EEPROM keeps what it was given."""

    def __init__(self) -> None:
        self.emulator: Spawned | None = None
        self._logged = 0

    def power_cycled(self, margin_s: float = 0.3) -> WiredOp3:
        if self.emulator is None:
            self.emulator = start(Order("dynamixel", robot="op3", hung_up=True, lockstep=True))
            self._logged = 0
        else:
            control = self.emulator.control
            control.clear_faults()
            control.set(supply_v=0.0)
            control.ask("advance", by_s=0.3)
            control.set(supply_v=12.0)
            control.set(temperature_c=25.0)
        robot = WiredOp3(self.emulator, margin_s, self._logged)
        robot.turn_to(HOME)
        robot.advance(0.3)
        return robot

    def give_back(self, robot: WiredOp3) -> None:
        robot.close()
        self._logged = robot.mark()
        if robot.spoiled:
            self.stop()

    def stop(self) -> None:
        if self.emulator is not None:
            self.emulator.stop()
            self.emulator = None


def command(q: Array | float, kp: Array | None = None) -> JointCommand:
    """A policy's, with the gains of the joint table."""
    return JointCommand.hold(np.zeros(len(HOME)) + q, KP if kp is None else kp, 0.0)
