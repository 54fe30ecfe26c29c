"""Exchanges with Feetech servos over the SDK's packet handler: bounded retries, errors that name the servo, counters.

The SDK frames, sums and parses. What is not left to it: its ``GroupSyncRead`` gives up all servos behind the first one
that is missing, throws away replies of others while it waits for one, and keeps the old data of those it did not reach
(``group_sync_read.py`` of 1.0.0). Here every valid packet is taken for what it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cadenza.robots.hardware.bus import BusCounters
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.feetech import table
from cadenza.robots.hardware.feetech.port import sdk
from cadenza.robots.hardware.transports.serial import SerialPort
from cadenza.robots.hardware.types import Fault
from cadenza.robots.names import unknown_name

_TRIES = 3
_PATIENCE_S = 0.02
"""Allowed beyond the port's margin outside of the control loop, where nothing waits for an absent servo."""
_RESTART = 0x08  # not in the SDK; Feetech, "SCS communication protocol", section 4.12
_ID, _PARAMETERS = 2, 5  # places in a packet
_FRAME = 6  # bytes of a status packet without parameters


class Link:
    """One serial line.

    Args:
        port: opened by :meth:`open`.
        counters: where failures are counted.
    """

    def __init__(self, port: SerialPort, counters: BusCounters):
        self.port, self._counters = port, counters
        self._handler: Any = None
        self._sdk: Any = None
        self._number = 0

    @property
    def device(self) -> str:
        """Name of the port."""
        return self.port.name

    def open(self) -> None:
        """Open the port unless it is.

        Raises:
            HardwareError: it cannot be opened.
            MissingSdkError: the SDK is not installed.
        """
        if self._handler is None:
            self._sdk = sdk()
            self._handler = self._sdk.PacketHandler(0)  # 0: STS and SMS, low byte first
        self.port.open()

    def close(self) -> None:
        """May be called twice; never raises."""
        self.port.close()

    # ------------------------------------------------------------------ many servos

    def sync_read(self, ids: Sequence[int], start: int, size: int) -> dict[int, bytes | Fault]:
        """Registers of several servos by one request: their bytes, or why there are none (SILENT, CORRUPT).

        Raises:
            HardwareError: the port is gone.
        """
        replies: dict[int, bytes | Fault] = {}
        asked = size + self._next() % 3
        self._call("syncReadTx", start, asked, list(ids), len(ids), patience_s=0.0)
        while ids and ids[-1] not in replies:  # they answer in this order, so the last one ends it
            packet, result = self._call("rxPacket", patience_s=0.0)
            if result == self._sdk.COMM_RX_TIMEOUT:
                break
            speaker = packet[_ID] if len(packet) > _ID else -1
            if result == self._sdk.COMM_SUCCESS:
                if speaker in ids and len(packet) == asked + _FRAME:
                    replies[speaker] = bytes(packet[_PARAMETERS : _PARAMETERS + size])
                continue  # others are answers to what was asked earlier
            self._counters.corrupt += 1
            silent = [bus_id for bus_id in ids if bus_id not in replies]
            replies.setdefault(speaker if speaker in ids else silent[0], Fault.CORRUPT)
            if self.port.isPacketTimeout():
                break
        for bus_id in ids:
            if bus_id not in replies:
                self._counters.timeouts += 1
                replies[bus_id] = Fault.SILENT
        return replies

    def sync_write(self, start: int, data: Mapping[int, Sequence[int]]) -> None:
        """Write registers of several servos by one packet; nobody answers.

        Raises:
            HardwareError: the port is gone.
        """
        if not data:
            return
        flat = [byte for bus_id, row in data.items() for byte in (bus_id, *row)]
        size = len(next(iter(data.values())))
        if self._call("syncWriteTxOnly", start, size, flat, len(flat)) != self._sdk.COMM_SUCCESS:
            raise HardwareError(f"A packet could not be sent on {self.device}.")

    # ------------------------------------------------------------------ one servo

    def ping(self, bus_id: int, tries: int = _TRIES) -> int | None:
        """Model number of who answers; None where nobody does.

        Raises:
            HardwareError: several answers at once, or garbage.
        """
        entry, garbled = table.REGISTERS["model_number"], 0
        for attempt in range(tries):
            self._counters.retries += attempt > 0
            data, result = self._ask(bus_id, entry)
            if data is not None:
                return entry.decode(data)
            garbled += result == self._sdk.COMM_RX_CORRUPT
        if garbled == tries:
            self._counters.corrupt += garbled
            raise HardwareError(
                f"What answers at id {bus_id} is garbled.", "Two servos with that id, or another baud rate."
            )
        return None

    def another_answers(self, bus_id: int) -> bool:
        """Whether a second servo answers at that id, after the first or over it."""
        packet = [0, 0, bus_id, 2, self._sdk.INST_PING, 0]
        self._call("txPacket", packet)
        self.port.setPacketTimeout(6)
        _, first = self._call("rxPacket")
        self.port.setPacketTimeoutMillis(5)  # the second one answers at the same time, or right behind
        _, second = self._call("rxPacket")
        return bool(first == second == self._sdk.COMM_SUCCESS)

    def read(self, bus_id: int, name: str) -> int:
        """A register.

        Raises:
            HardwareError: there is no such register, or no right answer in a few tries.
        """
        entry = self.entry(name)
        result = 0
        for attempt in range(_TRIES):
            self._counters.retries += attempt > 0
            data, result = self._ask(bus_id, entry)
            if data is not None:
                return entry.decode(data)
        raise self._no_answer(bus_id, f"{name} could not be read", result)

    def _ask(self, bus_id: int, entry: table.Register) -> tuple[bytes | None, int]:
        """One try at a register: its bytes, or None with the SDK's reason."""
        asked = 2 + self._next() % 6
        self._call("readTx", bus_id, entry.address, asked)
        while True:
            packet, result = self._call("rxPacket")
            if result != self._sdk.COMM_SUCCESS:
                return None, int(result)
            if packet[_ID] == bus_id and len(packet) == asked + _FRAME:
                return bytes(packet[_PARAMETERS : _PARAMETERS + entry.size]), int(result)

    def _next(self) -> int:
        """Packets have no numbers, so a late reply would be taken for the next one's and shift all that follow. So each
        request asks for another count of bytes than those before it, and only a reply of that length is its own.
        """
        self._number += 1
        return self._number

    def write(self, bus_id: int, name: str, value: int, *, check: bool = True) -> None:
        """Write a register and read it back.

        Raises:
            HardwareError: there is no such register, it cannot be written or takes no such value, or it did not stick.
        """
        entry = self.entry(name)
        if not entry.writable:
            raise HardwareError(f"{name} cannot be written.")
        try:
            data = entry.encode(value)
        except ValueError as error:
            raise HardwareError(f"{name} does not take that: {error}.") from error
        for attempt in range(_TRIES):
            self._counters.retries += attempt > 0
            # Whether it is acknowledged is a setting of the servo (response level); what counts is the reading back.
            self._call("writeTxRx", bus_id, entry.address, entry.size, data)
            if not check or self.read(bus_id, name) == value:
                return
        raise HardwareError(f"{name} of id {bus_id} did not take {value}; it is {self.read(bus_id, name)}.")

    def write_eeprom(self, bus_id: int, name: str, value: int) -> None:
        """Open the lock, write, close the lock. An id or a baud rate takes effect at once, and is followed."""
        self.write(bus_id, "lock", 0)
        now = bus_id
        try:
            if name == "id":
                self.write(bus_id, name, value, check=False)
                now = value
                if self.read(now, "id") != value:
                    raise HardwareError(f"Id {bus_id} did not become {value}.")
            elif name == "baud_rate":
                self._follow_baud(bus_id, value)
            else:
                self.write(bus_id, name, value)
        finally:
            if name != "baud_rate":
                self.write(now, "lock", 1)

    def _follow_baud(self, bus_id: int, code: int) -> None:
        if code not in table.BAUD_RATES:
            raise HardwareError(
                f"Baud code {code} is not offered: sources disagree on its rate.",
                "Codes: " + ", ".join(f"{key} = {rate:,}" for key, rate in table.BAUD_RATES.items()),
            )
        before = self.port.baud
        self.write(bus_id, "baud_rate", code, check=False)
        self.port.setBaudRate(table.BAUD_RATES[code])
        try:
            self.write(bus_id, "lock", 1)
            if self.read(bus_id, "baud_rate") != code:
                raise HardwareError(f"Id {bus_id} did not take baud code {code}.")
        finally:
            self.port.setBaudRate(before)

    def restart(self, bus_id: int) -> None:
        """The instruction alone; it is not answered."""
        self._call("txPacket", [0, 0, bus_id, 2, _RESTART, 0])

    @staticmethod
    def entry(name: str) -> table.Register:
        """A row of the table.

        Raises:
            HardwareError: there is none of that name.
        """
        if name not in table.REGISTERS:
            error = unknown_name("Feetech register", name, table.REGISTERS)
            raise HardwareError(str(error), error.advice)
        return table.REGISTERS[name]

    # ------------------------------------------------------------------ the SDK

    def _call(self, action: str, *arguments: Any, patience_s: float = _PATIENCE_S) -> Any:
        """Call the SDK; what it trips over in a packet is a bad packet.

        Raises:
            HardwareError: the port is gone.
        """
        if self._handler is None or not self.port.is_open:
            raise HardwareError(f"The port {self.device} is not open.", "Call connect() first.")
        self.port.is_using, self.port.allowance_s = False, patience_s
        try:
            return getattr(self._handler, action)(self.port, *arguments)
        except IndexError:
            # rxPacket of 1.0.0 reads past the end of a packet whose length byte says less than 2.
            bad = self._sdk.COMM_RX_CORRUPT
            return {"writeTxRx": (bad, 0), "rxPacket": ([], bad)}[action]

    def _no_answer(self, bus_id: int, what: str, result: int) -> HardwareError:
        if result == self._sdk.COMM_RX_TIMEOUT:
            self._counters.timeouts += 1
            return HardwareError(f"Id {bus_id} does not answer: {what}.")
        self._counters.corrupt += 1
        return HardwareError(f"Id {bus_id} answers what the protocol does not allow: {what}.")
