"""Control tables of DYNAMIXEL X servos, as data: what a register is called, where it lies, what it takes.

Source: ROBOTIS e-manual, the page of each model ("Control Table of EEPROM Area", "... of RAM Area"); stall torque,
stall current and no-load speed: its page of the X series. Where a page gives no range, the one of the nearest model
stands. Not of the manual: armature and dry friction, scaled from the XM430-W350 with the square of the stall torque's
ratio and with it, and ``current_per_nm`` (see :class:`Model`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from cadenza.robots.description import Joint, Motor
from cadenza.robots.motors import MOTORS, RPM, add_motors, dynamixel_duty_per_rad, joint
from cadenza.robots.names import unknown_name

COUNTS = 4096
CENTRE = 2048
VELOCITY_UNIT = 0.229 * RPM
"""rad/s."""
ACCELERATION_UNIT = 214.577 * RPM / 60
"""rad/s^2: 214.577 rev/min^2."""
WATCHDOG_UNIT_S = 0.02
FULL_PWM = 885
MULTI_TURN = 1_048_575
"""Largest goal of the extended modes: 256 turns."""
BAUD = {0: 9_600, 1: 57_600, 2: 115_200, 3: 1_000_000, 4: 2_000_000, 5: 3_000_000, 6: 4_000_000, 7: 4_500_000}
"""Code in Baud Rate(8) -> bit/s."""
EEPROM_END = 64
CURRENT, VELOCITY, POSITION, EXTENDED, CURRENT_POSITION, PWM = 0, 1, 3, 4, 5, 16
"""Codes of Operating Mode(11)."""


@dataclass(frozen=True)
class Register:
    """One item of a control table."""

    name: str
    address: int
    size: int
    writable: bool
    initial: int
    low: int
    high: int
    """Smallest and largest value that is taken; what depends on another register is checked by the firmware."""

    @property
    def signed(self) -> bool:
        """Two's complement."""
        return self.low < 0

    @property
    def eeprom(self) -> bool:
        """Kept without power; writable with torque off only."""
        return self.address < EEPROM_END


def _r(name: str, address: int, size: int, initial: int = 0, *, signed: bool = False) -> Register:
    """Read only."""
    half = 1 << (8 * size - 1)
    low, high = (-half, half - 1) if signed else (0, 2 * half - 1)
    return Register(name, address, size, False, initial, low, high)


def _rw(name: str, address: int, size: int, initial: int, low: int, high: int) -> Register:
    return Register(name, address, size, True, initial, low, high)


_GAIN = (0, 16_383)
_X = (
    _r("model_number", 0, 2),
    _r("model_information", 2, 4),
    _r("firmware_version", 6, 1),
    _rw("id", 7, 1, 1, 0, 252),
    _rw("baud_rate", 8, 1, 1, 0, 7),
    _rw("return_delay_time", 9, 1, 250, 0, 254),
    _rw("drive_mode", 10, 1, 0, 0, 13),
    _rw("operating_mode", 11, 1, 3, 0, 16),
    _rw("secondary_id", 12, 1, 255, 0, 255),
    _rw("protocol_type", 13, 1, 2, 2, 2),
    _rw("homing_offset", 20, 4, 0, -1_044_479, 1_044_479),
    _rw("moving_threshold", 24, 4, 10, 0, 1_023),
    _rw("temperature_limit", 31, 1, 80, 0, 100),
    _rw("max_voltage_limit", 32, 2, 160, 95, 160),
    _rw("min_voltage_limit", 34, 2, 95, 95, 160),
    _rw("pwm_limit", 36, 2, 885, 0, 885),
    _rw("current_limit", 38, 2, 1_193, 0, 1_193),
    _rw("velocity_limit", 44, 4, 350, 0, 1_023),
    _rw("max_position_limit", 48, 4, 4_095, 0, 4_095),
    _rw("min_position_limit", 52, 4, 0, 0, 4_095),
    _rw("startup_configuration", 60, 1, 0, 0, 3),
    _rw("shutdown", 63, 1, 52, 0, 63),
    _rw("torque_enable", 64, 1, 0, 0, 1),
    _rw("led", 65, 1, 0, 0, 1),
    _rw("status_return_level", 68, 1, 2, 0, 2),
    _r("registered_instruction", 69, 1),
    _r("hardware_error_status", 70, 1),
    _rw("velocity_i_gain", 76, 2, 1_920, *_GAIN),
    _rw("velocity_p_gain", 78, 2, 100, *_GAIN),
    _rw("position_d_gain", 80, 2, 0, *_GAIN),
    _rw("position_i_gain", 82, 2, 0, *_GAIN),
    _rw("position_p_gain", 84, 2, 800, *_GAIN),
    _rw("feedforward_2nd_gain", 88, 2, 0, *_GAIN),
    _rw("feedforward_1st_gain", 90, 2, 0, *_GAIN),
    _rw("bus_watchdog", 98, 1, 0, 0, 127),
    _rw("goal_pwm", 100, 2, 885, -885, 885),
    _rw("goal_current", 102, 2, 1_193, -2_047, 2_047),
    _rw("goal_velocity", 104, 4, 0, -2_047, 2_047),
    _rw("profile_acceleration", 108, 4, 0, 0, 32_767),
    _rw("profile_velocity", 112, 4, 0, 0, 32_767),
    _rw("goal_position", 116, 4, 0, -MULTI_TURN, MULTI_TURN),
    _r("realtime_tick", 120, 2),
    _r("moving", 122, 1),
    _r("moving_status", 123, 1),
    _r("present_pwm", 124, 2, signed=True),
    _r("present_current", 126, 2, signed=True),
    _r("present_velocity", 128, 4, signed=True),
    _r("present_position", 132, 4, signed=True),
    _r("velocity_trajectory", 136, 4, signed=True),
    _r("position_trajectory", 140, 4, signed=True),
    _r("present_input_voltage", 144, 2),
    _r("present_temperature", 146, 1),
    _r("backup_ready", 147, 1),
)
SEVERAL = (0, 1, 3, 4, 5, 16)
NO_CURRENT = (1, 3, 4, 16)


