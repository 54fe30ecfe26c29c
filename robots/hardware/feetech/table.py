"""Registers, units and encodings of Feetech's STS series as data. Nothing here talks to anything.

Sources: Feetech's memory table of the magnetic-encoder STS servos as copied by two sellers (wiki.aifitlab.com "STS
Servo - Memory Table Analysis", wiki.juxitech.com "Magnetic Encoder STS Servo-Memory Table Analysis"); LeRobot's
``motors/feetech/tables.py`` for the sign bits of offset and speed and the model numbers. Feetech's own manual was not
at hand. Where the copies disagree, it says so here.

Numbers of two bytes stand low byte first. Signed ones are sign and magnitude, not two's complement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cadenza.robots.hardware.types import Fault
from cadenza.robots.motors import MOTORS

TICKS = 4096
"""Per turn of the shaft."""
CENTRE = 2048
"""Tick that is called 0 rad."""
RAD_PER_TICK = 2 * math.pi / TICKS
DUTY_PER_RAD_AT_P_32 = 32 * 0.166
"""Share of full voltage per radian of error with a P coefficient of 32, in proportion to it: BAM's error gain (see the
motors' ``source`` in robots/motors.py)."""


@dataclass(frozen=True)
class Register:
    """One entry of the memory table."""

    address: int
    size: int = 1
    """Bytes."""
    sign_bit: int | None = None
    """Number of the bit that holds the sign; None: never negative."""
    eeprom: bool = False
    writable: bool = True
    low: int = 0
    """Least value that the maker allows."""
    high: int = 254
    """Greatest one."""
    unit: str = ""

    def encode(self, value: int) -> list[int]:
        """Bytes of a value, low byte first.

        Raises:
            ValueError: the value is outside what the register takes.
        """
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is outside {self.low} to {self.high}")
        raw = value if self.sign_bit is None else to_sign_magnitude(value, self.sign_bit)
        return list(raw.to_bytes(self.size, "little"))

    def decode(self, data: bytes | list[int]) -> int:
        """The value of ``size`` bytes.

        Raises:
            ValueError: another number of bytes.
        """
        if len(data) != self.size:
            raise ValueError(f"{self.size} bytes wanted, got {len(data)}")
        raw = int.from_bytes(bytes(data), "little")
        return raw if self.sign_bit is None else from_sign_magnitude(raw, self.sign_bit)


def to_sign_magnitude(value: int, sign_bit: int) -> int:
    """-5 with sign bit 15 -> 0x8005. Zero has no sign.

    Raises:
        ValueError: the magnitude needs the sign bit or more.
    """
    if abs(value) >= 1 << sign_bit:
        raise ValueError(f"{value} does not fit below bit {sign_bit}")
    return abs(value) | (1 << sign_bit if value < 0 else 0)


def from_sign_magnitude(raw: int, sign_bit: int) -> int:
    """0x8005 with sign bit 15 -> -5; bits above the sign are ignored."""
    magnitude = raw & ((1 << sign_bit) - 1)
    return -magnitude if raw >> sign_bit & 1 else magnitude


def _eeprom(
    address: int, size: int = 1, *, low: int = 0, high: int = 254, sign_bit: int | None = None, unit: str = ""
) -> Register:
    return Register(address, size, sign_bit, eeprom=True, low=low, high=high, unit=unit)


def _fixed(
    address: int, size: int = 1, *, sign_bit: int | None = None, unit: str = "", eeprom: bool = False
) -> Register:
    return Register(address, size, sign_bit, eeprom=eeprom, writable=False, low=-0x7FFF, high=0xFFFF, unit=unit)


