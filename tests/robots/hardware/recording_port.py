"""A port that keeps everything that was written to it and says what a test wants it to say, and a supervisor on it."""

from __future__ import annotations

import numpy as np

from cadenza.robots import load_humanoid
from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.limits import JointLimits
from cadenza.robots.hardware.safety import Applied, SafetySupervisor
from cadenza.robots.hardware.stopping import stop_policy
from cadenza.robots.hardware.types import (
    Array,
    Capabilities,
    Identity,
    ImuState,
    JointCommand,
    JointState,
    Mode,
    RobotState,
    Sent,
)
from cadenza.robots.motors import MOTORS

SERVO = frozenset({Mode.OFF, Mode.POSITION, Mode.HOLD})
DRIVE = frozenset(Mode)
PERIOD = 0.02
ALL = frozenset({"q", "dq", "tau", "temperature", "voltage"})


class RecordingPort:
    """Joints that stand where ``q`` says, whatever is commanded; ``follow`` makes them jump to each target."""

    def __init__(self, robot: LeggedRobot, modes: frozenset[Mode] = SERVO, *, imu: bool = True, follow: bool = False):
        self.robot, self.joint_names, self.clock = robot, robot.joint_names, VirtualClock()
        self.capabilities = Capabilities(modes, True, 0.02, ALL)
        n = len(robot.joints)
        self.q = np.array([row.home_rad for row in robot.joints])
        self.dq, self.tau, self.age = np.zeros(n), np.zeros(n), np.zeros(n)
        self.temperature = np.full(n, 30.0)
        self.voltage = np.array([MOTORS[row.motor].nominal_voltage_v for row in robot.joints])
        self.fault = np.zeros(n, dtype=np.int64)
        self.gravity, self.imu_age = np.array([0.0, 0.0, -1.0]), 0.0
        self.imu, self.follow = imu, follow
        self.written: list[JointCommand] = []
        self.calls: list[str] = []
        self.powered = False
        self.fails: dict[str, str] = {}
        """Method -> message of the HardwareError that it raises."""
        self.delivers = True
        self.device_goal: Array | None = None
        """What it says it was sent, in place of what was."""

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise HardwareError(self.fails[name])

    def connect(self) -> list[Identity]:
        self._call("connect")
        return [Identity(row.bus_id, row.motor) for row in self.robot.joints]

    def configure(self, mode: Mode, watchdog_s: float) -> None:
        self._call("configure")

    def prove_watchdog(self) -> None:
        self._call("prove_watchdog")

    def activate(self) -> None:
        self._call("activate")
        self.powered = True

    def deactivate(self) -> None:
        self._call("deactivate")
        self.powered = False

    def clear_faults(self) -> None:
        self._call("clear_faults")
        self.fault[:] = 0

    def close(self) -> None:
        self.calls.append("close")

    def read(self) -> RobotState:
        self._call("read")
        values = (self.q, self.dq, self.tau, self.temperature, self.voltage, self.fault, self.age)
        joints = JointState(*(value.copy() for value in values))
        imu = ImuState(np.zeros(3), self.gravity.copy(), self.imu_age) if self.imu else None
        return RobotState(joints, imu, self.clock.now())

    def write(self, command: JointCommand) -> Sent:
        self._call("write")
        assert self.powered, "written to without torque"
        if self.delivers:
            self.written.append(command)
            if self.follow:
                self.q = command.q.copy()
        if self.device_goal is not None:
            zero = np.zeros_like(command.q)
            command = JointCommand(self.device_goal.copy(), zero, zero, zero, zero)
        return Sent(command, self.clock.now(), self.delivers)

    def tick(self, seconds: float = 0.02) -> None:
        """Let time pass."""
        self.clock.sleep_until(self.clock.now() + seconds)


class Bench:
    """A supervisor in the middle of a run."""

    def __init__(self, robot: LeggedRobot | None = None, limits: JointLimits | None = None):
        robot = robot or load_humanoid("op3")
        self.robot = robot
        servos = robot.name == "op3"
        self.mode = Mode.POSITION if servos else Mode.IMPEDANCE
        self.port = RecordingPort(robot, SERVO if servos else DRIVE)
        self.port.powered = True
        self.limits = limits or JointLimits.for_robot(robot)
        self.safety = SafetySupervisor(self.port, robot, self.limits, stop_policy(robot), PERIOD)
        self.home = self.port.q.copy()
        self.kp = np.array([row.kp for row in robot.joints])
        self.kd = np.array([row.kd for row in robot.joints])
        self.safety.observe(self.port.read(), powered=False)
        self.safety.anchor(self.port.q, self.mode)
        self.port.tick(PERIOD)
        self.safety.expect_commands(self.port.clock.now())

    def command(self, q: Array | None = None) -> JointCommand:
        command = JointCommand.hold(self.home if q is None else q, self.kp, self.kd)
        command.mode = self.mode
        return command

    def read(self) -> None:
        self.safety.observe(self.port.read(), powered=True)

    def tick(self, command: JointCommand | None, age_s: float = 0.0) -> Applied:
        self.read()
        applied = self.safety.send(command, age_s=age_s)
        self.port.tick(PERIOD)
        return applied

    def at(self, name: str) -> int:
        return self.robot.joint_names.index(name)
