from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from can_rig import settings
from hypothesis import given
from hypothesis import strategies as st

from cadenza.robots.hardware.canbus.bus import CanBus
from cadenza.robots.hardware.canbus.codec import GarbledFrame
from cadenza.robots.hardware.canbus.opening import can_bus
from cadenza.robots.hardware.canbus.outgoing import Outgoing
from cadenza.robots.hardware.canbus.ranges import Codes, RangeSet, candidate, parse_ranges
from cadenza.robots.hardware.canbus.robstride import REGISTERS, RobStrideCodec, encode_command
from cadenza.robots.hardware.errors import HardwareError, RefusedError
from cadenza.robots.hardware.transports.canport import Frame
from cadenza.robots.hardware.types import Fault
from cadenza.robots.names import UnknownNameError

CYBERGEAR = candidate("CyberGear", "manual")
CODES = Codes.of(CYBERGEAR, 16, 16)
ANY = st.floats(allow_nan=False, allow_infinity=False, width=64)


def made(bus_id: int = 127, motor: str = "CyberGear", ranges: RangeSet = CYBERGEAR) -> RobStrideCodec:
    codec = RobStrideCodec({motor: ranges})
    codec.check(tuple(settings(motor, [bus_id])))
    return codec


# ---------------------------------------------------------------------- by hand


def test_a_command_worked_out_by_hand() -> None:
    # p 0.5*65535 -> 7FFF; v 31/60*65535 = 33859.75 -> 8443; kp 50/500 -> 1999; kd 1/5 -> 3333; t 14/24 -> 38228 = 9554
    frame = encode_command(CODES, 127, 0, 1, 50, 1, 2)
    assert frame == Frame(0x0195547F, bytes.fromhex("7fff844319993333"), extended=True)
    # Ends of all ranges, and beyond them.
    assert encode_command(CODES, 1, 99, 99, 999, 9, 99) == Frame(0x01FFFF01, b"\xff" * 8, extended=True)
    assert encode_command(CODES, 1, -99, -99, -1, -1, -99) == Frame(0x01000001, bytes(8), extended=True)


def test_feedback_worked_out_by_hand() -> None:
    # mode 2 (run), bit 18 (too hot), motor 127 -> data16 847F; host FD
    found = made().feedback(Frame(0x02847FFD, bytes.fromhex("8000800080000145"), extended=True))
    assert found is not None
    assert (found.bus_id, found.enabled, found.fault, found.temperature) == (127, True, Fault.OVERHEATED, 32.5)
    assert found.q == pytest.approx(4 * math.pi / 65535, rel=1e-6)
    assert found.dq == pytest.approx(30 / 65535, rel=1e-6)
    assert found.tau == pytest.approx(12 / 65535, rel=1e-6)


@pytest.mark.parametrize(
    ("bit", "cybergear", "robstride"),
    [
        (16, Fault.VOLTAGE, Fault.VOLTAGE), (17, Fault.OVERCURRENT, Fault.OVERCURRENT),
        (18, Fault.OVERHEATED, Fault.OVERHEATED), (19, Fault.ENCODER, Fault.ENCODER),
        (20, Fault.ENCODER, Fault.OVERLOAD), (21, Fault.OTHER, Fault.OTHER),
    ],
)  # fmt: skip
def test_fault_bits(bit: int, cybergear: Fault, robstride: Fault) -> None:
    frame = Frame(0x020005FD | 1 << bit, bytes(8), extended=True)
    ours, theirs = made(5).feedback(frame), made(5, "RS-02", candidate("RS-02", "lerobot")).feedback(frame)
    assert ours is not None
    assert theirs is not None
    assert (ours.fault, theirs.fault) == (cybergear, robstride)
    assert not ours.enabled


