"""The DYNAMIXEL wire: who hears an instruction, what is done, who answers what and in which order.

Source: ROBOTIS e-manual, "Protocol 2.0" (instructions, status return level, fast reads) and "Secondary(Shadow) ID".
A packet with a wrong checksum that names one device is answered by it with a CRC error. Where two devices have the same
id they answer at once and the bytes mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cadenza.robots.hardware.emulators import dynamixel_packet as wire
from cadenza.robots.hardware.emulators.dynamixel_firmware import DynamixelFirmware
from cadenza.robots.hardware.emulators.dynamixel_packet import ALERT, BROADCAST, Failure, Instruction
from cadenza.robots.hardware.emulators.dynamixel_table import BAUD
from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.wire import Reply, SerialBus
from cadenza.robots.hardware.emulators.world import World

_DELAY_UNIT_S = 2e-6


class Device(Protocol):
    """One device on the wire."""

    @property
    def bus_id(self) -> int: ...
    @property
    def secondary_id(self) -> int:
        """255 where it has none."""

    @property
    def baud(self) -> int:
        """bit/s."""

    @property
    def delay_s(self) -> float:
        """Return delay."""

    @property
    def answers(self) -> int:
        """Status return level: 0 ping, 1 and read, 2 and everything."""

    @property
    def identity(self) -> bytes:
        """Model number and firmware, three bytes."""

    @property
    def knows_fast(self) -> bool:
        """Whether it knows Fast Sync Read and Fast Bulk Read."""

    def awake(self) -> bool:
        """Whether it has power and has booted."""

    def alert(self) -> bool:
        """Whether a hardware error is reported."""

    def hear(self) -> None:
        """Some instruction came by; feeds its watchdog."""

    def read(self, address: int, count: int) -> tuple[Failure, bytes]: ...
    def write(self, address: int, data: bytes) -> Failure: ...
    def register(self, address: int, data: bytes) -> Failure:
        """Keep a write for Action."""

    def action(self) -> Failure: ...
    def clear(self, parameters: bytes) -> Failure: ...
    def factory_reset(self, option: int) -> Failure: ...
    def reboot(self) -> Failure: ...
    def locked_for_secondary(self, address: int, count: int) -> bool:
        """Whether these lie where a write to the secondary id does not reach."""


class Servo:
    """One servo of a firmware, as a device.

    Args:
        firmware: it runs.
        index: there.
    """

    knows_fast = True

    def __init__(self, firmware: DynamixelFirmware, index: int):
        self._firmware, self._i = firmware, index
        self._memory = firmware.memories[index]

    @property
    def bus_id(self) -> int:
        return self._memory.bytes[7]

    @property
    def secondary_id(self) -> int:
        return self._memory.bytes[12]

    @property
    def baud(self) -> int:
        return BAUD[self._memory.bytes[8]]

    @property
    def delay_s(self) -> float:
        return self._memory.bytes[9] * _DELAY_UNIT_S

    @property
    def answers(self) -> int:
        return self._memory.bytes[68]

    @property
    def identity(self) -> bytes:
        return bytes(self._memory.bytes[0:2]) + bytes(self._memory.bytes[6:7])

    def awake(self) -> bool:
        return self._firmware.awake(self._i)

    def alert(self) -> bool:
        return self._firmware.alert(self._i)

    def hear(self) -> None:
        self._firmware.fed_s[self._i] = self._firmware.world.now_s

    def read(self, address: int, count: int) -> tuple[Failure, bytes]:
        return self._firmware.read(self._i, address, count)

    def write(self, address: int, data: bytes) -> Failure:
        return self._firmware.write(self._i, address, data)

    def register(self, address: int, data: bytes) -> Failure:
        failure = self._firmware.check_write(self._i, address, data)
        if not failure:
            self._firmware.registered[self._i] = (address, data)
        return failure

    def action(self) -> Failure:
        kept = self._firmware.registered[self._i]
        if kept is None:
            return Failure.INSTRUCTION
        self._firmware.registered[self._i] = None
        return self.write(*kept)

    def clear(self, parameters: bytes) -> Failure:
        if parameters != b"\x01\x44\x58\x4c\x22":
            return Failure.RANGE
        self._firmware.refresh()
        if self._memory.get("moving"):
            return Failure.RESULT
        self._firmware.single_turn(self._i)
        self._firmware.goal_to_present(self._i)
        return Failure.NONE

    def factory_reset(self, option: int) -> Failure:
        keep = {0xFF: (), 0x01: ("id",), 0x02: ("id", "baud_rate")}.get(option)
        if keep is None:
            return Failure.RANGE
        self._memory.reset(keep)
        self._firmware.bank.bus_ids[self._i] = self.bus_id
        self._firmware.reboot(self._i)
        return Failure.NONE

    def reboot(self) -> Failure:
        self._firmware.reboot(self._i)
        return Failure.NONE

    def locked_for_secondary(self, address: int, count: int) -> bool:
        return self._memory.touches_eeprom(address, count)


class DynamixelBus(SerialBus):
    """Devices on one half-duplex wire.

    Args:
        world: they live in.
        devices: all of them.
    """

    def __init__(self, world: World, devices: Sequence[Device]):
        super().__init__(world)
        self.devices = list(devices)

    def cut(self, waiting: bytearray) -> bytes | None:
        return wire.cut(waiting)

    def listening(self) -> int:
        return self.devices[0].baud

    # ------------------------------------------------------------------ instructions

    def answer(self, heard: Heard, baud: int) -> list[Reply]:
        there = [one for one in self.devices if heard.reaches(one.bus_id) and one.baud == baud and one.awake()]
        packet = wire.parse(heard.data)
        if packet is None:
            broken = heard.data[4]
            return self._replies(
                [(one, wire.status(one.bus_id, Failure.CRC)) for one in there if one.bus_id == broken and one.answers]
            )
        if packet.instruction == Instruction.STATUS:
            return []
        for one in there:
            one.hear()
        do, data = packet.instruction, packet.parameters
        everyone = packet.bus_id == BROADCAST
        if do in (Instruction.SYNC_READ, Instruction.BULK_READ, Instruction.FAST_SYNC_READ, Instruction.FAST_BULK_READ):
            asked = _sync_list(data) if do in (Instruction.SYNC_READ, Instruction.FAST_SYNC_READ) else _bulk_list(data)
            if not everyone or asked is None:
                return []
            if do in (Instruction.FAST_SYNC_READ, Instruction.FAST_BULK_READ):
                return self._fast(there, asked)
            by_id = _by_id(there)
            found = [(one, self._read(one, at, count)) for i, at, count in asked for one in by_id.get(i, ())]
            return self._replies([(one, sent) for one, sent in found if one.answers >= 1])
        if do in (Instruction.SYNC_WRITE, Instruction.BULK_WRITE):
            if everyone:
                self._write_many(there, data, do == Instruction.SYNC_WRITE)
            return []
        if everyone:
            return self._broadcast(there, do, data)
        named = [one for one in there if one.bus_id == packet.bus_id]
        for one in there:
            if one.secondary_id == packet.bus_id and one not in named:
                self._by_secondary(one, do, data)
        sent = [(one, self._obey(one, do, data)) for one in named]
        return self._replies([(one, answer) for one, answer in sent if answer is not None])

    def _obey(self, one: Device, do: int, data: bytes) -> bytes | None:
        bus_id, level, alert = one.bus_id, one.answers, ALERT if one.alert() else 0
        if do == Instruction.PING:
            return wire.status(bus_id, alert, one.identity)
        if do == Instruction.READ:
            if len(data) != 4:
                return wire.status(bus_id, Failure.LENGTH | alert) if level else None
            answer = self._read(one, int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little"))
            return answer if level >= 1 else None
        failure = self._change(one, do, data)
        # What it answers is as it was asked: with the id, and by the level, from before a write changed them.
        return wire.status(bus_id, failure | alert) if level >= 2 else None

    def _change(self, one: Device, do: int, data: bytes) -> Failure:
        if do in (Instruction.WRITE, Instruction.REG_WRITE):
            if len(data) < 3:
                return Failure.LENGTH
            address = int.from_bytes(data[:2], "little")
            act = one.write if do == Instruction.WRITE else one.register
            return act(address, data[2:])
        if do == Instruction.ACTION:
            return one.action()
        if do == Instruction.CLEAR:
            return one.clear(data)
        if do == Instruction.FACTORY_RESET:
            return one.factory_reset(data[0]) if len(data) == 1 else Failure.LENGTH
        if do == Instruction.REBOOT:
            return one.reboot()
        return Failure.INSTRUCTION

    def _broadcast(self, there: list[Device], do: int, data: bytes) -> list[Reply]:
        if do == Instruction.PING:
            order = sorted(there, key=lambda one: one.bus_id)
            return self._replies([(one, wire.status(one.bus_id, ALERT * one.alert(), one.identity)) for one in order])
        if do == Instruction.READ or (do == Instruction.FACTORY_RESET and data[:1] == b"\xff"):
            return []
        for one in there:
            self._change(one, do, data)
        return []

    def _by_secondary(self, one: Device, do: int, data: bytes) -> None:
        if do in (Instruction.WRITE, Instruction.REG_WRITE) and len(data) >= 3:
            if one.locked_for_secondary(int.from_bytes(data[:2], "little"), len(data) - 2):
                return
            self._change(one, do, data)
        elif do == Instruction.ACTION:
            self._change(one, do, data)

    def _write_many(self, there: list[Device], data: bytes, same: bool) -> None:
        by_id = _by_id(there)
        if same:
            if len(data) < 5:
                return
            address, count = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
            parts = [(data[i], address, data[i + 1 : i + 1 + count]) for i in range(4, len(data), count + 1)]
            parts = [part for part in parts if len(part[2]) == count]
        else:
            parts, i = [], 0
            while i + 5 <= len(data):
                address, count = (
                    int.from_bytes(data[i + 1 : i + 3], "little"),
                    int.from_bytes(data[i + 3 : i + 5], "little"),
                )
                if i + 5 + count <= len(data):
                    parts.append((data[i], address, data[i + 5 : i + 5 + count]))
                i += 5 + count
        for bus_id, at, what in parts:
            for one in by_id.get(bus_id, ()):
                one.write(at, what)

    def _read(self, one: Device, address: int, count: int) -> bytes:
        failure, data = one.read(address, count)
        return wire.status(one.bus_id, failure | (ALERT if one.alert() else 0), data)

    def _fast(self, there: list[Device], asked: list[tuple[int, int, int]]) -> list[Reply]:
        """One packet of all; a device that does not send its part leaves those behind it waiting for ever."""
        parts: list[tuple[int, int, bytes]] = []
        now_s, faults, by_id = self.world.now_s, self.world.faults, _by_id(there)
        delay_s, spoiled = 0.0, False
        for bus_id, address, count in asked:
            one = next((one for one in by_id.get(bus_id, ()) if one.knows_fast and one.answers >= 1), None)
            sends, bad = faults.part_of_reply(bus_id, now_s)
            if one is None or not sends:
                break
            spoiled |= bad
            failure, data = one.read(address, count)
            # A part that is refused is as long as it would have been: assumed, the manual does not say.
            data = data if len(data) == count else bytes(count)
            parts.append((bus_id, failure | (ALERT if one.alert() else 0), data))
            delay_s = one.delay_s if len(parts) == 1 else delay_s
        if not parts:
            return []
        sent = wire.fast_status(parts, [count for _, _, count in asked])
        return [Reply(faults.flip(sent, 1) if spoiled else sent, BROADCAST, delay_s)]

    def _replies(self, sent: list[tuple[Device, bytes]]) -> list[Reply]:
        """Replies in order; devices with one id talk at the same time, and a 0 of either wins."""
        found: list[Reply] = []
        for one, data in sent:
            if found and found[-1].bus_id == one.bus_id:
                last = found[-1].data
                longest = max(len(last), len(data))
                mixed = bytes(
                    a & b for a, b in zip(last.ljust(longest, b"\xff"), data.ljust(longest, b"\xff"), strict=True)
                )
                found[-1] = Reply(mixed, one.bus_id, found[-1].delay_s)
            else:
                found.append(Reply(data, data[4], one.delay_s))
        return found


def _by_id(devices: Sequence[Device]) -> dict[int, list[Device]]:
    found: dict[int, list[Device]] = {}
    for one in devices:
        found.setdefault(one.bus_id, []).append(one)
    return found


def _sync_list(data: bytes) -> list[tuple[int, int, int]] | None:
    if len(data) < 5:
        return None
    address, count = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    return [(bus_id, address, count) for bus_id in data[4:]]


def _bulk_list(data: bytes) -> list[tuple[int, int, int]] | None:
    if len(data) < 5 or len(data) % 5:
        return None
    return [
        (data[i], int.from_bytes(data[i + 1 : i + 3], "little"), int.from_bytes(data[i + 3 : i + 5], "little"))
        for i in range(0, len(data), 5)
    ]
