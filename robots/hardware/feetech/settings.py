"""What is written into a Feetech servo before it may move: register by register, each read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.feetech import table
from cadenza.robots.motors import MOTORS


@dataclass(frozen=True)
class Setup:
    """Limits in the servos beyond those of the joint table."""

    torque_share: float = 0.5
    """Largest share of the stall torque, in addition to the joint's torque limit. Low, because nothing in the servo
    notices that the host has died."""
    acceleration: int = 50
    """Of a servo's own ramp to a goal, in 100 step/s^2 (50: 7.7 rad/s^2); 0 lets it jump, as a policy trained without
    such a ramp expects."""
    d_coefficient: int = 32
    """As delivered. Feetech publishes no unit for it."""
    overload_torque_percent: int = 80
    """Load that counts as an overload."""
    protection_time_s: float = 0.5
    """How long an overload may last; then the protective torque is all that is left. 2 s as delivered."""
    protective_torque_percent: int = 20


class Registers(Protocol):
    """Who reads and writes them."""

    def read_register(self, bus_id: int, name: str) -> float: ...

    def write_register(self, bus_id: int, name: str, value: float) -> None: ...


def configure_servo(
    bus: Registers, row: MotorSettings, ticks: tuple[int, int], speed_unit_rad_s: float, setup: Setup
) -> None:
    """Write all settings of one servo; EEPROM only where it differs, to spare it.

    Args:
        bus: with torque off.
        row: whose servo.
        ticks: least and greatest goal position.
        speed_unit_rad_s: of its speed registers.
        setup: the rest.

    Raises:
        HardwareError: a value did not stick, or the supply is not one for this motor.
    """
    _check_supply(bus, row)
    share = torque_share(row, setup)
    eeprom = {
        "return_delay": 0,
        "response_level": 1,
        "operating_mode": 0,
        "min_angle_limit": ticks[0],
        "max_angle_limit": ticks[1],
        "max_torque": share,
        "unloading_condition": round(bus.read_register(row.bus_id, "unloading_condition")) | table.UNLOAD_ON,
        "p_coefficient": table.p_coefficient(row.motor, row.kp),
        "d_coefficient": setup.d_coefficient,
        "i_coefficient": 0,
        "protective_torque": setup.protective_torque_percent,
        "protection_time": round(setup.protection_time_s * 100),
        "overload_torque": setup.overload_torque_percent,
    }
    phase = round(bus.read_register(row.bus_id, "phase"))
    if phase & table.PHASE_FULL_ANGLE:
        # Positions that count whole turns would pass the ends of the table's range without a word.
        eeprom["phase"] = phase & ~table.PHASE_FULL_ANGLE
    for name, value in eeprom.items():
        if bus.read_register(row.bus_id, name) != value:
            bus.write_register(row.bus_id, name, value)
    speed = max(int(row.velocity_limit_rad_s / speed_unit_rad_s), 1)  # 0 means stop, or no limit: by phase bit 3
    for name, value in {
        "torque_limit": share,
        "acceleration": setup.acceleration,
        "goal_time": 0,
        "goal_speed": min(speed, 0x7FFF),
        "lock": 1,
    }.items():
        bus.write_register(row.bus_id, name, value)


def torque_share(row: MotorSettings, setup: Setup) -> int:
    """Torque limit of a servo in thousandths of its stall torque, rounded down."""
    share = min(row.torque_limit_nm / MOTORS[row.motor].peak_torque_nm, setup.torque_share)
    return min(max(int(share * 1000 + 1e-6), 0), 1000)


def _check_supply(bus: Registers, row: MotorSettings) -> None:
    """The 7.4 V and the 12 V servo look the same on the wire, but not to 12 V."""
    supply = bus.read_register(row.bus_id, "present_voltage") / 10
    low, high = MOTORS[row.motor].voltage_range_v
    if not 0.9 * low <= supply <= 1.15 * high:  # two full lithium cells give a 7.4 V servo 8.4 V
        raise HardwareError(
            f"{row.name}: {supply:.1f} V at its servo; a {row.motor} runs on {low:g} to {high:g} V.",
            "Is it the other voltage's model? Then name that one in the joint table.",
        )
