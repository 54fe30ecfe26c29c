"""Control tables and units, against numbers worked out by hand and those of the manual."""

from __future__ import annotations

import math

import pytest
from bench import settings

from cadenza.robots.hardware.dynamixel.settings import (
    DynamixelOptions,
    effort,
    faults_of,
    kp_per_p_gain,
    limits_in_counts,
    p_gain,
    ram_for,
    say_faults,
    watchdog_counts,
)
from cadenza.robots.hardware.dynamixel.table import MODELS, OPENCR, X_SERIES, model_of, to_counts, to_rad
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import Fault
from cadenza.robots.motors import MOTORS

XM430 = MODELS[1020]


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_registers_do_not_overlap(model) -> None:  # type: ignore[no-untyped-def]
    taken: dict[int, str] = {}
    for item in model.registers:
        for address in range(item.address, item.address + item.size):
            assert address not in taken, f"{item.name} and {taken[address]}"
            taken[address] = item.name
    assert all(item.eeprom == (item.address < (64 if model is not OPENCR else 24)) or model is OPENCR
               for item in model.registers)  # fmt: skip


def test_addresses_of_the_manual() -> None:
    """ROBOTIS e-manual, XM430-W350, control table: (address, size)."""
    expected = {
        "id": (7, 1), "operating_mode": (11, 1), "homing_offset": (20, 4), "current_limit": (38, 2),
        "max_position_limit": (48, 4), "min_position_limit": (52, 4), "shutdown": (63, 1), "torque_enable": (64, 1),
        "hardware_error_status": (70, 1), "position_p_gain": (84, 2), "bus_watchdog": (98, 1), "goal_pwm": (100, 2),
        "goal_position": (116, 4), "present_current": (126, 2), "present_position": (132, 4),
        "present_temperature": (146, 1),
    }  # fmt: skip
    table = {item.name: (item.address, item.size) for item in X_SERIES}
    assert {name: table[name] for name in expected} == expected


def test_known_models_are_motors_of_ours_where_they_can_be() -> None:
    assert XM430.name in MOTORS
    assert model_of(1190).name == "XL330-M077"
    assert model_of(65000).name == "65000"


def test_counts_are_twos_complement() -> None:
    velocity = XM430.register("present_velocity")
    assert velocity.decode(bytes.fromhex("9cffffff")) == -100
    assert velocity.encode(-100) == bytes.fromhex("9cffffff")
    assert XM430.register("bus_watchdog").decode(b"\xff") == -1
    with pytest.raises(HardwareError, match="cannot hold 256"):
        XM430.register("led").encode(256)


def test_a_mistyped_register_gets_the_nearest() -> None:
    with pytest.raises(HardwareError) as caught:
        XM430.register("goal_postion")
    assert "goal_position" in caught.value.advice


def test_angles() -> None:
    """A turn is 4096 counts about 2048."""
    assert to_counts(0.0) == 2048
    assert to_counts(math.pi / 2) == 3072
    assert to_rad(1024) == pytest.approx(-math.pi / 2)
    assert to_counts(to_rad(3333)) == 3333


def test_limits_round_inwards_and_must_be_one_turn() -> None:
    """+-2 rad are +-1303.8 counts; +-179 deg are +-2036.6; +180 deg is the count after the last."""
    (row,) = settings((1,), limit_rad=2.0)
    assert limits_in_counts(row) == (745, 3351)
    (row,) = settings((1,), limit_rad=math.radians(179))
    assert limits_in_counts(row) == (12, 4084)
    (row,) = settings((1,), limit_rad=math.pi)
    assert limits_in_counts(row) == (0, 4095)
    (row,) = settings((1,), limit_rad=3.5)
    with pytest.raises(HardwareError, match="one turn"):
        limits_in_counts(row)


def test_gain_of_the_op3() -> None:
    """4.1 N m * 4096 / (2 pi) / 128 / 885 = 0.023594 N m/rad a count, so 21.1 N m/rad are 894.3 and 800 are 18.9."""
    assert kp_per_p_gain("XM430-W350") == pytest.approx(0.0235945, rel=1e-5)
    assert p_gain("XM430-W350", 21.1) == 894
    assert 800 * kp_per_p_gain("XM430-W350") == pytest.approx(MOTORS["XM430-W350"].duty_per_rad * 4.1)
    assert p_gain("XM430-W350", -5.0) == 0
    assert p_gain("XM430-W350", 1e9) == 16383


def test_watchdog_rounds_up_and_is_never_off() -> None:
    assert [watchdog_counts(value) for value in (0.001, 0.02, 0.021, 0.1, 2.54)] == [1, 1, 2, 5, 127]
    for value in (0.0, -0.1, 2.55, math.nan):
        with pytest.raises(HardwareError):
            watchdog_counts(value)


def test_efforts() -> None:
    """1 rad/s is 41.7 counts of 0.229 rpm; 4.1 N m are the full 885 of duty."""
    (row,) = settings((1,))
    counts, back = effort(XM430, row, "velocity", 1.0)
    assert counts == 42
    assert back == pytest.approx(42 * 0.229 * 2 * math.pi / 60)
    assert effort(XM430, row, "velocity", -100.0)[0] == -200  # 46 rpm / 0.229
    assert effort(XM430, row, "pwm", 4.1) == (885, pytest.approx(4.1))
    with pytest.raises(HardwareError, match="not known"):
        effort(MODELS[1190], row, "current", 1.0)
    assert ram_for(XM430, row, DynamixelOptions(operating="pwm"), 5)["goal_pwm"] == 0


def test_hardware_errors() -> None:
    assert faults_of(0x24) == Fault.OVERHEATED | Fault.OVERLOAD
    assert faults_of(0x80) == Fault.OTHER
    assert say_faults(0x01) == "voltage"
    assert say_faults(0) == "none"
