"""A CAN bus without hardware: frames that take their time, motors that answer, and errors where a checksum would fail.

Three kinds of channel: ``udp_multicast`` (another process of this machine opens the same group and port through
python-can), ``slcan`` (a pseudo-terminal that speaks the serial-line CAN protocol: any program that can use an adapter
like the CANable opens it) and ``virtual`` (this process alone).

A frame of n bytes takes 47 + 8n bits (11-bit id) or 67 + 8n bits (29-bit id) and, at worst, a stuffed bit after every
fourth one of what is stuffed; the emulator takes that worst case. CAN frames carry a checksum and are acknowledged: a
corrupt one never reaches anybody, both ends see an error frame instead (which slcan cannot carry). A second motor with
the same id spoils answers in the same way. Where the host's adapter is pulled, it is told that its bus is off.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.pseudo_terminal import PseudoTerminal
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError, MissingSdkError

GROUP, PORT = "239.74.163.2", 43113
"""python-can's own, for IPv4."""
BITRATE = 1_000_000
_BUS_OFF, _BUS_ERROR = 0x40, 0x80  # error classes of linux/can/error.h
_IDLE_S = 0.02


@dataclass(frozen=True)
class Datagram:
    """A CAN 2.0 data frame as the emulator has it."""

    id: int
    data: bytes
    extended: bool = False

    def pack(self) -> bytes:
        """For the log and the fault plan: id, big endian with bit 31 set for 29 bits, then the data."""
        return (self.id | self.extended << 31).to_bytes(4, "big") + self.data

    def time_s(self, bitrate: int) -> float:
        """Longest time on the bus."""
        bits, stuffed = (67, 54) if self.extended else (47, 34)
        return (bits + 8 * len(self.data) + (stuffed + 8 * len(self.data) - 1) // 4) / bitrate


class Channel(Protocol):
    """Where frames come from and go to."""

    address: str

    def wait(self, most_s: float) -> None:
        """Return when something has arrived, after ``most_s`` at the latest; sooner where it must be polled."""

    def take(self) -> list[Datagram]:
        """What has arrived, without waiting."""

    def give(self, frame: Datagram) -> None:
        """Send a frame."""

    def error(self, bus_off: bool) -> None:
        """Tell the host of an error on the bus, if the channel can."""

    def close(self) -> None:
        """End; may be called twice."""


class PythonCanChannel:
    """A channel of python-can.

    Args:
        interface: ``udp_multicast``, ``virtual`` or ``socketcan``.
        channel: a group or ``group:port``; a name.

    Raises:
        HardwareError: it cannot be opened.
    """

    def __init__(self, interface: str, channel: str):
        try:
            import can
        except ImportError as error:
            raise MissingSdkError("can", "can") from error
        self._can: Any = can
        more: dict[str, Any] = {}
        if interface == "udp_multicast":
            group, _, port = channel.rpartition(":") if channel.count(":") == 1 else (channel, "", "")
            channel, more = group or channel or GROUP, {"port": int(port or PORT), "fd": False}
            self.address = f"{interface}:{channel}:{more['port']}"
        else:
            self.address = f"{interface}:{channel}"
        try:
            self._bus: Any = can.Bus(interface=interface, channel=channel, ignore_config=True, **more)
        except (can.CanError, OSError, ValueError) as error:
            raise HardwareError(f"The CAN channel {self.address} cannot be opened: {error}.", "") from error
        self._multicast = interface == "udp_multicast"
        self._mine = f"emulator-{os.getpid()}-{id(self)}"

    def wait(self, most_s: float) -> None:
        try:
            select.select([int(self._bus.fileno())], [], [], most_s)
        except (NotImplementedError, OSError, ValueError):  # nothing to wait for: ask often
            time.sleep(min(most_s, 0.0005))

    def take(self) -> list[Datagram]:
        found: list[Datagram] = []
        while True:
            try:
                message = self._bus.recv(timeout=0)
            except (self._can.CanError, OSError, ValueError):
                return found
            if message is None:
                return found
            if message.channel == self._mine or message.is_error_frame or message.is_remote_frame or message.is_fd:
                continue
            found.append(Datagram(message.arbitration_id, bytes(message.data), message.is_extended_id))

    def _send(self, **fields: Any) -> None:
        message = self._can.Message(channel=self._mine if self._multicast else None, **fields)
        with contextlib.suppress(self._can.CanError, OSError):
            self._bus.send(message)

    def give(self, frame: Datagram) -> None:
        self._send(arbitration_id=frame.id, data=frame.data, is_extended_id=frame.extended)

    def error(self, bus_off: bool) -> None:
        self._send(arbitration_id=_BUS_OFF if bus_off else _BUS_ERROR, data=bytes(8), is_error_frame=True)

    def close(self) -> None:
        with contextlib.suppress(self._can.CanError, OSError):
            self._bus.shutdown()


class SlcanChannel:
    """A pseudo-terminal that speaks the serial-line protocol of CAN adapters (LAWICEL's CAN232 manual: ``tIIILDD..``,
    ``TIIIIIIIILDD..``, ``S6``, ``O``, ``C``, each ended by a carriage return).

    Args:
        link: a symbolic link to make to the port.
    """

    def __init__(self, link: Path | None = None):
        self._terminal = PseudoTerminal(link)
        self._waiting = bytearray()
        self.address = self._terminal.address

    def wait(self, most_s: float) -> None:
        if self._terminal.is_open:
            self._terminal.wait(most_s)
        else:
            time.sleep(min(most_s, 0.0005))

    def take(self) -> list[Datagram]:
        while data := self._terminal.read():
            self._waiting += data
        found = []
        while (end := self._waiting.find(b"\r")) >= 0:
            line = bytes(self._waiting[:end])
            del self._waiting[: end + 1]
            frame = self._obey(line)
            if frame is not None:
                found.append(frame)
        return found

    def _obey(self, line: bytes) -> Datagram | None:
        if line[:1] not in (b"t", b"T"):
            if line:
                self._terminal.write(b"V1013\r" if line[:1] == b"V" else b"\r")
            return None
        digits = 8 if line[:1] == b"T" else 3
        try:
            number, size = int(line[1 : 1 + digits], 16), int(line[1 + digits : 2 + digits])
            data = bytes.fromhex(line[2 + digits : 2 + digits + 2 * size].decode())
        except ValueError:
            self._terminal.write(b"\a")
            return None
        return Datagram(number, data, digits == 8) if len(data) == size <= 8 else None

    def give(self, frame: Datagram) -> None:
        head = f"T{frame.id:08X}" if frame.extended else f"t{frame.id:03X}"
        self._terminal.write(f"{head}{len(frame.data)}{frame.data.hex().upper()}\r".encode())

    def error(self, bus_off: bool) -> None:
        if bus_off:
            self.close()  # what an adapter does that is pulled

    def close(self) -> None:
        self._terminal.close()


class CanDevices(ABC):
    """All motors of one maker on a bus."""

    @abstractmethod
    def answer(self, frame: Datagram, heard: Heard) -> list[tuple[Datagram, int]]:
        """Obey a frame and say what is sent back and by whom; only motors that ``heard.reaches``."""


class CanWire:
    """Motors on one channel; attach it to the world.

    Args:
        world: that it belongs to.
        devices: who hears and answers.
        channel: to the host.
        bitrate: of the emulated bus.
    """

    def __init__(self, world: World, devices: CanDevices, channel: Channel, bitrate: int = BITRATE):
        self.world, self.devices, self.channel, self.bitrate = world, devices, channel, bitrate
        self._due: list[tuple[float, int, Datagram | None]] = []
        self._numbers = 0
        self._busy_until = 0.0
        self._off = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return self.channel.address

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="can", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self.channel.close()

    def drain(self) -> None:
        with self.world.lock:
            if self.world.lockstep:
                self._turn()

    # ------------------------------------------------------------------ traffic

    def _serve(self) -> None:
        while not self._ended.is_set():
            with self.world.lock:
                wait_s = self._turn()
            self.channel.wait(wait_s)

    def _clock(self) -> float:
        return self.world.now_s if self.world.lockstep else time.monotonic()

    def _turn(self) -> float:
        """Hear what has come, send what is due; how long nothing will be, s. The lock is held."""
        world = self.world
        off = world.faults.port_gone(world.now_s)
        frames = self.channel.take()
        if off and (frames or not self._off):
            self.channel.error(True)
        self._off = off
        if off:
            self._due.clear()
            return _IDLE_S
        for frame in frames:
            self._hear(frame)
        while self._due and self._due[0][0] <= self._clock():
            reply = heapq.heappop(self._due)[2]
            if reply is None:
                self.channel.error(False)
            else:
                world.log.add(world.now_s, "out", "can", reply.pack())
                self.channel.give(reply)
        if self._due and not world.lockstep:
            return max(min(self._due[0][0] - time.monotonic(), _IDLE_S), 0.0)
        return _IDLE_S

    def _hear(self, frame: Datagram) -> None:
        world, packed = self.world, frame.pack()
        world.log.add(world.now_s, "in", "can", packed)
        self._occupy(frame)
        heard = world.faults.request(packed, world.now_s)
        if heard.missed_by is None:
            return
        if heard.data != packed:  # the checksum fails everywhere, the sender's own controller included
            self._later(0.0, None)
            return
        for reply, bus_id in self.devices.answer(frame, heard):
            whole = reply.pack()
            for copy, late_s in world.faults.reply(whole, bus_id, world.now_s):
                self._occupy(reply)
                self._later(late_s, reply if copy == whole else None)

    def _occupy(self, frame: Datagram) -> None:
        if not self.world.lockstep:
            self._busy_until = max(self._busy_until, time.monotonic()) + frame.time_s(self.bitrate)

    def _later(self, late_s: float, frame: Datagram | None) -> None:
        self._numbers += 1
        start = self._clock() if self.world.lockstep else self._busy_until
        heapq.heappush(self._due, (start + late_s, self._numbers, frame))


def open_channel(interface: str | None, channel: str | None, link: str | None) -> Channel:
    """The channel that was ordered; ``udp_multicast`` on python-can's group and port where nothing was.

    Raises:
        HardwareError: no such kind, or it cannot be opened.
    """
    interface = interface or "udp_multicast"
    if interface == "slcan":
        return SlcanChannel(Path(link) if link else None)
    if interface not in ("udp_multicast", "virtual", "socketcan"):
        raise HardwareError(
            f"There is no kind of CAN channel named {interface!r}.", "udp_multicast, slcan, socketcan or virtual."
        )
    usual = {"udp_multicast": f"{GROUP}:{PORT}", "virtual": "cadenza", "socketcan": "vcan0"}
    return PythonCanChannel(interface, channel or usual[interface])
