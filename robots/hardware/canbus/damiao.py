"""Damiao's frames: "MIT mode" on 11-bit ids.

Sources: the manual of the DM-J4310-2EC as rendered by the documentation of damiao-motor (communication-protocol,
registers) and by lerobot's motors/damiao; OpenArm's page on motor CAN for "one reply to each frame sent". States and
``TIMEOUT`` (units of 50 us): the same. That a timeout of 0 means none is presumed.

Command, id = ESC_ID:   p15:8 | p7:0 | v11:4 | v3:0,kp11:8 | kp7:0 | kd11:4 | kd3:0,t11:8 | t7:0
Feedback, id = MST_ID:  state<<4,id3:0 | p15:8 | p7:0 | v11:4 | v3:0,t11:8 | t7:0 | MOS degC | rotor degC
Registers, id = 0x7FF:  id low | id high | 33 read, 55 write, AA store, CC feedback | number | value, 4 bytes
"""

from __future__ import annotations

from collections.abc import Mapping

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.can_motors import GEAR_RATIOS
from cadenza.robots.hardware.canbus.codec import Feedback, GarbledFrame, Link, Register
from cadenza.robots.hardware.canbus.ranges import Codes, RangeSet
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Fault, Identity

KP_MAX, KD_MAX = 500.0, 5.0
"""The same for all of Damiao's drives."""
REGISTER_ID = 0x7FF
MOST_ID = 15
"""Feedback names its motor by four bits."""
ENABLED = 1
_READ, _WRITE, _STORE, _REFRESH = 0x33, 0x55, 0xAA, 0xCC
_SPECIAL = bytes([0xFF] * 7)
_STATES: dict[int, Fault] = {
    0x0: Fault.NONE,
    0x1: Fault.NONE,
    0x8: Fault.VOLTAGE,
    0x9: Fault.VOLTAGE,
    0xA: Fault.OVERCURRENT,
    0xB: Fault.OVERHEATED,
    0xC: Fault.OVERHEATED,
    0xD: Fault.COMMUNICATION_LOST,
    0xE: Fault.OVERLOAD,
}

_ROWS = (
    *(
        Register(number, name)
        for number, name in (
            (0, "UV_Value"), (1, "KT_Value"), (2, "OT_Value"), (3, "OC_Value"), (4, "ACC"), (5, "DEC"),
            (6, "MAX_SPD"), (21, "PMAX"), (22, "VMAX"), (23, "TMAX"), (24, "I_BW"), (25, "KP_ASR"), (26, "KI_ASR"),
            (27, "KP_APR"), (28, "KI_APR"), (29, "OV_Value"), (30, "GREF"), (31, "Deta"), (32, "V_BW"), (33, "IQ_c1"),
            (34, "VL_c1"),
        )
    ),
    *(
        Register(number, name, "uint32")
        for number, name in ((7, "MST_ID"), (8, "ESC_ID"), (9, "TIMEOUT"), (10, "CTRL_MODE"), (35, "can_br"))
    ),
    *(
        Register(number, name, "uint32", writable=False)
        for number, name in ((13, "hw_ver"), (14, "sw_ver"), (15, "SN"), (16, "NPP"), (36, "sub_ver"))
    ),
    *(
        Register(number, name, writable=False)
        for number, name in (
            (11, "Damp"), (12, "Inertia"), (17, "Rs"), (18, "Ls"), (19, "Flux"), (20, "Gr"), (60, "VBus"),
            (61, "Tpcb"), (62, "Tmtr"), (80, "p_m"), (81, "xout"),
        )
    ),
)  # fmt: skip
REGISTERS: Mapping[str, Register] = {row.name: row for row in _ROWS}
"""By name; what survives power-off does so only after a store (0xAA), which this driver never sends by itself."""


def pack_command(p: int, v: int, kp: int, kd: int, t: int) -> bytes:
    """The eight bytes of a command from its codes: p of 16 bits, the others of 12."""
    return bytes(
        (p >> 8, p & 0xFF, v >> 4, (v & 0xF) << 4 | kp >> 8, kp & 0xFF, kd >> 4, (kd & 0xF) << 4 | t >> 8, t & 0xFF)
    )


