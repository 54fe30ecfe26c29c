"""Emulated DYNAMIXELs: the OP3 with its sub-controller, one of its joints, or servos on a bench.

Built by :func:`build` from an order; see ``launch.py``. The parts: ``dynamixel_packet`` (bytes), ``dynamixel_table``
and ``dynamixel_memory`` (registers), ``dynamixel_firmware`` and ``dynamixel_profile`` (what the servos do),
``dynamixel_bus`` (who answers), ``opencr``.
"""

from __future__ import annotations

from pathlib import Path

from cadenza.robots.hardware.emulators.dynamixel_bus import Device, DynamixelBus, Servo
from cadenza.robots.hardware.emulators.dynamixel_firmware import DynamixelFirmware
from cadenza.robots.hardware.emulators.dynamixel_table import BAUD, MODELS, bench_row, model_named
from cadenza.robots.hardware.emulators.launch import Order, fault_plan, plant_for, robot_for
from cadenza.robots.hardware.emulators.opencr import OpenCR
from cadenza.robots.hardware.emulators.wire import SerialWire
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError

USUAL_MOTOR = "XM430-W350"
USUAL_BAUD = {True: 2_000_000, False: 1_000_000}
"""Of a whole robot (OP3.robot), and of a bench."""
_KNOWN = {"opencr", "powered", "return_delay", "gain"}


def build(order: Order) -> World:
    """Servos, for a whole robot with its sub-controller, on one wire.

    ``order.more``: ``opencr`` (True for a whole OP3), ``powered`` (False: servos have power without the sub-controller
    being told), ``return_delay`` (register 9, 250 as delivered), ``gain`` (1: what the position gain really does,
    relative to robots/motors.py; for identification).

    Raises:
        HardwareError: no such robot, joint, model or baud rate.
    """
    unknown = set(order.more) - _KNOWN
    if unknown:
        raise HardwareError(
            f"Emulated DYNAMIXELs know no {', '.join(sorted(unknown))}.", f"There are: {', '.join(sorted(_KNOWN))}."
        )
    robot = robot_for(order)
    whole = robot is not None and order.joint is None
    rate = order.baud or USUAL_BAUD[whole]
    code = next((code for code, bits in BAUD.items() if bits == rate), None)
    if code is None:
        raise HardwareError(
            f"A DYNAMIXEL has no baud rate {rate:,}.", f"There are: {', '.join(f'{b:,}' for b in BAUD.values())}."
        )
    plant = plant_for(order, bench_row, USUAL_MOTOR)
    strange = sorted({row.motor for row in plant.joints} - set(MODELS))
    if strange:
        raise HardwareError(
            f"The motors of {order.robot} are no DYNAMIXELs: {', '.join(strange)}.",
            "Of the humanoids only op3 has DYNAMIXELs.",
        )
    world = World(plant, lockstep=order.lockstep, faults=fault_plan(order), held=order.held)
    models = [model_named(row.motor) for row in plant.joints]
    firmware = DynamixelFirmware(world, models, baud=code, gain=float(order.more.get("gain", 1.0)))
    delay = int(order.more.get("return_delay", 250))
    firmware.map(lambda memory: memory.set("return_delay_time", delay))
    world.add(firmware)
    devices: list[Device] = [Servo(firmware, i) for i in range(firmware.n)]
    if order.more.get("opencr", whole):
        board = OpenCR(world, firmware.bank, code)
        if order.more.get("powered"):
            board.write(24, b"\1")
            firmware.bank.cut[:] = False
        world.add(board)
        devices.append(board)
    world.attach(
        SerialWire(world, DynamixelBus(world, devices), link=Path(order.link) if order.link else None, name="dynamixel")
    )
    return world
