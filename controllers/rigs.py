"""What a policy can be deployed on: a simulation, an emulated robot in another process, or motors on a wire.

Only this module and tests know both drivers and emulators.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.held_plant import LOWERING_S, HeldPlant
from cadenza.robots.description import LeggedRobot
from cadenza.robots.hardware.calibration import Calibration
from cadenza.robots.hardware.clock import Clock, RealClock, VirtualClock
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.joint_map import MappedBuses, motor_settings
from cadenza.robots.hardware.joint_port import JointPort
from cadenza.robots.hardware.opening import SERIAL_BAUD, open_bus, parse_spec

if TYPE_CHECKING:
    from cadenza.robots.hardware.emulators.launch import Spawned
    from cadenza.robots.hardware.plant import Plant

Array = NDArray[np.float64]
SIM, EMULATED = "sim", "emulated"

LOCKSTEP_MARGIN_S = 1.0
"""Of an answer in lockstep, where no time passes meanwhile: however busy the machine is, nothing is late."""
SETUP_MARGIN_S, DRIVING_MARGIN_S = 0.5, 0.008
"""The same in real time, while motors are set up and while they are driven: two processes of one machine take turns,
which set-up must not fail for; but a tick has 20 ms."""
PERIOD_S, READ_SHARE = 0.02, 0.5
"""Of a tick, which a reading may take with all that is asked again."""
_EMULATOR_PRIORITY = 40


@dataclass(eq=False)
class Rig:
    """A robot to be driven, not yet connected."""

    port: JointPort
    clock: Clock
    label: str
    """For logs and titles."""
    calibration: Calibration
    virtual: bool
    """No real motor can move."""
    imu: bool
    put_down: Callable[[], float]
    """Lower the robot to its feet; how long that takes, s. Does nothing where somebody else holds it."""
    hurry: Callable[[bool], None] = lambda driving: None
    """Tell it that the robot is being driven now, or no longer: how long an answer may take depends on it."""
    emulator: Spawned | None = None
    plant: Plant | None = None
    """Of a simulation in this process."""


@contextlib.contextmanager
def open_rig(
    bus: str,
    robot: LeggedRobot,
    *,
    lockstep: bool = False,
    hung_up: bool = False,
    faults: str | Path | None = None,
    calibration: str | Path | None = None,
    seed: int = 0,
) -> Iterator[Rig]:
    """A block with a robot that is there.

    Args:
        bus: ``sim``, ``emulated``, or a bus of :mod:`cadenza.robots.hardware.opening`, e.g. ``dynamixel:/dev/ttyUSB0``.
        robot: its joint table.
        lockstep: time passes only as the loop says; for the first two.
        hung_up: its base is fixed in the air, for the first two. Otherwise a gantry holds the robot until it is at
            home, as somebody has to hold a real one.
        faults: a fault plan for the emulators.
        calibration: file of this unit; needed for real motors.
        seed: of the emulator's own randomness.

    Raises:
        HardwareError: something is not there, or does not go together.
        RefusedError: real motors without a calibration file, or the file does not fit.
    """
    if lockstep and bus not in (SIM, EMULATED):
        raise HardwareError("Only simulated and emulated motors wait for the loop.", "Leave --lockstep away.")
    if faults is not None and bus != EMULATED:
        raise HardwareError("Only emulated motors take a fault plan.", "Use --bus emulated with --faults.")
    if hung_up and bus not in (SIM, EMULATED):
        raise HardwareError("Only simulated and emulated robots can be hung up.", "Leave --hung-up away.")
    unit = Calibration.load(calibration, robot) if calibration is not None else Calibration.for_robot(robot)
    if bus == SIM:
        yield _sim(robot, unit, lockstep, hung_up)
        return
    if bus == EMULATED:
        with _spawned(robot, lockstep, hung_up, faults, seed) as emulator:
            # No baud in the spec: emulated servos and the driver both take what is usual for the kind.
            clock: Clock = VirtualClock() if lockstep else RealClock()
            if isinstance(clock, VirtualClock):
                clock.followers.append(emulator.control.advance)
            kind = emulator_kind(robot)
            margin_s = LOCKSTEP_MARGIN_S if lockstep else SETUP_MARGIN_S
            rig = wired(f"{kind}:{emulator.port}", robot, unit, clock, emulated=True, margin_s=margin_s)
            rig.label, rig.virtual, rig.emulator = f"emulated {kind}", True, emulator
            if not hung_up:
                rig.put_down = lambda: _release(emulator)
            yield rig
        return
    parse_spec(bus)
    if calibration is None:
        raise RefusedError(
            f"Real motors need the calibration file of this {robot.title}.",
            "Make one: cadenza calibrate --help. Then name it with --calibration FILE.",
        )
    yield wired(bus, robot, unit, RealClock())


def emulator_kind(robot: LeggedRobot) -> str:
    """Which emulator speaks like a robot's motors.

    Raises:
        HardwareError: there is none.
    """
    motors = {row.motor for row in robot.joints}
    for prefixes, kind in ((("XM", "XL", "XC", "XH"), "dynamixel"), (("STS",), "feetech"), (("DM",), "damiao")):
        if all(motor.startswith(prefixes) for motor in motors):
            return kind
    raise HardwareError(
        f"No emulator speaks like the motors of {robot.title} ({', '.join(sorted(motors))}).",
        "Use --bus sim.",
    )


def _sim(robot: LeggedRobot, calibration: Calibration, lockstep: bool, hung_up: bool) -> Rig:
    from cadenza.robots.hardware.plant import Plant
    from cadenza.robots.hardware.sim import SimPort

    clock: Clock = VirtualClock() if lockstep else RealClock()
    plant = Plant.of_robot(robot, hung_up=True) if hung_up else HeldPlant.of_robot(robot)
    port = SimPort(robot, plant, clock)
    put_down: Callable[[], float] = lambda: 0.0  # noqa: E731
    if isinstance(plant, HeldPlant):
        put_down = plant.put_down
    return Rig(port, clock, "simulation", calibration, True, True, put_down, plant=plant)


def wired(
    spec: str,
    robot: LeggedRobot,
    calibration: Calibration,
    clock: Clock,
    *,
    emulated: bool = False,
    margin_s: float | None = None,
) -> Rig:
    """Motors on one wire, with the OP3's sub-controller where there is one.

    Args:
        spec: a bus of :mod:`cadenza.robots.hardware.opening`.
        robot: its joint table.
        calibration: of the unit.
        clock: the machine's, or a virtual one.
        emulated: the inertial unit is an emulated one.
        margin_s: how long an answer may take beyond its time on the wire; None takes the port's own.
    """
    parsed = parse_spec(spec)
    more: dict[str, Any] = {"margin_s": margin_s} if margin_s is not None and parsed.kind in SERIAL_BAUD else {}
    bus: Any = open_bus(parsed, motor_settings(robot, calibration), clock, **more)
    imu: Any = None
    power_on: Callable[[], None] | None = None
    if robot.name == "op3" and parsed.kind == "dynamixel":
        from cadenza.robots.hardware.dynamixel.opencr import AS_BOARD, HALF_TURNED, OpenCr

        imu = OpenCr(bus.port, clock, axes=AS_BOARD if emulated else HALF_TURNED)

        def power_on() -> None:
            """The servos have no supply before; their torque stays off."""
            imu.connect()
            if not imu.powered():
                imu.switch_power(True)

    serial = getattr(bus.port, "serial", bus.port) if parsed.kind in SERIAL_BAUD else None
    within = {} if serial is None else {"within": serial.within}
    port = MappedBuses(robot, [bus], calibration, clock, imu, before_connect=power_on, **within)
    rig = Rig(port, clock, spec, calibration, False, imu is not None, lambda: 0.0)
    if serial is not None and isinstance(clock, RealClock):
        rig.hurry = lambda driving: _hurry(port, serial, margin_s, driving)
    return rig


def _hurry(port: MappedBuses, serial: Any, margin_s: float | None, driving: bool) -> None:
    """Answers are waited for as long as a tick has time for, or as long as set-up likes."""
    port.budget_s = READ_SHARE * PERIOD_S if driving else math.inf
    if margin_s is not None:
        serial.margin_s = min(margin_s, DRIVING_MARGIN_S) if driving else margin_s


@contextlib.contextmanager
def _spawned(
    robot: LeggedRobot, lockstep: bool, hung_up: bool, faults: str | Path | None, seed: int
) -> Iterator[Spawned]:
    from cadenza.robots.hardware.emulators.launch import Order, spawn

    order = Order(
        emulator_kind(robot), robot=robot.name, hung_up=hung_up, held=not hung_up, lockstep=lockstep,
        faults=None if faults is None else str(faults), seed=seed,
    )  # fmt: skip
    with spawn(order) as emulator:
        if not lockstep:
            as_punctual_as_a_motor(emulator.process.pid)
        yield emulator


def as_punctual_as_a_motor(pid: int) -> None:
    """Real-time scheduling for all threads of an emulator, just below the loop's; nothing where it is not permitted."""
    with contextlib.suppress(OSError, AttributeError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(_EMULATOR_PRIORITY))


def _release(emulator: Spawned) -> float:
    emulator.control.release()
    return LOWERING_S
