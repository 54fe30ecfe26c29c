"""Control tables of DYNAMIXEL X servos and of the OP3's OpenCR board, as data, and their units.

Sources: ROBOTIS e-manual, pages of the XM430-W350 (addresses, sizes, defaults, ranges, units of the X series) and of
each other model for its number; ROBOTIS-GIT/ROBOTIS-OP3, ``open_cr_module``, and ROBOTIS-GIT/OpenCR, firmware of the
OP3 (address, model number, table and scales of the sub-controller). Current per torque: ROBOTIS-GIT/ROBOTIS-Framework,
``XM-430.device``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.names import nearest

COUNTS = 4096
"""Positions in a turn of the output shaft."""
CENTRE = 2048
"""The position that is 0 rad."""
RAD_PER_COUNT = 2 * math.pi / COUNTS
RAD_S_PER_COUNT = 0.229 * 2 * math.pi / 60
"""Velocity unit, 0.229 rpm."""
FULL_PWM = 885
"""PWM of full duty."""
WATCHDOG_STEP_S = 0.020
"""Unit of Bus Watchdog(98); it holds 1 to 127."""
WATCHDOG_TRIPPED = -1
"""What Bus Watchdog(98) reads once it has tripped."""


@dataclass(frozen=True)
class Register:
    """One item of a control table."""

    name: str
    """The manual's, in lower case with underscores."""
    address: int
    size: int
    """Bytes; two's complement where signed, little endian."""
    signed: bool = False
    unit: str = ""
    """Of one count, as the manual gives it; empty for plain numbers and bits."""
    eeprom: bool = False
    """It survives power-off and is locked while torque is on."""
    writable: bool = True

    def decode(self, data: bytes) -> int:
        """Counts from ``size`` bytes."""
        return int.from_bytes(data, "little", signed=self.signed)

    def encode(self, value: int) -> bytes:
        """The inverse.

        Raises:
            HardwareError: the register cannot hold it.
        """
        try:
            return int(value).to_bytes(self.size, "little", signed=self.signed or value < 0)
        except OverflowError as error:
            raise HardwareError(f"{self.name} ({self.size} bytes) cannot hold {value}.") from error


def _read_only(name: str, address: int, size: int, unit: str = "", *, signed: bool = False) -> Register:
    return Register(name, address, size, signed, unit, writable=False)


def _eeprom(name: str, address: int, size: int, unit: str = "", *, signed: bool = False) -> Register:
    return Register(name, address, size, signed, unit, eeprom=True)


X_SERIES = (
    Register("model_number", 0, 2, eeprom=True, writable=False),
    Register("model_information", 2, 4, eeprom=True, writable=False),
    Register("firmware_version", 6, 1, eeprom=True, writable=False),
    _eeprom("id", 7, 1),
    _eeprom("baud_rate", 8, 1),
    _eeprom("return_delay_time", 9, 1, "2 us"),
    _eeprom("drive_mode", 10, 1),
    _eeprom("operating_mode", 11, 1),
    _eeprom("secondary_id", 12, 1),
    _eeprom("protocol_type", 13, 1),
    _eeprom("homing_offset", 20, 4, "1/4096 turn", signed=True),
    _eeprom("moving_threshold", 24, 4, "0.229 rpm"),
    _eeprom("temperature_limit", 31, 1, "degC"),
    _eeprom("max_voltage_limit", 32, 2, "0.1 V"),
    _eeprom("min_voltage_limit", 34, 2, "0.1 V"),
    _eeprom("pwm_limit", 36, 2, "0.113 %"),
    _eeprom("current_limit", 38, 2, "of current"),
    _eeprom("velocity_limit", 44, 4, "0.229 rpm"),
    _eeprom("max_position_limit", 48, 4, "1/4096 turn"),
    _eeprom("min_position_limit", 52, 4, "1/4096 turn"),
    _eeprom("shutdown", 63, 1),
    Register("torque_enable", 64, 1),
    Register("led", 65, 1),
    Register("status_return_level", 68, 1),
    _read_only("registered_instruction", 69, 1),
    _read_only("hardware_error_status", 70, 1),
    Register("velocity_i_gain", 76, 2),
    Register("velocity_p_gain", 78, 2),
    Register("position_d_gain", 80, 2),
    Register("position_i_gain", 82, 2),
    Register("position_p_gain", 84, 2),
    Register("feedforward_2nd_gain", 88, 2),
    Register("feedforward_1st_gain", 90, 2),
    Register("bus_watchdog", 98, 1, signed=True, unit="20 ms"),
    Register("goal_pwm", 100, 2, signed=True, unit="0.113 %"),
    Register("goal_current", 102, 2, signed=True, unit="of current"),
    Register("goal_velocity", 104, 4, signed=True, unit="0.229 rpm"),
    Register("profile_acceleration", 108, 4, unit="214.577 rev/min^2"),
    Register("profile_velocity", 112, 4, unit="0.229 rpm"),
    Register("goal_position", 116, 4, signed=True, unit="1/4096 turn"),
    _read_only("realtime_tick", 120, 2, "1 ms"),
    _read_only("moving", 122, 1),
    _read_only("moving_status", 123, 1),
    _read_only("present_pwm", 124, 2, "0.113 %", signed=True),
    _read_only("present_current", 126, 2, "of current", signed=True),
    _read_only("present_velocity", 128, 4, "0.229 rpm", signed=True),
    _read_only("present_position", 132, 4, "1/4096 turn", signed=True),
    _read_only("velocity_trajectory", 136, 4, "0.229 rpm", signed=True),
    _read_only("position_trajectory", 140, 4, "1/4096 turn", signed=True),
    _read_only("present_input_voltage", 144, 2, "0.1 V"),
    _read_only("present_temperature", 146, 1, "degC"),
)

