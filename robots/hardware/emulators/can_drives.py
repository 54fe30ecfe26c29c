"""What emulated drives with an "MIT mode" share: five numbers in, one feedback out, and a watchdog of the host.

torque = kp (p - q) + kd (v - dq) + t, within the drive's peak torque, in MuJoCo on the shaft. A drive that has had no
frame for its timeout switches itself off and stays so. It watches only while it has torque, and any frame to it counts:
both are assumptions, neither maker's manual says.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.description import Joint
from cadenza.robots.hardware import can_motors
from cadenza.robots.hardware.emulators.can_wire import CanDevices, CanWire, open_channel
from cadenza.robots.hardware.emulators.launch import Order, fault_plan, plant_for
from cadenza.robots.hardware.emulators.servo import ServoBank
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.motors import MOTORS, joint

Array = NDArray[np.float64]

TICK_S = 50e-6
"""Unit of both makers' timeouts."""


def to_code(value: float, low: float, high: float, bits: int) -> int:
    """A value as a share of its range, truncated."""
    share = (max(low, min(high, value)) - low) / (high - low)
    return math.floor(share * (2**bits - 1) + 1e-9)


def from_code(code: int, low: float, high: float, bits: int) -> float:
    """The inverse."""
    return low + (high - low) * code / (2**bits - 1)


class MitDrives(CanDevices):
    """All drives of one maker in a world; a :class:`Firmware` too.

    Args:
        world: with the plant.
        rows: which of the plant's motors; None: all.
    """

    def __init__(self, world: World, rows: Sequence[int] | None = None):
        self.world = world
        self.bank = bank = ServoBank(world, rows)
        n = bank.n
        self.on = np.zeros(n, dtype=bool)
        """Torque."""
        self.goal = np.zeros((5, n))
        """p, v, kp, kd, t of the last command."""
        self.zero_rad = np.zeros(n)
        """Shaft angle that the drive calls 0."""
        self.heard_s = np.zeros(n)
        self.trips = np.zeros(n, dtype=np.int64)
        self.stack_v = np.array([MOTORS[row.motor].voltage_range_v for row in bank.joints])

    # ------------------------------------------------------------------ Firmware

    def tick(self, now_s: float, dt_s: float) -> None:
        for index in self.bank.tick(now_s, dt_s):
            self.restart(index)
        timeout = self.timeout_s()
        with np.errstate(invalid="ignore"):
            tripped = self.on & (timeout > 0) & (now_s + dt_s - self.heard_s > timeout + 1e-9)
        for lost in np.flatnonzero(tripped):
            self.trips[lost] += 1
            self.switch_off(int(lost))
            self.trip(int(lost))
        self.protect()
        self.bank.power(self.on)
        p, v, kp, kd, t = self.goal
        self.bank.command(p + self.zero_rad, kp, self.bank.stall_nm, kd=kd, goal_rad_s=v, tau_nm=t)

    def motors(self) -> list[dict[str, Any]]:
        return [
            {
                **truth, "watchdog": int(self.trips[i]), "goal": [float(x) for x in self.goal[:, i]], **self.more(i),
            }
            for i, truth in enumerate(self.bank.truth())
        ]  # fmt: skip

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        if name == "angle_rad" and bus_id in self.bank.bus_ids:
            self.turn(self.bank.bus_ids.index(bus_id), value)
            return True
        return self.bank.set_motor(bus_id, name, value)

    # ------------------------------------------------------------------ for the makers' protocols

    @abstractmethod
    def timeout_s(self) -> Array:
        """Of each drive's watchdog, s; 0: none."""

    @abstractmethod
    def trip(self, index: int) -> None:
        """Its watchdog has just switched it off."""

    @abstractmethod
    def protect(self) -> None:
        """Switch off drives that are too hot, overloaded or have a wrong supply."""

    @abstractmethod
    def restart(self, index: int) -> None:
        """As after power-on."""

    @abstractmethod
    def more(self, index: int) -> dict[str, Any]:
        """What else the control socket's ``state`` tells of a drive."""

    def switch_on(self, index: int) -> None:
        """Torque on, with nothing asked for yet."""
        self.goal[:, index] = 0.0
        self.goal[0, index] = self.angle(index)
        self.on[index] = True
        self.heard_s[index] = self.world.now_s
        self._apply()

    def switch_off(self, index: int) -> None:
        """Torque off."""
        self.on[index] = False
        self._apply()

    def _apply(self) -> None:
        self.bank.power(self.on)

    def angle(self, index: int) -> float:
        """As its encoder has it, about its own zero."""
        return float(self.bank.measured_rad()[index] - self.zero_rad[index])

    def turn(self, index: int, angle_rad: float) -> None:
        """A hand puts the shaft elsewhere, at rest."""
        bank, plant = self.bank, self.world.plant
        row = int(bank.rows[index])
        adr = int(plant.model.joint(bank.joints[index].name).qposadr[0])
        dof = int(plant.model.joint(bank.joints[index].name).dofadr[0])
        plant.data.qpos[adr] = bank.zero_rad[index] + bank.sign[index] * angle_rad
        plant.data.qvel[dof] = 0.0
        plant.goal[row] = plant.data.qpos[adr]

    def index_of(self, bus_id: int) -> int | None:
        """Which drive has that id; None where none has, or it has no supply."""
        if bus_id not in self.bank.bus_ids:
            return None
        index = self.bank.bus_ids.index(bus_id)
        return None if self.bank.cut[index] else index


def bench_row(motor: str, bus_id: int) -> Joint:
    """A drive on a bench."""
    return joint(f"motor_{bus_id}", motor, bus_id, (-12.5, 12.5))


def build_world(order: Order, usual_motor: str) -> World:
    """The ordered world, without devices yet."""
    known = [motor.name for motor in can_motors.CAN_MOTORS]
    if order.motor is not None and order.motor not in MOTORS:
        raise HardwareError(f"There is no motor named {order.motor!r}.", f"On CAN: {', '.join(known)}.")
    plant = plant_for(order, bench_row, usual_motor)
    return World(plant, lockstep=order.lockstep, faults=fault_plan(order), held=order.held)


def attach(world: World, drives: MitDrives, order: Order) -> World:
    """Add the drives and the wire that the order describes."""
    world.add(drives)
    channel = open_channel(order.interface, order.channel, order.link)
    world.attach(CanWire(world, drives, channel, order.baud or 1_000_000))
    return world


def given_ranges(order: Order, count: int) -> tuple[float, ...] | None:
    """``order.more["ranges"]``: that many numbers, in a list or with commas between them.

    Raises:
        HardwareError: something else, or something unknown in ``more``.
    """
    unknown = ", ".join(sorted(set(order.more) - {"ranges"}))
    if unknown:
        raise HardwareError(f"Emulated {order.kind} drives know no {unknown}.", "There are: ranges.")
    given = order.more.get("ranges")
    if given is None:
        return None
    try:
        numbers = tuple(float(part) for part in (given.split(",") if isinstance(given, str) else given))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(0 < number < math.inf for number in numbers):
        raise HardwareError(f"{given!r} are no ranges.", f"Give {count} positive numbers, e.g. 12.5,30,10.")
    return numbers