def test_orders_and_parameters() -> None:
    codec = made(1)
    assert codec.enable(1) == Frame(0x0300FD01, bytes(8), extended=True)
    assert codec.disable(1) == Frame(0x0400FD01, bytes(8), extended=True)
    assert codec.clear(1) == Frame(0x0400FD01, b"\1" + bytes(7), extended=True)
    assert codec.set_zero(1) == Frame(0x0600FD01, b"\1" + bytes(7), extended=True)
    assert codec.read_request(1, REGISTERS["mechPos"]) == Frame(0x1100FD01, bytes.fromhex("1970000000000000"), True)
    # 0x1200FD01 is also the example of RobStride's RS02 manual for a parameter write to motor 1 by host FD.
    assert codec.write_request(1, REGISTERS["run_mode"], 2) == Frame(
        0x1200FD01, bytes.fromhex("0570000002000000"), extended=True
    )
    assert codec.write_request(1, REGISTERS["canTimeout"], 20000).data.hex() == "28700000204e0000"
    assert codec.write_request(1, REGISTERS["limit_torque"], 1.5).data.hex() == "0b7000000000c03f"
    reply = Frame(0x110001FD, bytes.fromhex("1970000000000040"), extended=True)
    assert codec.read_reply(1, REGISTERS["mechPos"], reply) == bytes.fromhex("00000040")
    assert REGISTERS["mechPos"].decode(bytes.fromhex("00000040")) == 2.0
    assert codec.read_reply(1, REGISTERS["mechVel"], reply) is None
    assert codec.read_reply(2, REGISTERS["mechPos"], reply) is None
    refused = Frame(0x110101FD, bytes.fromhex("1970000000000000"), extended=True)
    assert codec.read_reply(1, REGISTERS["mechPos"], refused) == b""


# ---------------------------------------------------------------------- properties


@given(q=ANY, dq=ANY, tau=ANY, kp=ANY, kd=ANY, low=st.floats(-3, 0.5), width=st.floats(0.01, 3))
def test_no_frame_holds_a_goal_beyond_the_limits(
    q: float, dq: float, tau: float, kp: float, kd: float, low: float, width: float
) -> None:
    (row,) = settings("CyberGear", [5], position_limits_rad=(low, low + width), torque_limit_nm=2.0)
    frame, _ = Outgoing(made(5), [row]).frame(0, q, dq, tau, kp, kd)
    assert low <= CODES.p.decode(int.from_bytes(frame.data[:2], "big")) <= low + width
    assert abs(CODES.v.decode(int.from_bytes(frame.data[2:4], "big"))) <= row.velocity_limit_rad_s
    assert abs(CODES.t.decode(frame.id >> 8 & 0xFFFF)) <= 2.0
    assert frame.id & 0xFF == 5
    assert frame.id >> 24 == 1


@given(identifier=st.integers(0, 2**29 - 1), data=st.binary(max_size=8), extended=st.booleans())
def test_no_frame_whatsoever_does_more_than_be_refused(identifier: int, data: bytes, extended: bool) -> None:
    try:
        found = made().feedback(Frame(identifier, data, extended))
    except GarbledFrame:
        return
    assert found is None or (found.bus_id == 127 and len(data) == 8)


@given(identifier=st.integers(0, 0xFFFF), data=st.binary(max_size=8))
def test_feedback_for_another_host_or_of_another_length_is_garbled(identifier: int, data: bytes) -> None:
    frame = Frame(0x02000000 | 127 << 8 | identifier & 0xFF, data, extended=True)
    if identifier & 0xFF == 0xFD and len(data) == 8:
        assert made().feedback(frame) is not None
    else:
        with pytest.raises(GarbledFrame):
            made().feedback(frame)


@pytest.mark.parametrize("place", range(5))
def test_what_is_not_finite_is_refused(place: int) -> None:
    values = [0.0] * 5
    values[place] = math.nan
    with pytest.raises(HardwareError, match="finite"):
        encode_command(CODES, 1, *values)


# ---------------------------------------------------------------------- ranges


