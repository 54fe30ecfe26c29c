"""Registers and encodings of the Feetech driver, against numbers worked out by hand and against the emulator's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.robots.hardware.emulators import feetech_table as emulated
from cadenza.robots.hardware.feetech import table
from cadenza.robots.hardware.types import Fault
from cadenza.robots.motors import MOTORS, servo_gains


@pytest.mark.parametrize(
    ("value", "bit", "raw"),
    [(5, 15, 0x0005), (-5, 15, 0x8005), (-1000, 10, 0x07E8), (-2047, 11, 0x0FFF), (0, 15, 0), (32767, 15, 0x7FFF)],
)
def test_sign_and_magnitude_by_hand(value: int, bit: int, raw: int) -> None:
    assert table.to_sign_magnitude(value, bit) == raw
    assert table.from_sign_magnitude(raw, bit) == value


def test_minus_zero_is_zero() -> None:
    assert table.from_sign_magnitude(0x8000, 15) == 0


def test_a_magnitude_that_reaches_the_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="bit 11"):
        table.to_sign_magnitude(2048, 11)


@given(st.sampled_from([10, 11, 15]), st.data())
def test_round_trip(bit: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(-(1 << bit) + 1, (1 << bit) - 1))
    assert table.from_sign_magnitude(table.to_sign_magnitude(value, bit), bit) == value


@given(st.data())
def test_every_register_gives_back_what_it_took(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([n for n, one in table.REGISTERS.items() if one.writable]))
    entry = table.REGISTERS[name]
    value = data.draw(st.integers(entry.low, entry.high))
    encoded = entry.encode(value)
    assert len(encoded) == entry.size
    assert all(0 <= byte <= 255 for byte in encoded)
    assert entry.decode(encoded) == value
    for wrong in (entry.low - 1, entry.high + 1):
        with pytest.raises(ValueError, match="outside"):
            entry.encode(wrong)


@given(st.data())
def test_driver_and_emulator_read_the_same_bytes(data: st.DataObject) -> None:
    """Two tables written apart: a value that the driver encodes is the one that the emulated servo finds."""
    names = {"offset": "OFFSET", "goal_position": "GOAL", "goal_speed": "SPEED", "max_torque": "TORQUE_MAX",
             "p_coefficient": "P", "torque_limit": "TORQUE_LIMIT", "acceleration": "ACCELERATION", "lock": "LOCK",
             "min_angle_limit": "ANGLE_MIN", "protection_time": "PROTECT_TIME", "return_delay": "DELAY"}  # fmt: skip
    ours = data.draw(st.sampled_from(sorted(names)))
    entry, memory = table.REGISTERS[ours], emulated.Memory()
    value = data.draw(st.integers(max(entry.low, -32766), min(entry.high, 32766)))
    memory.write(entry.address, bytes(entry.encode(value)))
    assert memory.get(names[ours]) == value


def test_addresses_agree_with_the_emulators() -> None:
    theirs = {(cell.address, cell.size) for cell in emulated.CELLS.values()}
    # The driver reads the model number as one value of two bytes, the emulator holds it as Feetech's table does.
    ours = {(entry.address, entry.size) for name, entry in table.REGISTERS.items() if name != "model_number"}
    assert ours <= theirs
    assert int.from_bytes(emulated.Memory().read(3, 2), "little") == 777


def test_ticks() -> None:
    assert table.to_ticks(0.0) == 2048
    assert table.to_ticks(math.pi / 2) == 3072
    assert table.to_rad(1024) == pytest.approx(-math.pi / 2)


@given(st.integers(0, 4095))
def test_tick_round_trip(tick: int) -> None:
    assert table.to_ticks(table.to_rad(tick)) == tick


def test_speed_units_of_the_phase() -> None:
    fine, coarse = table.speed_unit_rad_s(12), table.speed_unit_rad_s(8)
    assert fine * 60 / (2 * math.pi) == pytest.approx(0.0146, abs=1e-4)  # rpm, as Feetech's table has it
    assert coarse * 60 / (2 * math.pi) == pytest.approx(0.732, abs=1e-3)


def test_p_coefficient_32_is_the_motor_as_delivered() -> None:
    for name in ("STS3215-7.4V", "STS3215-12V"):
        kp, _ = servo_gains(MOTORS[name])
        assert table.p_coefficient(name, kp) == 32
        assert table.kp_of(name, 32) == pytest.approx(kp)
    assert table.kp_of("STS3215-12V", 32) == pytest.approx(32 * 0.166 * 2.94)
    assert table.p_coefficient("STS3215-12V", 1e9) == 254
    assert table.p_coefficient("STS3215-12V", 0.0) == 1


def test_status_bits() -> None:
    assert table.faults(0) == Fault.NONE
    assert table.faults(0b100101) == Fault.VOLTAGE | Fault.OVERHEATED | Fault.OVERLOAD
    assert table.faults(2) == Fault.ENCODER
    assert table.faults(8) == Fault.OVERCURRENT
