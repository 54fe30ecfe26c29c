"""What a DYNAMIXEL's registers must hold for the settings of a joint: pure functions from SI units to counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.dynamixel.table import (
    CENTRE,
    COUNTS,
    FULL_PWM,
    OPERATING_MODES,
    RAD_PER_COUNT,
    RAD_S_PER_COUNT,
    WATCHDOG_STEP_S,
    Model,
)
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.types import Fault, Mode
from cadenza.robots.motors import MOTORS, dynamixel_duty_per_rad

Operating = Literal["position", "extended", "current_position", "current", "velocity", "pwm"]
MOST_P_GAIN = 16383
POSITION_MODES = ("position", "extended", "current_position")


@dataclass(frozen=True)
class DynamixelOptions:
    """What a user may choose beyond the joint table."""

    operating: Operating = "position"
    """Operating Mode(11). The first three take q; ``current`` and ``pwm`` take tau and ``velocity`` takes dq, of a
    command of :attr:`Mode.IMPEDANCE` whose gains are 0: these servos close no torque loop about a position."""
    temperature_limit_c: int = 80
    """At which a servo switches itself off; 80 as delivered."""
    slow_every: int = 10
    """Voltage, temperature and the watchdog's state are read once in so many reads."""
    fast: bool = True
    """Fast Sync Read, one packet from all motors, where they know it."""
    read_budget_s: float | None = None
    """A second request to motors that did not answer is made only within so long of a read's start; None: within twice
    the port's margin, 8 ms as a rule."""
    broadcast_up_to: int = 252
    """Highest id on this wire; connecting waits 3 ms for each. Lower it only where nothing above it is connected."""


def modes_of(operating: Operating) -> frozenset[Mode]:
    """Commands that an operating mode takes."""
    if operating in POSITION_MODES:
        return frozenset({Mode.OFF, Mode.POSITION, Mode.HOLD})
    return frozenset({Mode.OFF, Mode.IMPEDANCE})


def kp_per_p_gain(motor: str) -> float:
    """Torque per radian that one count of Position P Gain(84) makes at the nominal voltage, N m/rad."""
    return dynamixel_duty_per_rad(1) * MOTORS[motor].peak_torque_nm


def p_gain(motor: str, kp: float) -> int:
    """The register for a gain in N m/rad, within what it can hold."""
    return min(max(round(kp / kp_per_p_gain(motor)), 0), MOST_P_GAIN)


def limits_in_counts(settings: MotorSettings) -> tuple[int, int]:
    """Lowest and highest position within the limits.

    Raises:
        HardwareError: they reach beyond the one turn that an encoder can tell.
    """
    low_rad, high_rad = settings.position_limits_rad
    low = math.ceil(low_rad / RAD_PER_COUNT - 1e-6) + CENTRE
    high = math.floor(high_rad / RAD_PER_COUNT + 1e-6) + CENTRE
    if high == COUNTS:  # +180 deg exactly is the position after the last
        high -= 1
    if not 0 <= low < high < COUNTS:
        raise HardwareError(
            f"{settings.name} (id {settings.bus_id}): limits of {math.degrees(low_rad):.1f} to "
            f"{math.degrees(high_rad):.1f} deg at the motor are no range within its one turn of +-180 deg.",
            "Mount the horn so that the wrap lies outside the joint's range, then calibrate.",
        )
    return low, high


def watchdog_counts(watchdog_s: float) -> int:
    """Bus Watchdog(98) for a time, rounded up.

    Raises:
        HardwareError: the register cannot hold it; 0 would switch it off.
    """
    if not math.isfinite(watchdog_s) or not 0 < watchdog_s <= 127 * WATCHDOG_STEP_S:
        raise HardwareError(f"A DYNAMIXEL's watchdog can be 0.02 to 2.54 s, not {watchdog_s:g} s.")
    return math.ceil(watchdog_s / WATCHDOG_STEP_S - 1e-9)


def torque_share(settings: MotorSettings) -> float:
    """Torque limit as a share of the stall torque, at most 1."""
    return min(max(settings.torque_limit_nm / MOTORS[settings.motor].peak_torque_nm, 0.0), 1.0)


