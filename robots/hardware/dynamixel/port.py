"""DYNAMIXEL Protocol 2.0 on a :class:`SerialPort`: packets by dynamixel-sdk, answers that say what became of each.

The SDK's own ``GroupSyncRead`` gives up at the first motor that does not answer and hides the error byte; the functions
here take the packets from the SDK's packet handler one by one instead, so one lost packet costs one motor's sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cadenza.robots.hardware.bus import BusCounters
from cadenza.robots.hardware.errors import HardwareError, MissingSdkError
from cadenza.robots.hardware.transports.serial import ByteLog, SerialPort

BROADCAST = 0xFE
HIGHEST_ID = 0xFC
_SUCCESS, _TIMEOUT = 0, -3001
_ALERT = 0x80
_PING, _READ, _STATUS = 0x01, 0x02, bytes([0x55])
_INSTRUCTION, _ERROR, _DATA = 7, 8, 9  # places in a status packet
_OVERHEAD = 11  # bytes of a status packet without data
_PING_SLOT_S = 0.003
"""After a broadcast ping each motor waits for its turn by its id; the SDK allows 3 ms an id."""

REFUSALS = {
    1: "could not do it",
    2: "does not know this instruction",
    3: "received it garbled",
    4: "says the value is out of range",
    5: "says the data is too short",
    6: "says the value is beyond its limit",
    7: "denies access: read-only, undefined, or locked while torque is on",
}
"""Error numbers of a status packet (ROBOTIS e-manual, Protocol 2.0)."""


@dataclass(frozen=True)
class Answer:
    """What became of a request to one motor."""

    data: bytes | None
    """None where no usable answer came; empty where it was refused."""
    refused: int = 0
    """A key of :data:`REFUSALS`; 0: accepted."""
    alert: bool = False
    """Its Hardware Error Status(70) is not 0. The answer is good all the same."""
    corrupt: bool = False
    """Something came, but not what the protocol allows."""

    @property
    def good(self) -> bool:
        """Whether it answered and accepted."""
        return self.data is not None and not self.refused

    def why(self) -> str:
        """What to say of an answer that is not good."""
        if self.data is None:
            return "answers garbled" if self.corrupt else "does not answer"
        return REFUSALS.get(self.refused, f"reports error {self.refused}")


def packet_handler() -> Any:
    """The SDK's packet handler, with byte stuffing put right.

    That of dynamixel-sdk 4.1.0 makes a stuffed copy and then sends the packet as it was: where a payload holds
    ``FF FF FD``, it goes out bare, and a device takes it for a header or drops a byte of ``FF FF FD FD``. On the way
    back it looks for stuffed bytes among those that it has moved already, and finds some in ``FF FF FD FF FD FD``.

    Raises:
        MissingSdkError: dynamixel-sdk is not installed.
    """
    try:
        from dynamixel_sdk import Protocol2PacketHandler
    except ImportError as error:
        raise MissingSdkError("dynamixel_sdk", "dynamixel") from error

    class Handler(Protocol2PacketHandler):
        def addStuffing(self, packet: list[int]) -> list[int]:
            packet[:] = super().addStuffing(packet)
            return packet

        def removeStuffing(self, packet: list[int]) -> list[int]:
            end = _INSTRUCTION + (packet[5] | packet[6] << 8)
            body = bytes(packet[_INSTRUCTION : end - 2]).replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            packet[_INSTRUCTION:end] = [*body, *packet[end - 2 : end]]
            packet[5:7] = (len(body) + 2).to_bytes(2, "little")
            return packet

    return Handler()


class DynamixelPort:
    """Requests and answers. Every method raises HardwareError where the port itself is gone.

    Args:
        serial: the wire.
        counters: of the bus that uses it.
    """

    def __init__(self, serial: SerialPort, counters: BusCounters | None = None):
        self.serial = serial
        self.counters = counters or BusCounters()
        self._handler: Any = None
        self._unclean = False

    def open(self) -> None:
        """Open the wire; does nothing where it is open.

        Raises:
            HardwareError: see :meth:`SerialPort.open`.
            MissingSdkError: dynamixel-sdk is not installed.
        """
        if self._handler is None:
            self._handler = packet_handler()
        self.serial.open()

    def close(self) -> None:
        """May be called twice, never raises."""
        self.serial.close()

    @contextmanager
    def patient(self, seconds: float = 0.02) -> Iterator[None]:
        """Wait that much longer for each answer: where nothing is in a hurry, a busy computer is no silent motor."""
        before, self.serial.allowance_s = self.serial.allowance_s, max(seconds, self.serial.allowance_s)
        try:
            yield
        finally:
            self.serial.allowance_s = before

    # ------------------------------------------------------------------ one motor

    def ping(self, bus_id: int) -> Answer:
        """Model number (2 bytes) and firmware (1 byte) of who answers there."""
        return self._ask([0, 0, 0, 0, bus_id, 3, 0, _PING, 0, 0], 3)

    def read(self, bus_id: int, address: int, size: int) -> Answer:
        """``size`` bytes from an address. Not the SDK's own read, which fills up an answer that is too short with that
        answer's checksum.
        """
        where = [*address.to_bytes(2, "little"), *size.to_bytes(2, "little")]
        return self._ask([0, 0, 0, 0, bus_id, 7, 0, _READ, *where, 0, 0], size)

    def write(self, bus_id: int, address: int, data: bytes) -> Answer:
        """Write bytes at an address; the motor confirms or refuses."""
        handler = self._ready()
        result, error = handler.writeTxRx(self.serial, bus_id, address, len(data), list(data))
        return self._judge(result, error, b"", 0)

    def reboot(self, bus_id: int) -> Answer:
        """Restart it."""
        handler = self._ready()
        result, error = handler.reboot(self.serial, bus_id)
        return self._judge(result, error, b"", 0)

    def _ask(self, packet: list[int], size: int) -> Answer:
        handler = self._ready()
        got, result, error = handler.txRxPacket(self.serial, packet)
        return self._judge(result, error, _payload(got) if result == _SUCCESS else b"", size)

    # ------------------------------------------------------------------ many motors

    def broadcast_ping(self, up_to: int = HIGHEST_ID) -> tuple[dict[int, bytes], set[int]]:
        """All that answer, id -> model number and firmware, 3 bytes; and the ids at which more than one answer came.

        Args:
            up_to: highest id that is waited for, 3 ms an id; those above must not be on this wire.
        """
        handler = self._ready()
        heard = ByteLog(most=None)
        self.serial.taps.append(heard)
        self.serial.longest_s = _PING_SLOT_S * (up_to + 1) + 14 * 10 * up_to / self.serial.baud + 0.016
        self.serial.longest_s += min(self.serial.margin_s, 0.03)
        try:
            found, _ = handler.broadcastPing(self.serial)
        finally:
            self.serial.longest_s = None
            self.serial.taps.remove(heard)
        self._unclean = True
        begun: dict[int, int] = {}
        raw = heard.all("received")
        at = raw.find(b"\xff\xff\xfd\x00")
        while at >= 0:
            if raw[at + 5 : at + 8] == b"\x07\x00" + _STATUS:
                begun[raw[at + 4]] = begun.get(raw[at + 4], 0) + 1
            at = raw.find(b"\xff\xff\xfd\x00", at + 4)
        answers = {
            number: int(model).to_bytes(2, "little") + bytes([firmware]) for number, (model, firmware) in found.items()
        }
        return answers, {number for number, times in begun.items() if times > 1}

    def sync_read(self, ids: Sequence[int], address: int, size: int, *, fast: bool = False) -> dict[int, Answer]:
        """The same bytes of several motors: one request, an answer from each; ``fast``: one packet with all answers."""
        if not ids:
            return {}
        handler = self._ready()
        result = handler.syncReadTx(self.serial, address, size, list(ids), len(ids), fast)
        if result != _SUCCESS:
            raise HardwareError(f"The request could not be sent (dynamixel-sdk: {result}).")
        return self._all_in_one(ids, size) if fast else self._one_by_one(ids, size)

    def sync_write(self, address: int, values: Mapping[int, bytes]) -> None:
        """Write at one address of several motors; none of them confirms. All values have one length."""
        if not values:
            return
        handler = self._ready()
        size = len(next(iter(values.values())))
        packed = [byte for number, data in values.items() for byte in (number, *data)]
        result = handler.syncWriteTxOnly(self.serial, address, size, packed, len(packed))
        if result != _SUCCESS:
            raise HardwareError(f"The command could not be sent (dynamixel-sdk: {result}).")

    def _one_by_one(self, ids: Sequence[int], size: int) -> dict[int, Answer]:
        waiting, found = list(ids), dict.fromkeys(ids, Answer(None))
        while waiting:
            packet, result = self._handler.rxPacket(self.serial, False)
            sender = packet[4] if len(packet) > _ERROR else -1
            if result == _SUCCESS:
                answer = self._judge(result, packet[_ERROR], _payload(packet), size)
            elif packet:
                answer = self._judge(result, 0, b"", size)
                # The id may be what was garbled; motors answer in the order of the request.
                sender = sender if sender in waiting else waiting[0]
            if result == _TIMEOUT or (result != _SUCCESS and self.serial.isPacketTimeout()):
                if packet:
                    found[sender] = answer
                break
            if sender in waiting:
                found[sender] = answer
                waiting.remove(sender)
        silent = sum(answer.data is None and not answer.corrupt for answer in found.values())
        self.counters.timeouts += silent
        self._unclean = self._unclean or silent > 0
        return found

    def _all_in_one(self, ids: Sequence[int], size: int) -> dict[int, Answer]:
        packet, result = self._handler.rxPacket(self.serial, True)
        step = size + 4  # error, id, data, checksum
        blocks = bytes(packet[_ERROR:]) if result == _SUCCESS else b""
        if result == _SUCCESS and packet[4] == BROADCAST and len(blocks) == step * len(ids):
            found = {}
            for start, number in zip(range(0, len(blocks), step), ids, strict=True):
                if blocks[start + 1] != number:
                    break
                error = blocks[start]
                found[number] = Answer(blocks[start + 2 : start + 2 + size], error & ~_ALERT, bool(error & _ALERT))
            else:
                return found
        self._unclean = True
        corrupt = result != _TIMEOUT
        if corrupt:
            self.counters.corrupt += 1
        else:
            self.counters.timeouts += 1
        return dict.fromkeys(ids, Answer(None, corrupt=corrupt))

    # ------------------------------------------------------------------ inside

    def _ready(self) -> Any:
        if not self.serial.is_open:
            raise HardwareError(f"The port {self.serial.name} is not open.", "Call connect() first.")
        self.serial.is_using = False
        if self._unclean:
            self.serial.settle(quiet_s=0.001, at_most_s=0.005)  # a control loop is waiting
            self._unclean = False
        return self._handler

    def _judge(self, result: int, error: int, data: bytes, size: int) -> Answer:
        if result == _SUCCESS:
            refused = error & ~_ALERT
            if refused:
                return Answer(b"", refused, bool(error & _ALERT))
            if len(data) == size:
                return Answer(data, 0, bool(error & _ALERT))
            self.counters.corrupt += 1
            return Answer(None, corrupt=True)
        self._unclean = True
        if result == _TIMEOUT:
            self.counters.timeouts += 1
            return Answer(None)
        self.counters.corrupt += 1
        return Answer(None, corrupt=True)


def _payload(packet: list[int]) -> bytes:
    """Data of a status packet, by its length field: the list may be longer after unstuffing."""
    length = packet[5] | packet[6] << 8
    return bytes(packet[_DATA : 7 + length - 2])
