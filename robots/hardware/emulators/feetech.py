"""``cadenza emulate feetech``: a world of STS3215s behind one serial port; see launch.py."""

from __future__ import annotations

import math
from pathlib import Path

from cadenza.robots.description import Joint
from cadenza.robots.hardware.emulators.feetech_bus import FeetechSerialBus
from cadenza.robots.hardware.emulators.feetech_firmware import FeetechServos
from cadenza.robots.hardware.emulators.feetech_table import BAUD
from cadenza.robots.hardware.emulators.launch import Order, fault_plan, plant_for
from cadenza.robots.hardware.emulators.wire import SerialWire
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.motors import joint

USUAL_MOTOR = "STS3215-12V"
_KNOWN = {"gain"}


def bench_row(motor: str, bus_id: int) -> Joint:
    """A servo on a bench, free within its turn."""
    return joint(f"motor_{bus_id}", motor, bus_id, (-math.pi, math.pi))


def build(order: Order) -> World:
    """The world that is ordered. ``order.more`` may hold ``gain``: what the P coefficient really does, relative to
    robots/motors.py, for identification.

    Raises:
        HardwareError: other motors than STS servos, a rate that they do not have, or something unknown in ``more``.
    """
    if set(order.more) - _KNOWN:
        unknown = ", ".join(sorted(set(order.more) - _KNOWN))
        raise HardwareError(f"Emulated Feetech servos know no {unknown}.", f"There are: {', '.join(sorted(_KNOWN))}.")
    plant = plant_for(order, bench_row, USUAL_MOTOR)
    wrong = sorted({row.motor for row in plant.joints if not row.motor.startswith("STS")})
    if wrong:
        raise HardwareError(
            f"{', '.join(wrong)} is no Feetech servo.", "cadenza emulate feetech --motor STS3215-12V --ids 1 2 3"
        )
    world = World(plant, lockstep=order.lockstep, faults=fault_plan(order), held=order.held)
    servos = FeetechServos(world, gain=float(order.more.get("gain", 1.0)))
    if order.baud is not None:
        if order.baud not in BAUD:
            raise HardwareError(
                f"STS servos do not have {order.baud:,} bit/s.", f"They have {', '.join(f'{rate:,}' for rate in BAUD)}."
            )
        for memory in servos.memories:
            memory.put("BAUD", BAUD.index(order.baud), keep=True)
    world.add(servos)
    world.attach(
        SerialWire(world, FeetechSerialBus(servos), link=Path(order.link) if order.link else None, name="feetech")
    )
    return world