def test_there_are_no_default_ranges() -> None:
    with pytest.raises(RefusedError, match="nobody has said") as caught:
        CanBus("virtual:x", settings("RS-02"), RobStrideCodec({}))
    assert "lerobot" in caught.value.advice
    assert "+-17 N m" in caught.value.advice
    assert "+-20 N m" in caught.value.advice
    with pytest.raises(RefusedError):
        can_bus("robstride", "virtual:x", settings("CyberGear"))
    with pytest.raises(HardwareError, match="say themselves"):
        can_bus("damiao", "virtual:x", settings("DM4310"), ranges="DM4310=12.5,30,10,500,5")


def test_ranges_by_joint_win_over_those_by_model() -> None:
    own = RangeSet(12.5, 33, 20, 500, 5, "manual of unit 17, page 31")
    codec = RobStrideCodec({"RS-02": candidate("RS-02", "robstride-sdk"), "joint_2": own})
    codec.check(tuple(settings("RS-02")))
    assert codec.ranges(2) == own
    assert codec.ranges(1).t_nm == 17


def test_ranges_that_cannot_carry_the_limits_are_refused() -> None:
    with pytest.raises(RefusedError, match="torque limit"):
        made(5, "CyberGear", RangeSet(12.5, 30, 5.5, 500, 5, "another drive's"))
    with pytest.raises(RefusedError, match="limits of"):
        made(5, "CyberGear", RangeSet(1.0, 30, 12, 500, 5, "another drive's"))


class Drive:
    """A link to a drive whose parameters say these things."""

    def __init__(self, **parameters: float):
        self.parameters = parameters

    def ask(self, frame: Frame, reply: Callable[[Frame], bytes | None], tries: int = 3) -> bytes | None:
        return reply(Frame((frame.id & 0xFF) << 8 | 0xFE, b"12345678", extended=True))

    def read_register(self, bus_id: int, name: str) -> float:
        return self.parameters[name]


def test_a_wrong_range_shows_in_what_the_drive_says_of_itself() -> None:
    codec = made(5, "RS-02", RangeSet(112.5, 33, 20, 500, 5, "lerobot, for a drive that has 4 pi"))
    (row,) = settings("RS-02", [5])
    # The shaft stands at 1 rad of +-4 pi: code 35375. Read with +-112.5 rad that is 8.95 rad.
    feedback = codec.feedback(Frame(0x020005FD, (35375).to_bytes(2, "big") + bytes(6), extended=True))
    assert feedback is not None
    assert feedback.q == pytest.approx(8.95, abs=0.01)
    with pytest.raises(RefusedError, match="not this drive's"):
        codec.prove_ranges(row, feedback, Drive(mechPos=1.0))
    right = made(5, "RS-02", candidate("RS-02", "robstride-sdk"))
    feedback = right.feedback(Frame(0x020005FD, (35375).to_bytes(2, "big") + bytes(6), extended=True))
    assert feedback is not None
    right.prove_ranges(row, feedback, Drive(mechPos=1.0))
    # A drive that allows more torque than the range carries has another range.
    with pytest.raises(RefusedError, match="limit_torque"):
        made(5, "RS-02", RangeSet(12.566, 30, 12, 500, 5, "CyberGear's")).identify(Drive(limit_torque=17.0), 5, row)


def test_ranges_in_words() -> None:
    found = parse_ranges("RS-02=robstride-sdk; left_knee = 12.5,33,20,500,5")
    assert found["RS-02"] == candidate("RS-02", "robstride-sdk")
    assert found["left_knee"].t_nm == 20
    codec = RobStrideCodec("RS-02=lerobot")
    codec.check(tuple(settings("RS-02", [3])))
    assert codec.ranges(3) == candidate("RS-02", "lerobot")
    with pytest.raises(RefusedError):
        parse_ranges("RS-02")
    with pytest.raises(RefusedError):
        parse_ranges("RS-02=1,2,3")
    with pytest.raises(UnknownNameError):
        parse_ranges("RS-02=folklore")
    with pytest.raises(UnknownNameError):
        parse_ranges("RS-99=lerobot")


def test_ids_that_do_not_exist_are_refused() -> None:
    for number in (0, 128):
        with pytest.raises(RefusedError):
            made(number)
    with pytest.raises(HardwareError):
        RobStrideCodec({}, host_id=256)
