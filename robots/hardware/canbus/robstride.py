"""The private frames of RobStride's drives and Xiaomi's CyberGear: 29-bit ids, ``type << 24 | data16 << 8 | target``.

Sources: CyberGear manual, section 4 (translation belovictor/cybergear-docs); RobStride's sample program for types 22 to
25, which differ from the CyberGear's; ``canTimeout`` (20,000 = 1 s): RobStride's RS02 manual, which calls it
CAN_TIMEOUT, and lerobot's motors/robstride. Not verified on a drive: that a drive whose timeout has run out falls back
to reset mode without a fault bit, that it obeys a new enable then, and that bits 16 to 23 of a parameter's reply are 0
where the drive knows the parameter.

Command  type 1, data16 = torque: p | v | kp | kd, big endian, 16 bits each.
Feedback type 2, data16 = mode << 14 | faults << 8 | motor: p | v | torque | temperature in 0.1 degC, big endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.codec import Feedback, GarbledFrame, Link, Register
from cadenza.robots.hardware.canbus.ranges import Codes, RangeSet, no_choice, parse_ranges
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Fault, Identity

GET_ID, COMMAND, FEEDBACK, ENABLE, STOP, SET_ZERO, SET_ID = 0, 1, 2, 3, 4, 6, 7
READ, WRITE, FAULTS = 17, 18, 21
RUN = 2
"""Mode of a motor with torque."""
MOST_ID = 127

_FAULT_BITS = (
    Fault.VOLTAGE,
    Fault.OVERCURRENT,
    Fault.OVERHEATED,
    Fault.ENCODER,
    Fault.ENCODER,  # Hall sensor; RobStride's own program calls it a stall, see __init__
    Fault.OTHER,  # not calibrated
)

_ROWS = (
    Register(0x7005, "run_mode", "uint8"),
    Register(0x700B, "limit_torque"),
    Register(0x7017, "limit_spd"),
    Register(0x7018, "limit_cur"),
    Register(0x7019, "mechPos", writable=False),
    Register(0x701A, "iqf", writable=False),
    Register(0x701B, "mechVel", writable=False),
    Register(0x701C, "VBUS", writable=False),
    Register(0x701E, "loc_kp"),
    Register(0x701F, "spd_kp"),
    Register(0x7020, "spd_ki"),
    Register(0x7028, "canTimeout", "uint32"),
    Register(0x200C, "CAN_TIMEOUT", "uint32"),
)
REGISTERS: Mapping[str, Register] = {row.name: row for row in _ROWS}
"""By name. ``CAN_TIMEOUT`` is where the CyberGear's manual has what newer firmware has at ``canTimeout``."""


def frame_id(kind: int, data16: int, target: int) -> int:
    """The 29 bits."""
    return kind << 24 | data16 << 8 | target


def pack_command(bus_id: int, p: int, v: int, kp: int, kd: int, t: int) -> Frame:
    """A command from its five codes of 16 bits."""
    return Frame(frame_id(COMMAND, t, bus_id), struct.pack(">4H", p, v, kp, kd), extended=True)


def encode_command(codes: Codes, bus_id: int, q: float, dq: float, kp: float, kd: float, tau: float) -> Frame:
    """The same from SI units.

    Raises:
        HardwareError: a value that is not finite.
    """
    return pack_command(
        bus_id, codes.p.encode(q), codes.v.encode(dq), codes.kp.encode(kp), codes.kd.encode(kd), codes.t.encode(tau)
    )