def encode_command(codes: Codes, q: float, dq: float, kp: float, kd: float, tau: float) -> bytes:
    """The same from SI units.

    Raises:
        HardwareError: a value that is not finite.
    """
    return pack_command(
        codes.p.encode(q), codes.v.encode(dq), codes.kp.encode(kp), codes.kd.encode(kd), codes.t.encode(tau)
    )


_LIKELY = {(10.0, 10.0): "DM4310", (40.0, 28.0): "DM4340"}
"""Gear ratio and TMAX as delivered -> model; a drive does not say which one it is."""


def _likely_model(link: Link, bus_id: int) -> str:
    ratio, torque = (link.read_register(bus_id, name) for name in ("Gr", "TMAX"))
    return _LIKELY.get((round(ratio, 3), round(torque, 3)), f"damiao {ratio:g}:1, {torque:g} N m")


class DamiaoCodec:
    """See :class:`cadenza.robots.hardware.canbus.codec.Codec`. Ranges come from the motors; none can be given."""

    name = "damiao"
    frame_s = 135e-6  # 111 bits and at most 24 stuffed ones
    registers = REGISTERS
    watchdog_register = "TIMEOUT"
    watchdog_step_s = 50e-6
    needs_query_write = False

    def __init__(self) -> None:
        self._ranges: dict[int, RangeSet] = {}
        self._codes: dict[int, Codes] = {}
        self._master: dict[int, int] = {}

    # ------------------------------------------------------------------ who is there

    def check(self, rows: tuple[MotorSettings, ...]) -> None:
        for row in rows:
            if not row.motor.startswith("DM"):
                raise HardwareError(f"{row.name}: a Damiao bus moves DM drives, not {row.motor!r}.")
            if not 1 <= row.bus_id <= MOST_ID:
                raise RefusedError(
                    f"{row.name}: a Damiao drive with id {row.bus_id} cannot be told from id {row.bus_id & 0xF}.",
                    f"Its feedback has four bits for the id: use 1 to {MOST_ID} on one bus, and a second bus for more.",
                )

    def identify(self, link: Link, bus_id: int, row: MotorSettings | None) -> Identity | None:
        found = link.ask(
            self.read_request(bus_id, REGISTERS["ESC_ID"]),
            lambda frame: self.read_reply(bus_id, REGISTERS["ESC_ID"], frame),
        )
        if found is None:
            return None
        if row is not None:
            self._take_ranges(link, row)
        version = round(link.read_register(bus_id, "sw_ver"))
        serial = round(link.read_register(bus_id, "SN"))
        model = row.motor if row is not None else _likely_model(link, bus_id)
        return Identity(bus_id, model, str(version), str(serial) if serial else "")

    def _take_ranges(self, link: Link, row: MotorSettings) -> None:
        number = row.bus_id
        ratio, expected = link.read_register(number, "Gr"), GEAR_RATIOS.get(row.motor)
        if expected is not None and abs(ratio - expected) > 0.01 * expected:
            raise RefusedError(f"{row.name}: the gear of id {number} is {ratio:g}:1; a {row.motor} has {expected:g}:1.")
        p, v, t = (link.read_register(number, name) for name in ("PMAX", "VMAX", "TMAX"))
        ranges = RangeSet(p, v, t, KP_MAX, KD_MAX, f"registers 21 to 23 of id {number}")
        widest = max(abs(limit) for limit in row.position_limits_rad)
        if widest > p:
            raise RefusedError(f"{row.name}: limits of {widest:g} rad lie beyond what its frames carry ({p:g} rad).")
        if row.torque_limit_nm > t:
            raise RefusedError(
                f"{row.name}: a torque limit of {row.torque_limit_nm:g} N m, but its frames carry {t:g} N m (TMAX).",
                "Lower the limit, or set TMAX in the drive.",
            )
        self._ranges[number], self._codes[number] = ranges, Codes.of(ranges, 16, 12)
        self._master[number] = round(link.read_register(number, "MST_ID"))

    def ranges(self, bus_id: int) -> RangeSet:
        return self._ranges[bus_id]

    def codes(self, bus_id: int) -> Codes:
        return self._codes[bus_id]

    # ------------------------------------------------------------------ frames

    def command(self, bus_id: int, p: int, v: int, kp: int, kd: int, t: int) -> Frame:
        return Frame(bus_id, pack_command(p, v, kp, kd, t))

    def enable(self, bus_id: int) -> Frame:
        return Frame(bus_id, _SPECIAL + b"\xfc")

    def disable(self, bus_id: int) -> Frame:
        return Frame(bus_id, _SPECIAL + b"\xfd")

    def set_zero(self, bus_id: int) -> Frame:
        """The present position becomes 0 rad."""
        return Frame(bus_id, _SPECIAL + b"\xfe")

    def clear(self, bus_id: int) -> Frame:
        return Frame(bus_id, _SPECIAL + b"\xfb")

    def store(self, bus_id: int) -> Frame:
        """Write all registers to flash; only with torque off, and seldom: flash wears."""
        return Frame(REGISTER_ID, bytes((bus_id & 0xFF, bus_id >> 8, _STORE, 1, 0, 0, 0, 0)))

    def query(self, bus_id: int, *, known_off: bool) -> Frame | None:
        return Frame(REGISTER_ID, bytes((bus_id & 0xFF, bus_id >> 8, _REFRESH, 0, 0, 0, 0, 0)))

    def feedback(self, frame: Frame) -> Feedback | None:
        if frame.extended or frame.error or not frame.data:
            return None
        data = frame.data
        number = data[0] & 0xF
        if self._master.get(number) != frame.id:
            owners = [one for one, master in self._master.items() if master == frame.id]
            if len(owners) == 1:  # that id is one motor's alone, but the frame names another
                raise GarbledFrame(owners[0])
            return None
        if len(data) != 8:
            raise GarbledFrame(number)
        if data[0] == number and data[1] == 0 and data[2] in (_READ, _WRITE, _STORE):
            return None  # a late answer about a register; as feedback it would be a shaft at the end of the range
        state = data[0] >> 4
        codes = self._codes[number]
        return Feedback(
            number,
            codes.p.decode(data[1] << 8 | data[2]),
            codes.v.decode(data[3] << 4 | data[4] >> 4),
            codes.t.decode((data[4] & 0xF) << 8 | data[5]),
            float(max(data[6], data[7])),
            state == ENABLED,
            _STATES.get(state, Fault.OTHER),
        )

    # ------------------------------------------------------------------ registers

    def read_request(self, bus_id: int, register: Register) -> Frame:
        return Frame(REGISTER_ID, bytes((bus_id & 0xFF, bus_id >> 8, _READ, register.number, 0, 0, 0, 0)))

    def read_reply(self, bus_id: int, register: Register, frame: Frame) -> bytes | None:
        return self._reply(bus_id, register, frame, _READ)

    def write_request(self, bus_id: int, register: Register, value: float) -> Frame:
        head = bytes((bus_id & 0xFF, bus_id >> 8, _WRITE, register.number))
        return Frame(REGISTER_ID, head + register.encode(value))

    def write_reply(self, bus_id: int, register: Register, frame: Frame) -> bytes | None:
        return self._reply(bus_id, register, frame, _WRITE)

    def _reply(self, bus_id: int, register: Register, frame: Frame, what: int) -> bytes | None:
        head = bytes((bus_id & 0xFF, bus_id >> 8, what, register.number))
        # On a bus that echoes, a request would look like its own answer; those go out on REGISTER_ID.
        if frame.extended or frame.error or frame.id == REGISTER_ID or len(frame.data) != 8 or frame.data[:4] != head:
            return None
        return frame.data[4:]

    def state_registers(self) -> Mapping[str, str]:
        return {}

    def setup(self, row: MotorSettings) -> Mapping[str, float]:
        return {"CTRL_MODE": 1.0}

    def prove_ranges(self, row: MotorSettings, feedback: Feedback, link: Link) -> None:
        """Nothing to prove: they are the motor's own."""
