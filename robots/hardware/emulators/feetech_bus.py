"""Emulated Feetech servos on one serial wire: which instruction reaches whom, and who answers what."""

from __future__ import annotations

from collections.abc import Callable

from cadenza.robots.hardware.emulators import feetech_codec as codec
from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.feetech_firmware import MIDDLE, FeetechServos
from cadenza.robots.hardware.emulators.wire import Reply, SerialBus


class FeetechSerialBus(SerialBus):
    """The half-duplex bus of some servos.

    Args:
        servos: the firmware of all of them.
    """

    def __init__(self, servos: FeetechServos):
        super().__init__(servos.world)
        self.servos = servos
        self._single: dict[int, Callable[[int, bytes], bytes | None]] = {
            codec.PING: lambda index, _: b"",
            codec.READ: self._read,
            codec.WRITE: self._write,
            codec.REG_WRITE: self._reg_write,
            codec.ACTION: self._action,
            codec.RECOVER: self._recover,
            codec.RESTART: self._restart,
            codec.RESET: lambda index, _: b"",
            codec.CALIBRATE: self._calibrate,
        }

    def cut(self, waiting: bytearray) -> bytes | None:
        """See :class:`SerialBus`."""
        return codec.cut(waiting)

    def listening(self) -> int:
        """See :class:`SerialBus`."""
        rates = [self.servos.baud(index) for index in range(self.servos.bank.n)]
        return max(set(rates), key=rates.count, default=1_000_000)

    def answer(self, heard: Heard, baud: int) -> list[Reply]:
        """See :class:`SerialBus`."""
        asked = codec.parse(heard.data)
        if asked is None:
            return []
        servos = self.servos
        listeners = {
            bus_id: index
            for index, bus_id in enumerate(servos.bank.bus_ids)
            if servos.alive(index) and servos.baud(index) == baud and heard.reaches(bus_id)
        }
        if asked.code == codec.SYNC_READ:
            return self._sync_read(listeners, asked.parameters)
        if asked.code == codec.SYNC_WRITE:
            return self._sync_write(listeners, asked.parameters)
        if asked.code not in self._single:
            return []
        if asked.bus_id == codec.BROADCAST:
            replies = [self._obey(index, bus_id, asked) for bus_id, index in listeners.items()]
            return _collide([one for one in replies if one]) if asked.code == codec.PING else []
        index = listeners.get(asked.bus_id, -1)
        reply = self._obey(index, asked.bus_id, asked) if index >= 0 else None
        return [reply] if reply else []

    def _obey(self, index: int, bus_id: int, asked: codec.Instruction) -> Reply | None:
        data = self._single[asked.code](index, asked.parameters)
        quiet = self.servos.memories[index].get("RESPONSE") == 0 and asked.code not in (codec.PING, codec.READ)
        return None if data is None or quiet else self._reply(index, bus_id, data)

    def _reply(self, index: int, bus_id: int, data: bytes) -> Reply:
        delay_s = 2e-6 * self.servos.memories[index].get("DELAY")
        return Reply(codec.packet(bus_id, self.servos.error(index), data), bus_id, delay_s)

    # ------------------------------------------------------------------ instructions; None: no status packet

    def _read(self, index: int, parameters: bytes) -> bytes | None:
        if len(parameters) != 2:
            return None
        return self.servos.read(index, parameters[0], parameters[1])

    def _write(self, index: int, parameters: bytes) -> bytes | None:
        if len(parameters) < 2:
            return None
        self.servos.write(index, parameters[0], parameters[1:])
        return b""

    def _reg_write(self, index: int, parameters: bytes) -> bytes | None:
        if len(parameters) < 2:
            return None
        self.servos.pending[index] = (parameters[0], parameters[1:])
        return b""

    def _action(self, index: int, _: bytes) -> bytes | None:
        waiting, self.servos.pending[index] = self.servos.pending[index], None
        if waiting is not None:
            self.servos.write(index, *waiting)
        return b""

    def _recover(self, index: int, _: bytes) -> bytes | None:
        self.servos.recover(index)
        return b""

    def _restart(self, index: int, _: bytes) -> bytes | None:
        self.servos.restart(index)
        return None

    def _calibrate(self, index: int, parameters: bytes) -> bytes | None:
        if len(parameters) not in (0, 2):
            return None
        self.servos.calibrate(index, int.from_bytes(parameters, "little") if parameters else MIDDLE)
        return b""

    def _sync_read(self, listeners: dict[int, int], parameters: bytes) -> list[Reply]:
        address, size = parameters[:2] if len(parameters) >= 2 else (0, 0)
        return [
            self._reply(listeners[bus_id], bus_id, self.servos.read(listeners[bus_id], address, size))
            for bus_id in parameters[2:]
            if bus_id in listeners
        ]

    def _sync_write(self, listeners: dict[int, int], parameters: bytes) -> list[Reply]:
        if len(parameters) < 2 or (len(parameters) - 2) % (parameters[1] + 1):
            return []
        address, size = parameters[:2]
        for start in range(2, len(parameters), size + 1):
            if parameters[start] in listeners:
                self.servos.write(listeners[parameters[start]], address, parameters[start + 1 : start + 1 + size])
        return []


def _collide(replies: list[Reply]) -> list[Reply]:
    """All at once on one wire, where a 0 wins: what a broadcast ping of several servos gives."""
    if len(replies) < 2:
        return replies
    merged = bytes(_wired_and(column) for column in zip(*(one.data for one in replies), strict=True))
    return [Reply(merged, replies[0].bus_id, replies[0].delay_s)]


def _wired_and(values: tuple[int, ...]) -> int:
    found = 0xFF
    for value in values:
        found &= value
    return found
