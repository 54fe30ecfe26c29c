"""Bus specs as users write them."""

from __future__ import annotations

import sys

import pytest

from cadenza.robots.hardware.dynamixel.bus import DynamixelBus
from cadenza.robots.hardware.errors import HardwareError, MissingSdkError
from cadenza.robots.hardware.opening import BusSpec, open_bus, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("dynamixel:/dev/ttyUSB0", BusSpec("dynamixel", "/dev/ttyUSB0")),
        ("dynamixel:/dev/ttyUSB0@2000000", BusSpec("dynamixel", "/dev/ttyUSB0", 2_000_000)),
        ("feetech:/dev/serial/by-id/usb-1a86@500000", BusSpec("feetech", "/dev/serial/by-id/usb-1a86", 500_000)),
        ("damiao:can0", BusSpec("damiao", "can0")),
        ("robstride:slcan:/dev/ttyACM0@1000000", BusSpec("robstride", "/dev/ttyACM0", 1_000_000, "slcan")),
        ("damiao:udp_multicast:239.74.163.2:43113", BusSpec("damiao", "239.74.163.2:43113", None, "udp_multicast")),
    ],
)
def test_specs(text: str, spec: BusSpec) -> None:
    assert parse_spec(text) == spec
    assert str(spec) == text


@pytest.mark.parametrize("text", ["", "dynamixel", "dynamixel:", "dynamixel:/dev/ttyUSB0@fast", "/dev/ttyUSB0"])
def test_what_is_no_spec_is_told_what_one_looks_like(text: str) -> None:
    with pytest.raises(HardwareError) as caught:
        parse_spec(text)
    assert "dynamixel:/dev/ttyUSB0@2000000" in caught.value.advice


def test_the_nearest_kind_is_named() -> None:
    with pytest.raises(HardwareError) as caught:
        parse_spec("dynamixle:/dev/ttyUSB0")
    assert "Did you mean dynamixel?" in caught.value.advice


def test_opening_opens_nothing() -> None:
    """Neither the port, which is not there, nor an SDK is asked for before connect."""
    bus = open_bus("dynamixel:/dev/nothing-here", margin_s=0.1)
    assert isinstance(bus, DynamixelBus)
    assert (bus.port.serial.baud, bus.port.serial.margin_s) == (2_000_000, 0.1)
    assert not bus.port.serial.is_open
    with pytest.raises(HardwareError, match="no port /dev/nothing-here"):
        bus.connect()
    bus.close()


def test_each_kind_makes_its_bus() -> None:
    assert type(open_bus("feetech:/dev/nothing-here@1000000")).__name__ == "FeetechBus"
    assert type(open_bus("damiao:virtual:nobody")).__name__ == "CanBus"
    assert type(open_bus("robstride:virtual:nobody")).__name__ == "CanBus"


def test_a_missing_sdk_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamixel_sdk", None)
    with pytest.raises(MissingSdkError) as caught:
        open_bus("dynamixel:/dev/nothing-here").connect()
    assert "cadenza[dynamixel]" in caught.value.advice