REGISTERS: dict[str, Register] = {
    "firmware_major": _fixed(0, eeprom=True),
    "firmware_minor": _fixed(1, eeprom=True),
    "model_number": _fixed(3, 2, eeprom=True),
    "id": _eeprom(5, high=253),
    "baud_rate": _eeprom(6, high=7, unit="code"),
    "return_delay": _eeprom(7, unit="2 us"),
    "response_level": _eeprom(8, high=1),
    "min_angle_limit": _eeprom(9, 2, high=4094, unit="step"),
    "max_angle_limit": _eeprom(11, 2, high=4095, unit="step"),
    "max_temperature": _eeprom(13, high=100, unit="degC"),
    "max_voltage": _eeprom(14, unit="0.1 V"),
    "min_voltage": _eeprom(15, unit="0.1 V"),
    "max_torque": _eeprom(16, 2, high=1000, unit="0.1 %"),
    "phase": _eeprom(18),
    "unloading_condition": _eeprom(19),
    "led_alarm_condition": _eeprom(20),
    "p_coefficient": _eeprom(21),
    "d_coefficient": _eeprom(22),
    "i_coefficient": _eeprom(23),
    "minimum_startup_force": _eeprom(24, 2, high=1000, unit="0.1 %"),
    "cw_dead_zone": _eeprom(26, high=32, unit="step"),
    "ccw_dead_zone": _eeprom(27, high=32, unit="step"),
    "protection_current": _eeprom(28, 2, high=511, unit="6.5 mA"),
    "angular_resolution": _eeprom(30, low=1, high=100),
    "offset": _eeprom(31, 2, low=-2047, high=2047, sign_bit=11, unit="step"),
    "operating_mode": _eeprom(33, high=3),
    "protective_torque": _eeprom(34, unit="%"),
    "protection_time": _eeprom(35, unit="10 ms"),
    "overload_torque": _eeprom(36, unit="%"),
    "overcurrent_time": _eeprom(38, unit="10 ms"),
    "torque_enable": Register(40, high=128),
    "acceleration": Register(41, unit="100 step/s^2"),
    "goal_position": Register(42, 2, 15, low=-0x7FFF, high=0x7FFF, unit="step"),
    "goal_time": Register(44, 2, high=0xFFFF),
    "goal_speed": Register(46, 2, 15, low=-0x7FFF, high=0x7FFF, unit="see phase bit 2"),
    "torque_limit": Register(48, 2, high=1000, unit="0.1 %"),
    "lock": Register(55, high=1),
    "present_position": _fixed(56, 2, sign_bit=15, unit="step"),
    "present_speed": _fixed(58, 2, sign_bit=15, unit="see phase bit 2"),
    "present_load": _fixed(60, 2, sign_bit=10, unit="0.1 % of full duty"),
    "present_voltage": _fixed(62, unit="0.1 V"),
    "present_temperature": _fixed(63, unit="degC"),
    "status": _fixed(65),
    "moving": _fixed(66),
    "present_current": _fixed(69, 2, sign_bit=15, unit="6.5 mA"),
}
"""Name -> entry."""

STATE_START, STATE_SIZE = 56, 15
"""56 to 70 hold all that a control loop wants; one sync read fetches them."""

MODEL_NUMBERS = {777: "STS3215", 2825: "STS3250", 11272: "SM8512BL"}
"""Register 3 -> series name (LeRobot ``MODEL_NUMBER_TABLE``). The 7.4 V and the 12 V STS3215 have the same number."""

BAUD_RATES = {0: 1_000_000, 1: 500_000, 2: 250_000, 3: 128_000, 4: 115_200}
"""Code in register 6 -> bit/s. Codes 5, 6, 7 are left out: Feetech's table has 76,800, 57,600 and 38,400, LeRobot's has
57,600, 38,400 and 19,200, and a wrong guess leaves a servo that cannot be found."""

PHASE_FINE_SPEED = 4
"""Bit 2 of the phase: speeds in 0.0146 rpm (1 step/s); without it in 0.732 rpm (50 step/s)."""
PHASE_FULL_ANGLE = 16
"""Bit 4 of the phase: positions count whole turns; without it they end at one."""
PHASE_REVERSED_FEEDBACK = 128
"""Bit 7 of the phase: positions grow the other way round."""

UNLOAD_ON = 1 | 4 | 32
"""Unloading condition: torque ends on a wrong voltage, on heat and on overload (bits as in the status)."""

_STATUS = {
    0: Fault.VOLTAGE,
    1: Fault.ENCODER,
    2: Fault.OVERHEATED,
    3: Fault.OVERCURRENT,
    4: Fault.OTHER,
    5: Fault.OVERLOAD,
    6: Fault.OTHER,
    7: Fault.OTHER,
}


def faults(status: int) -> Fault:
    """What the bits of the status register (65), or of the error byte of a reply, mean."""
    found = Fault.NONE
    for bit, meaning in _STATUS.items():
        if status >> bit & 1:
            found |= meaning
    return found


def to_ticks(angle_rad: float) -> int:
    """Nearest tick of an angle about the centre."""
    return round(angle_rad / RAD_PER_TICK) + CENTRE


def to_rad(ticks: int) -> float:
    """Angle of a tick about the centre."""
    return (ticks - CENTRE) * RAD_PER_TICK


def speed_unit_rad_s(phase: int) -> float:
    """rad/s of one unit of goal and present speed."""
    return RAD_PER_TICK * (1 if phase & PHASE_FINE_SPEED else 50)


def series_of(motor: str) -> str:
    """``STS3215-12V`` -> ``STS3215``: what a servo's model number can tell."""
    return motor.split("-")[0]


def p_coefficient(motor: str, kp: float) -> int:
    """The register whose gain at the nominal voltage is nearest to ``kp``, N m/rad: 1 to 254.

    Full duty at standstill is the stall torque, so kp = P / 32 * duty per radian at 32 * stall torque
    (:func:`cadenza.robots.motors.servo_gains`).
    """
    return min(max(round(kp / kp_of(motor, 1)), 1), 254)


def kp_of(motor: str, coefficient: int) -> float:
    """The inverse, N m/rad."""
    return coefficient / 32 * DUTY_PER_RAD_AT_P_32 * MOTORS[motor].peak_torque_nm
