"""Emulated DYNAMIXELs in this process, in lockstep, spoken to in bytes without a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cadenza.robots.hardware.emulators import dynamixel_packet as wire
from cadenza.robots.hardware.emulators.dynamixel_bus import DynamixelBus
from cadenza.robots.hardware.emulators.dynamixel_firmware import DynamixelFirmware
from cadenza.robots.hardware.emulators.dynamixel_packet import Instruction
from cadenza.robots.hardware.emulators.launch import Order, build
from cadenza.robots.hardware.emulators.wire import SerialWire
from cadenza.robots.hardware.emulators.world import World

REGISTERS = {
    "id": (7, 1), "baud_rate": (8, 1), "drive_mode": (10, 1), "operating_mode": (11, 1), "secondary_id": (12, 1),
    "homing_offset": (20, 4), "min_voltage_limit": (34, 2), "current_limit": (38, 2), "max_position_limit": (48, 4),
    "shutdown": (63, 1), "torque_enable": (64, 1), "led": (65, 1), "status_return_level": (68, 1),
    "registered_instruction": (69, 1), "hardware_error_status": (70, 1), "velocity_p_gain": (78, 2),
    "position_d_gain": (80, 2), "position_i_gain": (82, 2), "position_p_gain": (84, 2), "bus_watchdog": (98, 1),
    "goal_pwm": (100, 2), "goal_current": (102, 2), "goal_velocity": (104, 4), "profile_acceleration": (108, 4),
    "profile_velocity": (112, 4), "goal_position": (116, 4), "realtime_tick": (120, 2), "moving": (122, 1),
    "moving_status": (123, 1), "present_pwm": (124, 2), "present_current": (126, 2), "present_velocity": (128, 4),
    "present_position": (132, 4), "velocity_trajectory": (136, 4),
    "present_input_voltage": (144, 2), "present_temperature": (146, 1),
}  # fmt: skip


class Bench:
    """Servos and whoever speaks to them."""

    def __init__(self, **order: Any):
        self.world: World = build(Order("dynamixel", lockstep=True, **order))
        (line,) = self.world.wires
        assert isinstance(line, SerialWire)
        self.line = line
        assert isinstance(line.bus, DynamixelBus)
        self.bus: DynamixelBus = line.bus
        self.baud = self.bus.listening()

    @property
    def firmware(self) -> DynamixelFirmware:
        (found,) = (one for one in self.world._firmware if isinstance(one, DynamixelFirmware))
        return found

    def close(self) -> None:
        self.world.stop()

    def run(self, seconds: float) -> None:
        self.world.advance(self.world.now_s + seconds)

    def send(self, bus_id: int, do: int, data: bytes = b"", baud: int | None = None) -> list[bytes]:
        """Raw replies."""
        return [reply.data for reply, _ in self.bus.hear(wire.build(bus_id, do, data), baud or self.baud)]

    def ask(self, bus_id: int, do: int, data: bytes = b"") -> tuple[int, bytes]:
        """Error byte and data of the one reply."""
        (reply,) = self.send(bus_id, do, data)
        packet = wire.parse(reply)
        assert packet is not None
        assert packet.bus_id == bus_id
        assert packet.instruction == Instruction.STATUS
        return packet.parameters[0], packet.parameters[1:]

    def error_and_value(self, name: str, bus_id: int = 1) -> tuple[int, int]:
        address, size = REGISTERS[name]
        error, data = self.ask(bus_id, Instruction.READ, bytes([address, 0, size, 0]))
        return error, int.from_bytes(
            data, "little", signed=name.startswith(("present_p", "present_v", "present_c", "velocity_t"))
        )

    def get(self, name: str, bus_id: int = 1) -> int:
        return self.error_and_value(name, bus_id)[1]

    def put(self, name: str, value: int, bus_id: int = 1) -> int:
        """The error byte."""
        address, size = REGISTERS[name]
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        return self.ask(bus_id, Instruction.WRITE, bytes([address, 0]) + data)[0]

    def mode(self, code: int) -> None:
        """Torque off, mode, torque on."""
        assert self.put("torque_enable", 0) == 0
        assert self.put("operating_mode", code) == 0
        assert self.put("torque_enable", 1) == 0


def sync_read(address: int, count: int, ids: Sequence[int]) -> bytes:
    return bytes([address, 0, count, 0, *ids])
