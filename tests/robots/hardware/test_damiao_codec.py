from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from can_rig import settings
from hypothesis import given
from hypothesis import strategies as st

from cadenza.robots.hardware.canbus.codec import GarbledFrame
from cadenza.robots.hardware.canbus.damiao import REGISTERS, DamiaoCodec, encode_command, pack_command
from cadenza.robots.hardware.canbus.outgoing import Outgoing
from cadenza.robots.hardware.canbus.ranges import CANDIDATES, Codes, RangeSet, Scale, candidate
from cadenza.robots.hardware.emulators import can_drives
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Fault

DM4310 = Codes.of(RangeSet(12.5, 30, 10, 500, 5, "test"), 16, 12)
ANY = st.floats(allow_nan=False, allow_infinity=False, width=64)


class Drive:
    """A link to one drive that knows some registers."""

    def __init__(self, **registers: float):
        self.registers = {
            "ESC_ID": 1, "MST_ID": 0x11, "PMAX": 12.5, "VMAX": 30, "TMAX": 10, "Gr": 10, "sw_ver": 5015, "SN": 7,
            **registers,
        }  # fmt: skip

    def ask(self, frame: Frame, reply: Callable[[Frame], bytes | None], tries: int = 3) -> bytes | None:
        return reply(Frame(0x11, frame.data))

    def read_register(self, bus_id: int, name: str) -> float:
        return self.registers[name]


def identified(**registers: float) -> DamiaoCodec:
    codec = DamiaoCodec()
    (row,) = settings("DM4310", [1])
    codec.check((row,))
    assert codec.identify(Drive(**registers), 1, row) is not None
    return codec


# ---------------------------------------------------------------------- by hand


def test_a_command_worked_out_by_hand() -> None:
    # p 13.5/25*65535 = 35388.9 -> 8A3C; v 32/60*4095 = 2184 -> 888; kp 819 -> 333; kd 819 -> 333; t 13/20*4095 -> A65
    assert encode_command(DM4310, 1, 2, 100, 1, 3).hex() == "8a3c888333333a65"
    # Zero is none of the codes: 32767 and 2047 are just below it.
    assert encode_command(DM4310, 0, 0, 0, 0, 0).hex() == "7fff7ff0000007ff"
    assert encode_command(DM4310, -12.5, -30, 0, 0, -10).hex() == "0000000000000000"
    assert encode_command(DM4310, 99, 99, 9999, 99, 99).hex() == "ffffffffffffffff"
    assert DM4310.v.decode(2047) == pytest.approx(-0.0073, abs=1e-4)


def test_feedback_worked_out_by_hand() -> None:
    codec = identified()
    found = codec.feedback(Frame(0x11, bytes.fromhex("118000c0080020 2a".replace(" ", ""))))
    assert found is not None
    assert found.q == pytest.approx(32768 / 65535 * 25 - 12.5)
    assert found.dq == pytest.approx(0xC00 / 4095 * 60 - 30)
    assert found.tau == pytest.approx(0x800 / 4095 * 20 - 10)
    assert (found.enabled, found.fault, found.temperature) == (True, Fault.NONE, 42.0)


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        (0x8, Fault.VOLTAGE), (0x9, Fault.VOLTAGE), (0xA, Fault.OVERCURRENT), (0xB, Fault.OVERHEATED),
        (0xC, Fault.OVERHEATED), (0xD, Fault.COMMUNICATION_LOST), (0xE, Fault.OVERLOAD), (0x7, Fault.OTHER),
    ],
)  # fmt: skip
def test_states_are_faults(state: int, fault: Fault) -> None:
    found = identified().feedback(Frame(0x11, bytes((state << 4 | 1, 0x80, 0, 0x80, 8, 0, 20, 20))))
    assert found is not None
    assert (found.fault, found.enabled) == (fault, False)


def test_orders_and_registers() -> None:
    codec = identified()
    assert [frame.data[7] for frame in (codec.enable(1), codec.disable(1), codec.set_zero(1), codec.clear(1))] == [
        0xFC, 0xFD, 0xFE, 0xFB,
    ]  # fmt: skip
    assert codec.enable(1) == Frame(1, bytes([0xFF] * 7 + [0xFC]))
    assert codec.query(3, known_off=False) == Frame(0x7FF, bytes.fromhex("0300cc0000000000"))
    assert codec.read_request(1, REGISTERS["PMAX"]) == Frame(0x7FF, bytes.fromhex("0100331500000000"))
    # 0.2 s is 4000 units of 50 us: 0xFA0, little endian.
    assert codec.write_request(1, REGISTERS["TIMEOUT"], 4000) == Frame(0x7FF, bytes.fromhex("01005509a00f0000"))
    assert codec.store(1) == Frame(0x7FF, bytes.fromhex("0100aa0100000000"))
    with pytest.raises(HardwareError, match="cannot be written"):
        codec.write_request(1, REGISTERS["Gr"], 9)
    with pytest.raises(HardwareError, match="whole numbers"):
        codec.write_request(1, REGISTERS["TIMEOUT"], 0.5)
    with pytest.raises(HardwareError):
        codec.write_request(1, REGISTERS["PMAX"], math.nan)


# ---------------------------------------------------------------------- against an independent client


@given(q=ANY, dq=ANY, kp=ANY, kd=ANY, tau=ANY)
def test_commands_are_byte_equal_with_those_of_damiao_motor(
    q: float, dq: float, kp: float, kd: float, tau: float
) -> None:
    motor = pytest.importorskip("damiao_motor")
    for model in ("4310", "4340", "8009"):
        limits = motor.DaMiaoMotor(1, 0x11, None, motor_type=model)
        ranges = RangeSet(limits._p_max, limits._v_max, limits._t_max, 500, 5, "damiao-motor")
        assert encode_command(Codes.of(ranges, 16, 12), q, dq, kp, kd, tau) == limits.encode_cmd_msg(q, dq, tau, kp, kd)