@dataclass(frozen=True)
class Model:
    """A model of servo."""

    name: str
    number: int
    stall_nm: float
    stall_a: float
    speed_rpm: float
    """Without load."""
    nominal_v: float
    """At which the three above hold."""
    voltage_v: tuple[float, float]
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Register -> what differs from the XM430-W350's."""
    added: tuple[Register, ...] = ()
    modes: tuple[int, ...] = SEVERAL
    current_unit_a: float = 0.00269
    """0 where it reports load in 0.1 % instead."""
    current_per_nm: float | None = None
    """Units of Present Current(126) per N m; None: from stall current and torque. ROBOTIS's own framework uses 149.8
    for the XM430-W350 (ROBOTIS-Framework, XM-430.device); its data sheet gives 2.3 A / 4.1 N m / 2.69 mA = 208.5."""
    firmware: int = 48
    indirect: tuple[tuple[int, int, int], ...] = ((168, 224, 28), (578, 634, 28))
    """Blocks of (address of the first indirect address, of its data, how many)."""
    source: str = "ROBOTIS e-manual, the model's page and the page of the X series"

    @property
    def units_per_nm(self) -> float:
        """See ``current_per_nm``."""
        if self.current_per_nm is not None:
            return self.current_per_nm
        return self.stall_a / self.stall_nm / (self.current_unit_a or 1.0)

    @property
    def registers(self) -> tuple[Register, ...]:
        """Its control table, without indirect addresses and data."""
        gone = () if self.current_unit_a else ("current_limit", "goal_current")
        rows = [replace(row, **self.changes.get(row.name, {})) for row in _X if row.name not in gone]
        return tuple(sorted((*rows, *self.added), key=lambda row: row.address))


def _voltages(low: int, high: int) -> dict[str, dict[str, int]]:
    """Limits in 0.1 V; the range they may be set to is the same."""
    return {
        "max_voltage_limit": {"initial": high, "low": low, "high": high},
        "min_voltage_limit": {"initial": low, "low": low, "high": high},
    }


def _current(limit: int) -> dict[str, dict[str, int]]:
    return {
        "current_limit": {"initial": limit, "high": limit},
        "goal_current": {"initial": limit, "low": -limit, "high": limit},
    }


def _gains(velocity_i: int, velocity_p: int, position_p: int, position_d: int = 0) -> dict[str, dict[str, int]]:
    return {
        "velocity_i_gain": {"initial": velocity_i},
        "velocity_p_gain": {"initial": velocity_p},
        "position_p_gain": {"initial": position_p},
        "position_d_gain": {"initial": position_d},
    }


def _velocity(limit: int, high: int = 1_023) -> dict[str, dict[str, int]]:
    return {"velocity_limit": {"initial": limit, "high": high}}


_330_INDIRECT = ((168, 208, 20),)
_PORTS = tuple(_rw(f"external_port_mode_{i}", 55 + i, 1, 3, 0, 3) for i in (1, 2, 3)) + tuple(
    _rw(f"external_port_data_{i}", 150 + 2 * i, 2, 0, 0, 4_095) for i in (1, 2, 3)
)