class RobStrideCodec:
    """See :class:`cadenza.robots.hardware.canbus.codec.Codec`.

    Args:
        ranges: by name of the joint or, for all drives of a kind, by model; no model has a default. In words as
            :func:`parse_ranges` takes them.
        host_id: ours; 0xFD in RobStride's programs, 0 in the CyberGear's manual; any will do.
        watchdog_register: ``canTimeout``, or ``CAN_TIMEOUT`` where the firmware has it there.
    """

    name = "robstride"
    frame_s = 160e-6  # 131 bits and at most 29 stuffed ones
    registers = REGISTERS
    watchdog_step_s = 50e-6
    needs_query_write = True

    def __init__(
        self, ranges: Mapping[str, RangeSet] | str, *, host_id: int = 0xFD, watchdog_register: str = "canTimeout"
    ):
        if not 0 <= host_id <= 0xFF:
            raise HardwareError(f"A host id has 8 bits, not {host_id!r}.")
        if watchdog_register not in ("canTimeout", "CAN_TIMEOUT"):
            raise HardwareError(f"{watchdog_register!r} is no watchdog.", "canTimeout or CAN_TIMEOUT.")
        self.host_id, self.watchdog_register = host_id, watchdog_register
        self._chosen = parse_ranges(ranges) if isinstance(ranges, str) else dict(ranges)
        self._ranges: dict[int, RangeSet] = {}
        self._codes: dict[int, Codes] = {}
        self._bits: dict[int, tuple[Fault, ...]] = {}

    # ------------------------------------------------------------------ who is there

    def check(self, rows: tuple[MotorSettings, ...]) -> None:
        for row in rows:
            if not (row.motor.startswith("RS") or row.motor == "CyberGear"):
                raise HardwareError(f"{row.name}: a RobStride bus moves RS drives and CyberGears, not {row.motor!r}.")
            if not 1 <= row.bus_id <= MOST_ID or row.bus_id == self.host_id:
                raise RefusedError(f"{row.name}: {row.bus_id} is no id of a drive.", f"1 to {MOST_ID}, not the host's.")
            ranges = self._chosen.get(row.name) or self._chosen.get(row.motor)
            if ranges is None:
                raise no_choice(row.name, row.motor)
            widest = max(abs(limit) for limit in row.position_limits_rad)
            if widest > ranges.p_rad:
                raise RefusedError(
                    f"{row.name}: limits of {widest:g} rad lie beyond what its frames carry ({ranges.p_rad:g} rad)."
                )
            if row.torque_limit_nm > ranges.t_nm:
                raise RefusedError(
                    f"{row.name}: a torque limit of {row.torque_limit_nm:g} N m, but its frames carry "
                    f"{ranges.t_nm:g} N m.",
                    "Lower the limit, or look up the ranges again.",
                )
            self._ranges[row.bus_id], self._codes[row.bus_id] = ranges, Codes.of(ranges, 16, 16)
            stall = row.motor.startswith("RS")
            self._bits[row.bus_id] = tuple(
                Fault.OVERLOAD if stall and bit == 4 else fault for bit, fault in enumerate(_FAULT_BITS)
            )

    def identify(self, link: Link, bus_id: int, row: MotorSettings | None) -> Identity | None:
        unique = link.ask(
            self._frame(GET_ID, self.host_id, bus_id),
            lambda frame: (
                frame.data
                if frame.extended and not frame.error and frame.id == frame_id(GET_ID, bus_id, 0xFE)
                else None
            ),
        )
        if unique is None:
            return None
        if row is not None:
            highest = link.read_register(bus_id, "limit_torque")
            if highest > 1.001 * self._ranges[bus_id].t_nm:
                raise RefusedError(
                    f"{row.name}: id {bus_id} allows {highest:g} N m (limit_torque), more than the chosen range of "
                    f"{self._ranges[bus_id].t_nm:g} N m carries. That range is another drive's.",
                    "Look up the ranges in the manual of this unit.",
                )
        return Identity(bus_id, row.motor if row is not None else "robstride", "", unique.hex())

    def ranges(self, bus_id: int) -> RangeSet:
        return self._ranges[bus_id]

    def codes(self, bus_id: int) -> Codes:
        return self._codes[bus_id]

    # ------------------------------------------------------------------ frames

    def _frame(self, kind: int, data16: int, bus_id: int, data: bytes = bytes(8)) -> Frame:
        return Frame(frame_id(kind, data16, bus_id), data, extended=True)

    def command(self, bus_id: int, p: int, v: int, kp: int, kd: int, t: int) -> Frame:
        return pack_command(bus_id, p, v, kp, kd, t)

    def enable(self, bus_id: int) -> Frame:
        return self._frame(ENABLE, self.host_id, bus_id)

    def disable(self, bus_id: int) -> Frame:
        return self._frame(STOP, self.host_id, bus_id)

    def clear(self, bus_id: int) -> Frame:
        return self._frame(STOP, self.host_id, bus_id, b"\1" + bytes(7))

    def set_zero(self, bus_id: int) -> Frame:
        """The present position becomes 0 rad, until power-off."""
        return self._frame(SET_ZERO, self.host_id, bus_id, b"\1" + bytes(7))

    def query(self, bus_id: int, *, known_off: bool) -> Frame | None:
        return self.disable(bus_id) if known_off else None

    def feedback(self, frame: Frame) -> Feedback | None:
        if not frame.extended or frame.error or frame.id >> 24 != FEEDBACK:
            return None
        bus_id = frame.id >> 8 & 0xFF
        if bus_id not in self._codes:
            return None
        if frame.id & 0xFF != self.host_id or len(frame.data) != 8:
            raise GarbledFrame(bus_id)
        p, v, t, tenths = struct.unpack(">3Hh", frame.data)
        codes, raised = self._codes[bus_id], frame.id >> 16 & 0x3F
        fault = Fault.NONE
        for bit, meaning in enumerate(self._bits[bus_id]):
            if raised >> bit & 1:
                fault |= meaning
        return Feedback(
            bus_id, codes.p.decode(p), codes.v.decode(v), codes.t.decode(t), tenths / 10,
            frame.id >> 22 & 3 == RUN, fault,
        )  # fmt: skip

    # ------------------------------------------------------------------ parameters

    def read_request(self, bus_id: int, register: Register) -> Frame:
        return self._frame(READ, self.host_id, bus_id, struct.pack("<H6x", register.number))

    def read_reply(self, bus_id: int, register: Register, frame: Frame) -> bytes | None:
        if not frame.extended or frame.error or frame.id >> 24 != READ or len(frame.data) != 8:
            return None
        if (
            frame.id & 0xFFFF != bus_id << 8 | self.host_id
            or struct.unpack_from("<H", frame.data)[0] != register.number
        ):
            return None
        return b"" if frame.id >> 16 & 0xFF else frame.data[4:]

    def write_request(self, bus_id: int, register: Register, value: float) -> Frame:
        return self._frame(WRITE, self.host_id, bus_id, struct.pack("<H2x", register.number) + register.encode(value))

    def write_reply(self, bus_id: int, register: Register, frame: Frame) -> bytes | None:
        if not frame.extended or frame.error or frame.id >> 24 != FEEDBACK or frame.id >> 8 & 0xFF != bus_id:
            return None
        return frame.data

    def state_registers(self) -> Mapping[str, str]:
        return {"q": "mechPos", "dq": "mechVel", "voltage": "VBUS"}

    def setup(self, row: MotorSettings) -> Mapping[str, float]:
        return {"run_mode": 0.0, "limit_torque": row.torque_limit_nm}

    def prove_ranges(self, row: MotorSettings, feedback: Feedback, link: Link) -> None:
        """Compare the angle as a number (``mechPos``) and as a share of the range.

        They part where the range is wrong and the shaft is not at 0.
        """
        angle = link.read_register(row.bus_id, "mechPos")
        ranges = self._ranges[row.bus_id]
        step = 2 * ranges.p_rad / 65535
        if not math.isfinite(angle) or abs(angle) > ranges.p_rad:
            raise RefusedError(f"{row.name}: its shaft is at {angle:g} rad, beyond what its frames carry.")
        if abs(angle - feedback.q) > 4 * step + 0.01:
            raise RefusedError(
                f"{row.name}: its shaft is at {angle:.3f} rad (mechPos), but its frames, read with the range of "
                f"+-{ranges.p_rad:g} rad, say {feedback.q:.3f} rad. That range is not this drive's.",
                "Look up the ranges in the manual of this unit.",
            )
