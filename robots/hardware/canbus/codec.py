"""What :class:`cadenza.robots.hardware.canbus.bus.CanBus` needs to know of a maker's frames. No bytes travel here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.ranges import Codes, RangeSet
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Fault, Identity

_FORMATS = {"float": "<f", "uint32": "<I", "int32": "<i", "uint16": "<H", "int16": "<h", "uint8": "<B"}
_WHOLE = {"uint32": (0, 2**32 - 1), "uint16": (0, 65535), "uint8": (0, 255), "int32": (-(2**31), 2**31 - 1),
          "int16": (-32768, 32767)}  # fmt: skip


@dataclass(frozen=True)
class Register:
    """A row of a maker's register table."""

    number: int
    name: str
    kind: str = "float"
    """``float``, ``uint32``, ``uint16``, ``uint8``, ``int16``; little endian."""
    writable: bool = True
    running: bool = False
    """May be written while the motor has torque."""

    def encode(self, value: float) -> bytes:
        """Four bytes.

        Raises:
            HardwareError: not writable, or a value that it cannot hold.
        """
        if not self.writable:
            raise HardwareError(f"{self.name} cannot be written.")
        if self.kind == "float":
            if not abs(value) <= 3.4028235e38:
                raise HardwareError(f"{self.name} does not take {value!r}.")
            return struct.pack("<f", value)
        low, high = _WHOLE[self.kind]
        if not (low <= value <= high and value == int(value)):
            raise HardwareError(f"{self.name} takes whole numbers from {low} to {high}, not {value!r}.")
        return struct.pack(_FORMATS[self.kind], int(value)).ljust(4, b"\0")

    def decode(self, data: bytes) -> float:
        """The inverse; later bytes are ignored."""
        size = struct.calcsize(_FORMATS[self.kind])
        return float(struct.unpack(_FORMATS[self.kind], data[:size])[0])

    def holds(self, value: float) -> float:
        """The value as the register keeps it, e.g. rounded to single precision."""
        return self.decode(self.encode(value))


@dataclass(frozen=True)
class Feedback:
    """What a motor said of itself in one frame; SI units at its shaft."""

    bus_id: int
    q: float
    dq: float
    tau: float
    temperature: float
    enabled: bool
    fault: Fault


class GarbledFrame(Exception):
    """A frame that the protocol does not allow.

    Args:
        bus_id: whose it claims to be; None where that cannot be told.
    """

    def __init__(self, bus_id: int | None):
        super().__init__(bus_id)
        self.bus_id = bus_id


class Link(Protocol):
    """How a codec asks one motor something."""

    def ask(self, frame: Frame, reply: Callable[[Frame], bytes | None], tries: int = 3) -> bytes | None:
        """Send a frame until ``reply`` recognises what comes back and takes its payload out; None where it never does.

        Raises:
            HardwareError: the channel is gone.
        """

    def read_register(self, bus_id: int, name: str) -> float:
        """See :meth:`cadenza.robots.hardware.bus.MotorBus.read_register`."""


class Codec(Protocol):
    """One maker's frames."""

    name: str
    frame_s: float
    """Longest time of one of its frames on the bus at 1 Mbit/s."""
    registers: Mapping[str, Register]
    watchdog_register: str
    watchdog_step_s: float
    needs_query_write: bool
    """Feedback of a motor that may be running can only be had by writing a register."""

    def check(self, rows: tuple[MotorSettings, ...]) -> None:
        """Refuse settings that these frames cannot carry.

        Raises:
            HardwareError: with the reason.
        """

    def identify(self, link: Link, bus_id: int, row: MotorSettings | None) -> Identity | None:
        """Who answers at an address, by requests that change nothing; None where nobody does.

        Args:
            link: to the bus.
            bus_id: asked for.
            row: its settings, where it has any.

        Raises:
            HardwareError: it answers, but is not what ``row`` says.
        """

    def ranges(self, bus_id: int) -> RangeSet:
        """Of a motor that was identified."""

    def codes(self, bus_id: int) -> Codes:
        """Scales of a motor that was identified."""

    def command(self, bus_id: int, p: int, v: int, kp: int, kd: int, t: int) -> Frame:
        """The five codes of one control step."""

    def enable(self, bus_id: int) -> Frame:
        """Torque on."""

    def disable(self, bus_id: int) -> Frame:
        """Torque off."""

    def clear(self, bus_id: int) -> Frame:
        """Acknowledge a fault."""

    def query(self, bus_id: int, *, known_off: bool) -> Frame | None:
        """What makes a motor send feedback without changing anything; None where only register reads can do that.

        Args:
            bus_id: of the motor.
            known_off: its torque is off, so that switching it off again changes nothing.
        """

    def feedback(self, frame: Frame) -> Feedback | None:
        """What a frame says; None where it is no feedback of a motor that was identified.

        Raises:
            GarbledFrame: it is one, but not as the protocol has it.
        """

    def read_request(self, bus_id: int, register: Register) -> Frame:
        """Ask for a register."""

    def read_reply(self, bus_id: int, register: Register, frame: Frame) -> bytes | None:
        """Four bytes, or none where the motor refuses; None where the frame is another one."""

    def write_request(self, bus_id: int, register: Register, value: float) -> Frame:
        """Set a register until power-off."""

    def write_reply(self, bus_id: int, register: Register, frame: Frame) -> bytes | None:
        """Whatever a motor answers to that; None where the frame is another one."""

    def state_registers(self) -> Mapping[str, str]:
        """Fields of a state (q, dq, voltage) -> registers that hold them, for motors that may not be queried."""

    def setup(self, row: MotorSettings) -> Mapping[str, float]:
        """Registers to set before torque goes on, apart from the watchdog."""

    def prove_ranges(self, row: MotorSettings, feedback: Feedback, link: Link) -> None:
        """Compare what a frame said with what registers say.

        Raises:
            RefusedError: the ranges cannot be those of this motor.
        """