def _slope(initial: int) -> tuple[Register, ...]:
    return (_rw("pwm_slope", 62, 1, initial, 1, 255),)


def _330(limit_v: tuple[int, int], shutdown: int, degrees: int = 70) -> dict[str, dict[str, int]]:
    changes = {**_voltages(*limit_v), "shutdown": {"initial": shutdown}, "temperature_limit": {"initial": degrees}}
    return {**changes, "baud_rate": {"high": 6}}


_XL330_V = (3.7, 6.0)
_XL330 = {
    **_330((35, 70), 53), **_current(1_750),
    "max_voltage_limit": {"initial": 70, "low": 31, "high": 70},
    "min_voltage_limit": {"initial": 35, "low": 31, "high": 70},
}  # fmt: skip
_XC330 = {**_330((55, 140), 52), **_current(910)}
_430_XL = {**_voltages(60, 140), "temperature_limit": {"initial": 72}}

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("XM430-W350", 1020, 4.1, 2.3, 46, 12.0, (10.0, 14.8), current_per_nm=149.8),
        Model("XM540-W270", 1120, 10.6, 4.4, 30, 12.0, (10.0, 14.8), {**_current(2_047), **_velocity(128)}, _PORTS),
        Model("XH540-W150", 1110, 7.1, 4.9, 70, 12.0, (10.0, 14.8), {**_current(2_047), **_velocity(300)}, _PORTS),
        Model(
            "XL430-W250", 1060, 1.5, 1.4, 61, 12.0, (6.5, 12.0),
            {**_430_XL, **_velocity(265), **_gains(1_000, 100, 640, 4_000)}, modes=NO_CURRENT, current_unit_a=0.0,
        ),
        Model(
            "XC430-W150", 1070, 1.6, 1.4, 106, 12.0, (6.5, 14.8), {**_voltages(60, 160), **_velocity(460)},
            modes=NO_CURRENT, current_unit_a=0.0,
        ),
        Model(
            "XC330-T288", 1220, 1.0, 0.88, 71, 12.0, (5.5, 12.0),
            {**_XC330, **_velocity(320, 2_047), **_gains(1_200, 40, 900)}, _slope(255),
            current_unit_a=0.001, indirect=_330_INDIRECT,
        ),
        Model(
            "XC330-T181", 1210, 0.8, 0.88, 113, 12.0, (5.5, 12.0),
            {**_XC330, **_velocity(500, 2_047), **_gains(1_200, 40, 900)}, _slope(255),
            current_unit_a=0.001, indirect=_330_INDIRECT,
        ),
        Model(
            "XL330-M288", 1200, 0.52, 1.47, 103, 5.0, _XL330_V,
            {**_XL330, **_velocity(445, 2_047), **_gains(1_600, 180, 400)}, _slope(140),
            current_unit_a=0.001, indirect=_330_INDIRECT,
        ),
        Model(
            "XL330-M077", 1190, 0.215, 1.47, 383, 5.0, _XL330_V,
            {**_XL330, **_velocity(1_620, 2_047), **_gains(1_600, 180, 400)}, _slope(140),
            current_unit_a=0.001, indirect=_330_INDIRECT,
        ),
    )
}  # fmt: skip
"""Name -> model."""


def model_named(name: str) -> Model:
    """A model by its name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in MODELS:
        raise unknown_name("DYNAMIXEL model", name, MODELS)
    return MODELS[name]


@cache
def bench_motor(name: str) -> Motor:
    """The model as a motor of a joint table; made known there if it is not."""
    if name in MOTORS:
        return MOTORS[name]
    model, known = model_named(name), MOTORS["XM430-W350"]
    ratio = model.stall_nm / known.peak_torque_nm
    motor = Motor(
        name=name,
        actuator="dc_motor",
        peak_torque_nm=model.stall_nm,
        no_load_speed_rad_s=model.speed_rpm * RPM,
        armature_kg_m2=known.armature_kg_m2 * ratio**2,
        friction_nm=known.friction_nm * ratio,
        nominal_voltage_v=model.nominal_v,
        voltage_range_v=model.voltage_v,
        encoder_counts=COUNTS,
        velocity_step_rad_s=VELOCITY_UNIT,
        duty_per_rad=dynamixel_duty_per_rad(
            next(row.initial for row in model.registers if row.name == "position_p_gain")
        ),
        source=f"{model.source}; armature and friction scaled from the XM430-W350, for an emulated bench only.",
    )
    add_motors(motor)
    return motor


def bench_row(name: str, bus_id: int) -> Joint:
    """A row of a joint table for a servo on a bench, without limits."""
    bench_motor(name)
    return joint(f"servo_{bus_id}", name, bus_id, (-1e6, 1e6))