@given(data=st.binary(min_size=8, max_size=8))
def test_feedback_is_read_as_damiao_motor_reads_it(data: bytes) -> None:
    motor = pytest.importorskip("damiao_motor")
    data = bytes((data[0] & 0xF0 | 1, data[1] | 1, *data[2:]))
    theirs = motor.DaMiaoMotor(1, 0x11, None, motor_type="4310").decode_sensor_feedback(data)
    ours = identified().feedback(Frame(0x11, data))
    assert ours is not None
    assert (ours.q, ours.dq, ours.tau) == pytest.approx((theirs["pos"], theirs["vel"], theirs["torq"]))


# ---------------------------------------------------------------------- properties


@given(codes=st.tuples(st.integers(0, 65535), *[st.integers(0, 4095)] * 4))
def test_every_command_survives_the_emulators_own_codec(codes: tuple[int, int, int, int, int]) -> None:
    word = int.from_bytes(pack_command(*codes), "big")
    assert (word >> 48, word >> 36 & 0xFFF, word >> 24 & 0xFFF, word >> 12 & 0xFFF, word & 0xFFF) == codes
    q = can_drives.from_code(codes[0], -12.5, 12.5, 16)
    assert q == pytest.approx(DM4310.p.decode(codes[0]), abs=1e-12)
    assert can_drives.to_code(q, -12.5, 12.5, 16) == codes[0]


@given(value=ANY, half=st.floats(0.1, 500), bits=st.sampled_from([12, 16]))
def test_a_code_is_never_out_of_range_and_never_above_its_value(value: float, half: float, bits: int) -> None:
    scale = Scale(-half, half, bits)
    code = scale.encode(value)
    assert 0 <= code <= scale.top
    inside = min(max(value, -half), half)
    assert inside - scale.step * (1 + 1e-6) <= scale.decode(code) <= inside + 1e-9 * half


@given(q=ANY, dq=ANY, tau=ANY, kp=ANY, kd=ANY, low=st.floats(-3, 0.5), width=st.floats(0.01, 3))
def test_no_frame_holds_a_goal_beyond_the_limits(
    q: float, dq: float, tau: float, kp: float, kd: float, low: float, width: float
) -> None:
    codec = identified()
    (row,) = settings("DM4310", [1], position_limits_rad=(low, low + width), torque_limit_nm=2.0)
    frame, said = Outgoing(codec, [row]).frame(0, q, dq, tau, kp, kd)
    word = int.from_bytes(frame.data, "big")
    assert low <= DM4310.p.decode(word >> 48) <= low + width
    assert abs(DM4310.v.decode(word >> 36 & 0xFFF)) <= row.velocity_limit_rad_s
    assert abs(DM4310.t.decode(word & 0xFFF)) <= 2.0
    assert said[:3] == (
        DM4310.p.decode(word >> 48), DM4310.v.decode(word >> 36 & 0xFFF), DM4310.t.decode(word & 0xFFF),
    )  # fmt: skip


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(5))
def test_what_is_not_finite_is_refused(poison: float, place: int) -> None:
    values = [0.0] * 5
    values[place] = poison
    with pytest.raises(HardwareError, match="finite"):
        encode_command(DM4310, *values)


@given(identifier=st.integers(0, 0x7FF), data=st.binary(max_size=8), extended=st.booleans(), error=st.booleans())
def test_no_frame_whatsoever_does_more_than_be_refused(
    identifier: int, data: bytes, extended: bool, error: bool
) -> None:
    codec = identified()
    try:
        found = codec.feedback(Frame(identifier, data, extended, error))
    except GarbledFrame:
        return
    assert found is None or (identifier == 0x11 and len(data) == 8 and abs(found.q) <= 12.5)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("number", [0, 16, 17, 32])
def test_ids_that_alias_are_refused(number: int) -> None:
    with pytest.raises(RefusedError, match="cannot be told from"):
        DamiaoCodec().check(tuple(settings("DM4310", [number])))


def test_ranges_are_the_motors_and_must_carry_the_limits() -> None:
    codec = identified(PMAX=3.5, VMAX=45, TMAX=54)
    assert (codec.ranges(1).p_rad, codec.ranges(1).v_rad_s, codec.ranges(1).t_nm) == (3.5, 45, 54)
    with pytest.raises(RefusedError, match="TMAX"):
        identified(TMAX=5.0)  # the settings ask for 6 N m
    with pytest.raises(RefusedError, match="frames carry"):
        identified(PMAX=2.0)
    with pytest.raises(RefusedError, match="40:1"):
        identified(Gr=40.0)
    with pytest.raises(RefusedError):
        identified(VMAX=0.0)


def test_a_frame_that_names_another_motor_is_garbled() -> None:
    with pytest.raises(GarbledFrame) as caught:
        identified().feedback(Frame(0x11, bytes((0x12, 0x80, 0, 0x80, 8, 0, 20, 20))))
    assert caught.value.bus_id == 1
    with pytest.raises(GarbledFrame):
        identified().feedback(Frame(0x11, bytes((0x11, 0x80, 0))))


def test_candidates_have_sources_and_disagree() -> None:
    for model, sources in CANDIDATES.items():
        assert all(ranges.source for ranges in sources.values())
        assert len({str(ranges) for ranges in sources.values()}) == len(sources) == 2, model
    assert candidate("RS-02", "robstride-sdk").t_nm == 17
    assert candidate("RS-02", "lerobot").t_nm == 20
    with pytest.raises(RefusedError, match="source"):
        RangeSet(1, 1, 1, 1, 1, " ")
