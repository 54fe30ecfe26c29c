"""A serial cable without hardware: a pseudo-terminal with the time that bytes take on a real wire.

The host opens ``SerialWire.address`` like any serial port. What it sends is heard only at the baud rate of the terminal
(the speed that the host set with termios), so a device with another rate in its register stays silent. Replies leave
one by one, each in a single write, at the moment its last byte would have arrived: 10 bits a byte (8N1) after the
device's return delay, after whatever else is still on the wire. In lockstep no time passes on the wire.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from cadenza.robots.hardware.emulators.faults import Heard
from cadenza.robots.hardware.emulators.pseudo_terminal import PseudoTerminal
from cadenza.robots.hardware.emulators.world import World

_BITS_PER_BYTE = 10
_QUIET_S = 0.02
"""An unfinished packet is forgotten after the line was quiet for this long."""


@dataclass(frozen=True)
class Reply:
    """What a device sends."""

    data: bytes
    bus_id: int
    delay_s: float = 0.0
    """From the end of what was on the wire before."""


class SerialBus(ABC):
    """Devices of one protocol on one serial wire.

    Args:
        world: they live in.
    """

    def __init__(self, world: World):
        self.world = world
        self._waiting = bytearray()
        self._last = 0.0

    @abstractmethod
    def cut(self, waiting: bytearray) -> bytes | None:
        """Take the next whole packet off the front of ``waiting`` (and whatever is no packet before it); None where
        more bytes are needed. A packet with a wrong checksum may be returned or skipped.
        """

    @abstractmethod
    def answer(self, heard: Heard, baud: int) -> list[Reply]:
        """Obey a packet and say what the devices send; only those with that baud rate that ``heard.reaches``."""

    def listening(self) -> int:
        """Baud rate of most devices, for a terminal that nobody has opened yet."""
        return 1_000_000

    def hear(self, data: bytes, baud: int) -> list[tuple[Reply, float]]:
        """Bytes from the host at a baud rate; replies as the host gets them, with how much later than usual, s."""
        world = self.world
        clock = world.now_s if world.lockstep else time.monotonic()
        if self._waiting and clock - self._last > _QUIET_S:
            self._waiting.clear()
        self._last = clock
        self._waiting += data
        found: list[tuple[Reply, float]] = []
        while (packet := self.cut(self._waiting)) is not None:
            heard = world.faults.request(packet, world.now_s)
            if heard.missed_by is None:
                continue
            for reply in self.answer(heard, baud):
                for copy, late_s in world.faults.reply(reply.data, reply.bus_id, world.now_s):
                    found.append((Reply(copy, reply.bus_id, reply.delay_s), late_s))
        return found


class SerialWire:
    """A pty pair with a bus at one end.

    Args:
        world: that it belongs to; attach it there.
        bus: who hears and answers.
        link: a symbolic link to make to the port, e.g. for a fixed path in a configuration; removed in the end.
        name: in the log.

    Raises:
        HardwareError: the link cannot be made because something else stands there.
    """

    def __init__(self, world: World, bus: SerialBus, *, link: Path | None = None, name: str = "serial"):
        self.world, self.bus, self.name = world, bus, name
        self._link = Path(link) if link is not None else None
        self._busy_until = 0.0
        self._late: list[tuple[float, bytes]] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        # A client that never sets a speed meets devices that listen.
        self._terminal = PseudoTerminal(self._link, bus.listening())

    @property
    def address(self) -> str:
        """Path of the serial port: the link, if one was asked for."""
        return self._terminal.address

    def baud(self) -> int:
        """Speed that the host has set, bit/s."""
        return self._terminal.speed()

    # ------------------------------------------------------------------ traffic

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        self._terminal.close()

    def drain(self) -> None:
        """All that has arrived, and replies that a fault held back until now; only lockstep needs it."""
        with self.world.lock:
            if self._plug() and self.world.lockstep:
                self._write_now(self._take())
                due = [data for at_s, data in self._late if at_s <= self.world.now_s]
                self._late = [entry for entry in self._late if entry[0] > self.world.now_s]
                for data in due:
                    self._write(data)

    def _plug(self) -> bool:
        """Pull or put back the adapter as the fault plan has it; whether it is in."""
        gone = self.world.faults.port_gone(self.world.now_s)
        if gone:
            self._terminal.close()
        elif not self._terminal.is_open and not self._ended.is_set():
            self._terminal = PseudoTerminal(self._link, self.bus.listening())
        return self._terminal.is_open

    def _take(self) -> list[tuple[Reply, float]]:
        """Replies to what can be read without waiting; the lock is held."""
        found: list[tuple[Reply, float]] = []
        while data := self._terminal.read():
            baud = self.baud()
            now_s = self.world.now_s
            self.world.log.add(now_s, "in", self.name, data)
            start = max(time.monotonic(), self._busy_until)
            self._busy_until = start + len(data) * _BITS_PER_BYTE / max(baud, 1)
            found += self.bus.hear(data, baud)
        return found

    def _serve(self) -> None:
        while not self._ended.is_set():
            with self.world.lock:
                terminal = self._terminal if self._plug() else None
            if terminal is None:
                self._ended.wait(0.005)
                continue
            if not terminal.wait(0.02):
                continue
            with self.world.lock:
                if self._terminal is not terminal or not terminal.is_open:
                    continue
                replies = self._take()
                if self.world.lockstep:
                    self._write_now(replies)
                    continue
                baud = self.baud()
            self._write_paced(replies, baud)

    def _write_now(self, replies: list[tuple[Reply, float]]) -> None:
        for reply, late_s in replies:
            if late_s > 0:
                self._late.append((self.world.now_s + late_s, reply.data))
            else:
                self._write(reply.data)

    def _write_paced(self, replies: list[tuple[Reply, float]], baud: int) -> None:
        for reply, late_s in replies:
            # What is late keeps nobody else waiting on a real wire; here it does, as the host sees one stream.
            end = self._busy_until + reply.delay_s + len(reply.data) * _BITS_PER_BYTE / max(baud, 1)
            self._busy_until = end
            left = end + late_s - time.monotonic()
            if left > 0:
                time.sleep(left)
            with self.world.lock:
                self._write(reply.data)

    def _write(self, data: bytes) -> None:
        if self._terminal.is_open and data:
            self.world.log.add(self.world.now_s, "out", self.name, data)
            self._terminal.write(data)
