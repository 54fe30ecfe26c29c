"""Questions and answers on a CAN bus: bounded retries, deadlines, and a count of everything that was not expected."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cadenza.robots.hardware.bus import BusCounters
from cadenza.robots.hardware.canbus.codec import Codec, Feedback, GarbledFrame, Register
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.transports.canport import CanPort, Frame
from cadenza.robots.hardware.types import Fault
from cadenza.robots.names import unknown_name

_TRIES = 3


@dataclass
class CanCounters(BusCounters):
    """See :class:`BusCounters`; ``corrupt`` counts error frames and frames against the protocol."""

    late: int = 0
    """Frames that came after the deadline of what they answered; thrown away, as their age is not known."""
    unsolicited: int = 0
    """Frames that nobody had asked for."""
    error_frames: int = 0
    """What the adapter reported: frames that a checksum, a collision or a missing acknowledgement had spoilt."""


class Exchange:
    """One channel with motors of one maker.

    Args:
        port: opened by :meth:`open`.
        codec: of the maker.
        counters: where failures are counted.
        margin_s: what answers may take beyond the time of the frames on the bus.
    """

    def __init__(self, port: CanPort, codec: Codec, counters: CanCounters, margin_s: float):
        self.port, self.codec, self.counters, self.margin_s = port, codec, counters, margin_s

    # ------------------------------------------------------------------ feedback of many motors

    def round(self, frames: Mapping[int, Frame]) -> dict[int, Feedback | Fault]:
        """Send one frame to each of some motors and collect one feedback of each.

        Args:
            frames: bus id -> frame.

        Returns:
            Feedback, or SILENT or CORRUPT where there is none, of each of those ids.

        Raises:
            HardwareError: the channel is gone.
        """
        self.discard_late()
        found: dict[int, Feedback | Fault] = {}
        for frame in frames.values():
            self.port.send(frame)
        until = time.monotonic() + 2 * len(frames) * self.codec.frame_s + self.margin_s
        spoilt = False
        missing = set(frames)
        while missing and (frame_in := self.port.receive(until)) is not None:
            try:
                feedback = self._feedback(frame_in)
            except GarbledFrame as error:
                if error.bus_id in missing:
                    found[error.bus_id] = Fault.CORRUPT
                continue
            if feedback is None:
                spoilt |= frame_in.error
                continue
            if feedback.bus_id in missing:
                missing.discard(feedback.bus_id)
                found[feedback.bus_id] = feedback
            else:
                self.counters.unsolicited += 1
        for bus_id in missing:
            self.counters.timeouts += 1
            found.setdefault(bus_id, Fault.CORRUPT if spoilt else Fault.SILENT)
        return found

    def _feedback(self, frame: Frame) -> Feedback | None:
        """Feedback in a frame; anything else is counted and None."""
        if frame.error:
            self._count_error()
            return None
        try:
            feedback = self.codec.feedback(frame)
        except GarbledFrame:
            self.counters.corrupt += 1
            raise
        if feedback is None:
            self.counters.unsolicited += 1
        return feedback

    def _count_error(self) -> None:
        self.counters.error_frames += 1
        self.counters.corrupt += 1

    def discard_late(self) -> None:
        """Throw away what has come since the last exchange ended."""
        while (frame := self.port.receive(0.0)) is not None:
            if frame.error:
                self._count_error()
            else:
                self.counters.late += 1

    # ------------------------------------------------------------------ one motor

    def ask(self, frame: Frame, reply: Callable[[Frame], bytes | None], tries: int = _TRIES) -> bytes | None:
        """See :meth:`cadenza.robots.hardware.canbus.codec.Link.ask`."""
        for attempt in range(tries):
            self.counters.retries += attempt > 0
            self.discard_late()
            self.port.send(frame)
            until = time.monotonic() + 2 * self.codec.frame_s + self.margin_s
            while (frame_in := self.port.receive(until)) is not None:
                found = reply(frame_in)
                if found is not None:
                    return found
                if frame_in.error:
                    self._count_error()
                else:
                    self.counters.unsolicited += 1
            self.counters.timeouts += 1
        return None

    def feedback_of(self, bus_id: int, frame: Frame, tries: int = _TRIES) -> Feedback | None:
        """Send a frame until that motor answers with feedback; None where it never does."""
        for attempt in range(tries):
            self.counters.retries += attempt > 0
            found = self.round({bus_id: frame})[bus_id]
            if isinstance(found, Feedback):
                return found
        return None

    def register(self, name: str) -> Register:
        """A row of the maker's table.

        Raises:
            UnknownNameError: there is none of that name.
        """
        if name not in self.codec.registers:
            raise UnknownRegister(self.codec, name)
        return self.codec.registers[name]

    def read_register(self, bus_id: int, name: str) -> float:
        """See :meth:`cadenza.robots.hardware.bus.MotorBus.read_register`."""
        register = self.register(name)
        data = self.ask(
            self.codec.read_request(bus_id, register), lambda frame: self.codec.read_reply(bus_id, register, frame)
        )
        if data is None:
            raise HardwareError(f"Id {bus_id} does not answer: {name} could not be read.", "Power on? Id right?")
        if not data:
            raise HardwareError(f"Id {bus_id} has no register {name}.", "Older firmware may lack it.")
        return register.decode(data)

    def write_register(self, bus_id: int, name: str, value: float) -> None:
        """Write, then read back."""
        register = self.register(name)
        request, kept = self.codec.write_request(bus_id, register, value), register.holds(value)
        self.ask(request, lambda frame: self.codec.write_reply(bus_id, register, frame))
        now = self.read_register(bus_id, name)
        if now != kept:
            raise HardwareError(
                f"{name} of id {bus_id} did not take {value:g}; it is {now:g}.", "Is it read-only, or out of range?"
            )

    def write_feedback(self, bus_id: int, name: str, value: float) -> Feedback | None:
        """Feedback that a register write brings, for makers whose drives answer so."""
        return self.feedback_of(bus_id, self.codec.write_request(bus_id, self.register(name), value))


class UnknownRegister(HardwareError):
    """A name that the maker's table does not have; the advice lists the nearest.

    Args:
        codec: of the maker.
        name: as it was asked for.
    """

    def __init__(self, codec: Codec, name: str):
        said = unknown_name(f"{codec.name} register", name, codec.registers)
        super().__init__(str(said), said.advice)