def current_counts(model: Model, settings: MotorSettings) -> int:
    """Current Limit(38): for the torque limit, or the model's highest where the motor may do all it can."""
    share = torque_share(settings)
    if share >= 1.0 or model.counts_per_nm is None:
        return model.max_current
    return min(math.ceil(settings.torque_limit_nm * model.counts_per_nm), model.max_current)


def eeprom_for(model: Model, settings: MotorSettings, options: DynamixelOptions) -> dict[str, int]:
    """Registers that survive power-off, in the order in which they are to be written."""
    low, high = limits_in_counts(settings)
    wanted = {
        "return_delay_time": 0,
        "operating_mode": OPERATING_MODES[options.operating],
        "drive_mode": 0,  # not reversed, profiles by velocity, and a goal never switches torque on
        "temperature_limit": options.temperature_limit_c,
        "pwm_limit": max(math.floor(FULL_PWM * torque_share(settings)), 1),
        "max_position_limit": high,
        "min_position_limit": low,
    }
    if model.max_current:
        wanted["current_limit"] = current_counts(model, settings)
    if options.operating == "velocity":
        wanted["velocity_limit"] = max(math.floor(settings.velocity_limit_rad_s / RAD_S_PER_COUNT), 1)
    return wanted


def ram_for(model: Model, settings: MotorSettings, options: DynamixelOptions, watchdog: int) -> dict[str, int]:
    """Registers that are lost at power-off, to be written after :func:`eeprom_for`: a change of mode resets some."""
    wanted = {
        "status_return_level": 2,
        "position_d_gain": 0,
        "position_i_gain": 0,
        "position_p_gain": p_gain(settings.motor, settings.kp),
        "feedforward_2nd_gain": 0,
        "feedforward_1st_gain": 0,
        "profile_acceleration": 0,
        "profile_velocity": 0,
        "goal_pwm": max(math.floor(FULL_PWM * torque_share(settings)), 1),
        "bus_watchdog": watchdog,
    }
    if options.operating == "pwm":
        wanted["goal_pwm"] = 0
    if options.operating == "velocity":
        wanted["goal_velocity"] = 0
    if options.operating == "current":
        wanted["goal_current"] = 0
    if options.operating == "current_position":
        wanted["goal_current"] = current_counts(model, settings)
    return wanted


EFFORT_REGISTER = {"current": "goal_current", "velocity": "goal_velocity", "pwm": "goal_pwm"}
"""Operating mode without a position loop -> the register of its goal."""


def effort(model: Model, settings: MotorSettings, operating: Operating, asked: float) -> tuple[int, float]:
    """Counts for a velocity (rad/s) or torque (N m; with ``pwm`` that at standstill), within the limits, and what
    they amount to.

    Raises:
        HardwareError: the model's torque per current is not known.
    """
    if operating == "velocity":
        unit, most = RAD_S_PER_COUNT, math.floor(settings.velocity_limit_rad_s / RAD_S_PER_COUNT)
    elif operating == "current":
        if model.counts_per_nm is None:
            raise HardwareError(f"The torque that a current of a {model.name} makes is not known; nothing was sent.")
        unit, most = 1 / model.counts_per_nm, current_counts(model, settings)
    else:
        unit = MOTORS[settings.motor].peak_torque_nm / FULL_PWM
        most = math.floor(FULL_PWM * torque_share(settings))
    counts = min(max(round(asked / unit), -most), most)
    return counts, counts * unit


_FAULT_BITS = {
    0x01: Fault.VOLTAGE,
    0x04: Fault.OVERHEATED,
    0x08: Fault.ENCODER,
    0x10: Fault.ELECTRICAL,
    0x20: Fault.OVERLOAD,
}


def faults_of(status: int) -> Fault:
    """Hardware Error Status(70) in our words."""
    found, left = Fault.NONE, status
    for bit, fault in _FAULT_BITS.items():
        if status & bit:
            found |= fault
            left &= ~bit
    return found | (Fault.OTHER if left else Fault.NONE)


def say_faults(status: int) -> str:
    """Hardware Error Status(70) for a person."""
    names = [str(fault.name).lower() for fault in Fault if fault and fault in faults_of(status)]
    return ", ".join(names) or "none"