OPENCR_TABLE = (
    Register("model_number", 0, 2, eeprom=True, writable=False),
    Register("firmware_version", 2, 1, eeprom=True, writable=False),
    _eeprom("id", 3, 1),
    _eeprom("baud_rate", 4, 1),
    _eeprom("return_delay_time", 5, 1, "2 us"),
    Register("status_return_level", 16, 1),
    Register("dynamixel_power", 24, 1),
    Register("led", 25, 1),
    Register("led_rgb", 26, 2),
    Register("buzzer", 28, 2),
    _read_only("button", 30, 1),
    _read_only("present_voltage", 31, 1, "0.1 V"),
    _read_only("gyro_x", 32, 2, "2000/32800 deg/s", signed=True),
    _read_only("gyro_y", 34, 2, "2000/32800 deg/s", signed=True),
    _read_only("gyro_z", 36, 2, "2000/32800 deg/s", signed=True),
    _read_only("accelerometer_x", 38, 2, "2/32768 g", signed=True),
    _read_only("accelerometer_y", 40, 2, "2/32768 g", signed=True),
    _read_only("accelerometer_z", 42, 2, "2/32768 g", signed=True),
    _read_only("roll", 44, 2, "0.1 deg", signed=True),
    _read_only("pitch", 46, 2, "0.1 deg", signed=True),
    _read_only("yaw", 48, 2, "0.1 deg", signed=True),
    Register("imu_control", 50, 1),
)


@dataclass(frozen=True)
class Model:
    """One model: its number and table, and what its units are."""

    number: int
    name: str
    """Of :data:`cadenza.robots.motors.MOTORS` where it is known there."""
    registers: tuple[Register, ...] = X_SERIES
    current_unit_a: float | None = 0.00269
    """Of one count of current; None where the register holds load in 0.1 %."""
    counts_per_nm: float | None = None
    """Current counts per N m, where a source gives them."""
    max_current: int = 1193
    """Highest Current Limit(38)."""
    shutdown: int = 0x34
    """Shutdown(63) as delivered: overload, electrical shock, overheating."""

    def register(self, name: str) -> Register:
        """The item of that name.

        Raises:
            HardwareError: the table has none; the message names those that are near.
        """
        for item in self.registers:
            if item.name == name:
                return item
        near = nearest(name, [item.name for item in self.registers])
        raise HardwareError(
            f"The control table of {self.name} has no {name!r}.",
            f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(r.name for r in self.registers)}.",
        )


OPENCR = Model(0x7400, "OpenCR", OPENCR_TABLE, None, None, 0, 0)
_NO_CURRENT = tuple(item for item in X_SERIES if item.name not in ("goal_current", "current_limit"))
# XL330 and XC330: 1 mA a count is from memory of their manual pages, not read again. Only max_current of the XM430 was.
_SMALL = 0.001
MODELS: dict[int, Model] = {
    model.number: model
    for model in (
        Model(1190, "XL330-M077", current_unit_a=_SMALL, max_current=1750, shutdown=0x35),
        Model(1200, "XL330-M288", current_unit_a=_SMALL, max_current=1750, shutdown=0x35),
        Model(1210, "XC330-T181", current_unit_a=_SMALL, max_current=910, shutdown=0x35),
        Model(1220, "XC330-T288", current_unit_a=_SMALL, max_current=910, shutdown=0x35),
        Model(1060, "XL430-W250", _NO_CURRENT, None, None, 0),
        Model(1070, "XC430-W150", _NO_CURRENT, None, None, 0),
        Model(1020, "XM430-W350", counts_per_nm=149.8),
        Model(1120, "XM540-W270", max_current=2047),
        Model(1110, "XH540-W150", max_current=1188),
        OPENCR,
    )
}
"""Model number, as ping returns it -> model."""

BAUD_CODES: dict[int, int] = {
    9600: 0, 57600: 1, 115200: 2, 1_000_000: 3, 2_000_000: 4, 3_000_000: 5, 4_000_000: 6,
}  # fmt: skip
"""bit/s -> Baud Rate(8)."""

OPERATING_MODES: dict[str, int] = {
    "current": 0, "velocity": 1, "position": 3, "extended": 4, "current_position": 5, "pwm": 16,
}  # fmt: skip
"""Operating Mode(11)."""


def model_of(number: int) -> Model:
    """The model of that number; one that is not in the table is treated as an X servo of unknown current unit."""
    return MODELS.get(number) or Model(number, str(number), current_unit_a=None, max_current=0)


def to_counts(q_rad: float) -> int:
    """The position nearest to an angle about the centre."""
    return round(q_rad / RAD_PER_COUNT) + CENTRE


def to_rad(counts: float) -> float:
    """Angle about the centre."""
    return (counts - CENTRE) * RAD_PER_COUNT
