"""What runs inside emulated DYNAMIXEL X servos, all of a world at once: registers to control law, shafts to registers.

Source: ROBOTIS e-manual, pages of the models and "Bus Watchdog", "Shutdown", "Drive Mode", "Homing Offset". The law
of position mode is that of training: kp is Position P Gain(84) through
:func:`cadenza.robots.motors.dynamixel_duty_per_rad` times the stall torque at the present supply, the limit is that
torque times min(Goal PWM, PWM Limit) / 885, and back-EMF is the plant's.

What the manual does not say, and is assumed here: that Goal Position becomes the present position when torque goes on,
unless it was written since torque went off; that after a watchdog's trip goals stay where the servo stopped, so that
clearing it moves nothing; the units of the gains D, I and feed-forward, and of the velocity loop (PWM units over ticks
or velocity units, once each millisecond); that a supply below 70 % of Min Voltage Limit(34) is an electrical shock;
that a servo boots in 0.25 s.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.emulators.dynamixel_memory import Memory
from cadenza.robots.hardware.emulators.dynamixel_packet import Failure
from cadenza.robots.hardware.emulators.dynamixel_profile import Profiles
from cadenza.robots.hardware.emulators.dynamixel_table import (
    CENTRE,
    COUNTS,
    CURRENT,
    CURRENT_POSITION,
    EXTENDED,
    FULL_PWM,
    MULTI_TURN,
    POSITION,
    PWM,
    VELOCITY,
    VELOCITY_UNIT,
    WATCHDOG_UNIT_S,
    Model,
    Register,
)  # fmt: skip
from cadenza.robots.hardware.emulators.servo import ServoBank
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.motors import dynamixel_duty_per_rad

Array = NDArray[np.float64]

PER_TICK = 2 * math.pi / COUNTS
"""rad."""
_BOOT_S = 0.25
_LOOP_S = 0.001
_CUT_OFF = 0.45
"""Share of the nominal voltage below which the processor itself stops."""
_SHOCK = 0.7
VOLTAGE, OVERHEATED, ENCODER, SHOCK, OVERLOAD = 1, 4, 8, 16, 32
"""Bits of Hardware Error Status(70)."""
_GOALS = frozenset({"goal_pwm", "goal_current", "goal_velocity", "goal_position"})
_PRESENT = struct.Struct("<HBBhhiiiiHB")
_PRESENT_AT = 120


class DynamixelFirmware:
    """All servos of a world.

    Args:
        world: they live in; add this to it.
        models: of each motor of ``rows``, in order.
        rows: which of the plant's motors; None: all.
        baud: code of Baud Rate(8) that they are found with; None: as delivered.
        gain: what Position P Gain really does, relative to robots/motors.py.
    """

    def __init__(
        self,
        world: World,
        models: Sequence[Model],
        rows: Sequence[int] | None = None,
        baud: int | None = None,
        gain: float = 1.0,
    ):
        self.world, self.models = world, list(models)
        self.bank = bank = ServoBank(world, rows)
        bank.cutoff_v = _CUT_OFF * bank.nominal_v
        self.n = n = bank.n
        self.memories = [Memory(model) for model in self.models]
        for i, memory in enumerate(self.memories):
            memory.set("id", bank.bus_ids[i])
            if baud is not None:
                memory.set("baud_rate", baud)
        self.registered: list[tuple[int, bytes] | None] = [None] * n
        self.torque = np.zeros(n, dtype=bool)
        self.mode = np.full(n, POSITION)
        self.fed_s = np.zeros(n)
        """When each last heard an instruction."""
        self.watchdog_s = np.zeros(n)
        """0: off; negative: tripped."""
        self.silent_until_s = np.full(n, -1.0)
        """Booting until then."""
        self.latched = np.zeros(n, dtype=np.int64)
        """Errors that only a reboot clears."""
        self._shutdown = np.zeros(n, dtype=np.int64)
        self._low_v, self._high_v, self._hot_c = np.zeros(n), np.zeros(n), np.zeros(n)
        self.turns = np.zeros(n)
        """Whole turns added to the encoder."""
        self.direction = np.ones(n)
        self.offset = np.zeros(n)
        self.goal_ticks = np.zeros(n)
        self.gains = {name: np.zeros(n) for name in ("p", "i", "d", "ff1", "ff2", "vp", "vi")}
        self.duty_limit = np.ones(n)
        self.goal = {name: np.zeros(n) for name in ("pwm", "current", "velocity")}
        self.units_per_nm = np.array([model.units_per_nm for model in self.models])
        self.loads = np.array([not model.current_unit_a for model in self.models])
        self.profiles = Profiles(n)
        self.duty_per_rad = np.zeros(n)
        self._gain = gain
        self._integral = np.zeros(n)
        self._simple = True
        self._fresh = -1
        self._written = np.zeros(n, dtype=bool)
        for i in range(n):
            self._boot(i)

    # ------------------------------------------------------------------ positions

    def ticks(self) -> Array:
        """Present Position(132) of each before rounding, (n,)."""
        return self.direction * self.bank.measured_rad() / PER_TICK + CENTRE + self.offset + COUNTS * self.turns

    def _angle(self, ticks: Array) -> Array:
        return self.direction * (ticks - CENTRE - self.offset - COUNTS * self.turns) * PER_TICK

    def single_turn(self, i: int) -> None:
        """Make the present position one within a turn."""
        within = self.ticks()[i] - self.offset[i] - COUNTS * self.turns[i]
        self.turns[i] = -math.floor(within / COUNTS)
        self._fresh = -1

    # ------------------------------------------------------------------ life

    def _boot(self, i: int) -> None:
        self.memories[i].restart()
        self.registered[i] = None
        self.torque[i] = self._written[i] = False
        self.latched[i] = 0
        self.watchdog_s[i] = self._integral[i] = 0.0
        self.bank.power(self.torque)
        self._settings(i)
        self.single_turn(i)
        self._limits_to_goals(i)
        self.goal_to_present(i)
        self.load(i)

    def reboot(self, i: int) -> None:
        """Restart a servo: torque off, RAM and errors gone, no word from it for a while."""
        self._boot(i)
        self.silent_until_s[i] = self.world.now_s + _BOOT_S

    def awake(self, i: int) -> bool:
        """Whether it has power and is not booting."""
        return not self.bank.cut[i] and self.world.now_s >= self.silent_until_s[i]

    # ------------------------------------------------------------------ writing

    def write(self, i: int, address: int, data: bytes) -> Failure:
        """A write from the wire."""
        failure, changes = self.memories[i].plan_write(address, data, bool(self.torque[i]))
        if failure:
            return failure
        for row, value in changes:
            refused = self._refuses(i, row, value)
            if refused:
                return refused
        for row, value in changes:
            self._apply(i, row, value)
        return Failure.NONE

    def check_write(self, i: int, address: int, data: bytes) -> Failure:
        """What :meth:`write` would answer."""
        failure, changes = self.memories[i].plan_write(address, data, bool(self.torque[i]))
        return failure or next((f for row, value in changes if (f := self._refuses(i, row, value))), Failure.NONE)

    def _refuses(self, i: int, row: Register, value: int) -> Failure:
        memory, name = self.memories[i], row.name
        if name in _GOALS and self.watchdog_s[i] < 0:
            return Failure.RANGE
        if name == "operating_mode" and value not in self.models[i].modes:
            return Failure.RANGE
        if name == "torque_enable" and value and self.latched[i]:
            return Failure.RESULT
        if name == "bus_watchdog" and value and self.watchdog_s[i] < 0:
            return Failure.RANGE
        if name == "goal_position":
            low, high = (-MULTI_TURN, MULTI_TURN)
            if self.mode[i] == POSITION:
                low, high = memory.get("min_position_limit"), memory.get("max_position_limit")
            return Failure.NONE if low <= value <= high else Failure.LIMIT
        limit = {"goal_pwm": "pwm_limit", "goal_current": "current_limit", "goal_velocity": "velocity_limit"}.get(name)
        if limit is not None and abs(value) > memory.get(limit):
            return Failure.LIMIT
        return Failure.NONE

    def _apply(self, i: int, row: Register, value: int) -> None:
        memory, name = self.memories[i], row.name
        before = memory.get(name)
        memory.set(name, value)
        if name == "goal_position":
            self._written[i] = True
            self._new_goal(i, float(value))
            self._wake(i)
            return
        elif name == "torque_enable":
            self._switch(i, bool(value))
        elif name == "bus_watchdog":
            self.watchdog_s[i] = value * WATCHDOG_UNIT_S
        elif name == "operating_mode":
            self._settings(i)
            if value != before:
                self._reset_for_mode(i)
        elif name == "id":
            self.bank.bus_ids[i] = value
        elif row.eeprom:
            self._settings(i)
        self.load(i)
        if name in _GOALS:
            self._wake(i)

    def _wake(self, i: int) -> None:
        """Drive mode bit 3: a goal switches torque on."""
        memory = self.memories[i]
        if memory.bytes[10] & 8 and not self.torque[i] and not self.latched[i]:
            memory.set("torque_enable", 1)
            self._switch(i, True)

    def _switch(self, i: int, on: bool) -> None:
        if on and not self.torque[i]:
            if self.mode[i] == POSITION:
                self.single_turn(i)
            if not self._written[i]:
                self.goal_to_present(i)
            self.profiles.start_at(i, self.ticks()[i])
            self._new_goal(i, self.goal_ticks[i])
            self._integral[i] = 0.0
            self.fed_s[i] = self.world.now_s
        if not on:
            self._written[i] = False
        self.torque[i] = on
        self.bank.power(self.torque)

    def _new_goal(self, i: int, ticks: float) -> None:
        memory = self.memories[i]
        self.goal_ticks[i] = ticks
        self.profiles.aim(
            i, ticks, memory.get("profile_velocity"), memory.get("profile_acceleration"),
            by_time=bool(memory.get("drive_mode") & 4),
        )  # fmt: skip

    def goal_to_present(self, i: int) -> None:
        """The goal is where it stands."""
        now = float(np.round(self.ticks()[i]))
        self.memories[i].set("goal_position", int(now))
        self.goal_ticks[i] = now
        self.profiles.start_at(i, now)

    def _limits_to_goals(self, i: int) -> None:
        memory = self.memories[i]
        memory.set("goal_pwm", memory.get("pwm_limit"))
        if memory.has("goal_current"):
            memory.set("goal_current", memory.get("current_limit"))
        memory.set("goal_velocity", 0)

    def _reset_for_mode(self, i: int) -> None:
        memory = self.memories[i]
        for name in (
            "velocity_i_gain", "velocity_p_gain", "position_d_gain", "position_i_gain", "position_p_gain",
            "feedforward_2nd_gain", "feedforward_1st_gain", "profile_acceleration", "profile_velocity",
        ):  # fmt: skip
            memory.set(name, memory.initial(name))
        self._limits_to_goals(i)
        if self.mode[i] == POSITION:
            self.single_turn(i)
        self.goal_to_present(i)

    def _settings(self, i: int) -> None:
        """EEPROM to arrays."""
        memory = self.memories[i]
        self.mode[i] = memory.get("operating_mode")
        self.direction[i] = -1.0 if memory.get("drive_mode") & 1 else 1.0
        self._low_v[i], self._high_v[i] = memory.get("min_voltage_limit") / 10, memory.get("max_voltage_limit") / 10
        self._hot_c[i], self._shutdown[i] = memory.get("temperature_limit"), memory.get("shutdown")
        offset = memory.get("homing_offset")
        self.offset[i] = offset if self.mode[i] != POSITION or abs(offset) <= 1_024 else 0
        self._fresh = -1

    def load(self, i: int) -> None:
        """RAM to arrays."""
        get = self.memories[i].get
        gains = self.gains
        gains["p"][i], gains["i"][i], gains["d"][i] = (
            get("position_p_gain"), get("position_i_gain"), get("position_d_gain"),
        )  # fmt: skip
        self.duty_per_rad[i] = self._gain * dynamixel_duty_per_rad(get("position_p_gain"), COUNTS)
        gains["ff1"][i], gains["ff2"][i] = get("feedforward_1st_gain"), get("feedforward_2nd_gain")
        gains["vp"][i], gains["vi"][i] = get("velocity_p_gain"), get("velocity_i_gain")
        limit = get("pwm_limit")
        self.goal["pwm"][i] = get("goal_pwm")
        self.duty_limit[i] = (limit if self.mode[i] == PWM else min(abs(get("goal_pwm")), limit)) / FULL_PWM
        if self.memories[i].has("goal_current"):
            self.goal["current"][i] = get("goal_current")
        self.goal["velocity"][i] = get("goal_velocity")
        self.profiles.limit(i, get("profile_velocity"), get("profile_acceleration"), bool(get("drive_mode") & 4))
        position = (self.mode == POSITION) | (self.mode == EXTENDED)
        extra = gains["i"] + gains["d"] + gains["ff1"] + gains["ff2"]
        self._simple = bool(position.all()) and not extra.any()

    # ------------------------------------------------------------------ the loop

    def tick(self, now_s: float, dt_s: float) -> None:
        """See :class:`cadenza.robots.hardware.emulators.world.Firmware`."""
        bank = self.bank
        for i in bank.tick(now_s, dt_s):
            self.reboot(i)
        if bank.cut.any() and (self.torque & bank.cut).any():
            for i in np.flatnonzero(self.torque & bank.cut).tolist():
                self._boot(i)
        self._protect()
        late = self.torque & (self.watchdog_s > 0) & (now_s - self.fed_s > self.watchdog_s + 1e-9)
        if late.any():
            for i in np.flatnonzero(late).tolist():
                self._trip(i)
        share = bank.voltage_share
        stall = bank.stall_nm * share
        limit = stall * self.duty_limit
        goal = self.profiles.advance(dt_s) if self.profiles.active else self.goal_ticks
        kp = self.duty_per_rad * stall
        if self._simple:
            bank.command(self._angle(goal), kp, limit)
        else:
            self._general(goal, kp, stall, limit, dt_s)

    def _general(self, goal: Array, kp: Array, stall: Array, limit: Array, dt_s: float) -> None:
        """All modes; PWM units to N m is ``stall / 885``."""
        bank, mode, gains = self.bank, self.mode, self.gains
        per_pwm = stall / FULL_PWM
        speed, error = bank.measured_rad_s(), goal - self.ticks()
        positional = (mode == POSITION) | (mode == EXTENDED) | (mode == CURRENT_POSITION)
        fast = mode == VELOCITY
        wanted = np.where(fast, self.profiles.ramp(self.goal["velocity"], dt_s), self.profiles.velocity_units)
        loops = dt_s / _LOOP_S
        slow_error = wanted - self.direction * speed / VELOCITY_UNIT
        i_step = np.where(positional, gains["i"] * error, np.where(fast, gains["vi"] * slow_error, 0.0)) / 65_536
        windup = limit / np.maximum(per_pwm, 1e-12)
        self._integral = np.where(self.torque, np.clip(self._integral + i_step * loops, -windup, windup), 0.0)
        forward = np.where(
            positional, gains["ff1"] / 4 * wanted + gains["ff2"] / 4 * self.profiles.acceleration_units, 0.0
        )
        back_emf = bank.back_emf * self.direction * speed  # a current loop makes up for it
        current_nm = self.goal["current"] / self.units_per_nm
        tau = (self._integral + forward) * per_pwm
        tau = np.where(mode == PWM, np.clip(self.goal["pwm"], -FULL_PWM, FULL_PWM) * per_pwm, tau)
        tau = np.where(mode == CURRENT, current_nm + back_emf, tau)
        tau = np.where(mode == CURRENT_POSITION, tau + back_emf, tau)
        limit = np.where(mode == CURRENT_POSITION, np.minimum(limit, np.abs(current_nm) + np.abs(back_emf)), limit)
        per_speed = per_pwm / VELOCITY_UNIT
        kd_position = gains["d"] / 16 * _LOOP_S / PER_TICK * per_pwm
        kd = np.where(fast, gains["vp"] / 128 * per_speed, np.where(positional, kd_position, 0.0))
        goal_speed = np.where(fast, wanted * VELOCITY_UNIT, np.where(positional, wanted * VELOCITY_UNIT, 0.0))
        bank.command(
            self._angle(goal), np.where(positional, kp, 0.0), limit,
            kd=kd, goal_rad_s=self.direction * goal_speed, tau_nm=self.direction * tau,
        )  # fmt: skip

    def conditions(self) -> NDArray[np.int64]:
        """Bits of Hardware Error Status(70) that hold now, (n,)."""
        bank = self.bank
        volts = np.round(bank.supply_v, 1)
        bits = VOLTAGE * ((volts < self._low_v) | (volts > self._high_v)) + OVERHEATED * (
            bank.temperature_c > self._hot_c
        )
        bits = bits + SHOCK * (volts < _SHOCK * self._low_v) + OVERLOAD * bank.overloaded
        return np.where(bank.cut, 0, bits).astype(np.int64)

    def _protect(self) -> None:
        """Latch errors that are in Shutdown(63), which takes torque off."""
        new = self.conditions() & self._shutdown & ~self.latched
        if not new.any():
            return
        self.latched |= new
        for i in np.flatnonzero(new).tolist():
            self.memories[i].set("torque_enable", 0)
            self._switch(i, False)

    def _trip(self, i: int) -> None:
        """The watchdog: stop, and take no goals until it is cleared."""
        self.watchdog_s[i] = -1.0
        memory = self.memories[i]
        memory.set("bus_watchdog", 0xFF)
        for name in ("profile_velocity", "profile_acceleration", "goal_velocity"):
            memory.set(name, 0)
        if self.mode[i] in (CURRENT, PWM):
            memory.set("goal_current" if self.mode[i] == CURRENT else "goal_pwm", 0)
        self.goal_to_present(i)
        self._integral[i] = 0.0
        self.load(i)

    # ------------------------------------------------------------------ reading

    def refresh(self) -> None:
        """Present values to registers, once a physics step and after each write that moves them."""
        world, bank = self.world, self.bank
        if self._fresh == world.steps:
            return
        self._fresh = world.steps
        speed = self.direction * bank.measured_rad_s()
        torque = bank.torque_nm
        on = bank.powered
        drive = (torque + np.where(on, bank.back_emf, 0.0) * bank.velocity_rad_s) * self.direction
        duty = np.where(on, drive / np.maximum(bank.stall_nm * bank.voltage_share, 1e-9), 0.0)
        current = np.where(self.loads, 1_000 * duty, np.where(on, torque * self.direction * self.units_per_nm, 0.0))
        position = np.clip(np.round(self.ticks()), -(2**31), 2**31 - 1).astype(np.int64).tolist()
        velocity = np.round(speed / VELOCITY_UNIT).astype(np.int64).tolist()
        pwm = np.clip(np.round(duty * FULL_PWM), -FULL_PWM, FULL_PWM).astype(np.int64).tolist()
        amps = np.clip(np.round(current), -32_768, 32_767).astype(np.int64).tolist()
        volts = np.clip(np.round(bank.supply_v * 10), 0, 65_535).astype(np.int64).tolist()
        degrees = np.clip(np.round(bank.temperature_c), 0, 255).astype(np.int64).tolist()
        path = np.round(self.profiles.position).astype(np.int64).tolist()
        path_speed = np.round(self.profiles.velocity_units).astype(np.int64).tolist()
        status = self.profiles.status(self.ticks(), self.torque)
        errors = (self.latched | self.conditions()).tolist()
        clock = int(world.now_s * 1000) % 32_768
        for i, memory in enumerate(self.memories):
            moving = int(abs(velocity[i]) > memory.get("moving_threshold"))
            _PRESENT.pack_into(
                memory.bytes, _PRESENT_AT, clock, moving, status[i], pwm[i], amps[i], velocity[i], position[i],
                path_speed[i], path[i], volts[i], degrees[i],
            )  # fmt: skip
            memory.bytes[70] = errors[i]
            memory.bytes[64] = int(self.torque[i])

    def read(self, i: int, address: int, count: int) -> tuple[Failure, bytes]:
        """A read from the wire."""
        self.refresh()
        self.memories[i].set("registered_instruction", int(self.registered[i] is not None))
        return self.memories[i].read(address, count)

    def alert(self, i: int) -> bool:
        """Whether Hardware Error Status(70) is not 0."""
        self.refresh()
        return self.memories[i].bytes[70] != 0

    # ------------------------------------------------------------------ for the world

    def motors(self) -> list[dict[str, Any]]:
        """See :class:`cadenza.robots.hardware.emulators.world.Firmware`."""
        self.refresh()
        found = self.bank.truth()
        for i, motor in enumerate(found):
            tripped = bool(self.watchdog_s[i] < 0)
            motor["torque_enabled"] = bool(self.torque[i])
            motor["watchdog"] = {"limit_s": max(float(self.watchdog_s[i]), 0.0), "tripped": tripped}
            motor["hardware_error"] = self.memories[i].bytes[70]
            motor["mode"] = int(self.mode[i])
            motor["goal_rad"] = float(self._angle(self.goal_ticks)[i])
        return found

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        """See :class:`cadenza.robots.hardware.emulators.world.Firmware`."""
        self._fresh = -1
        return self.bank.set_motor(bus_id, name, value)

    def map(self, change: Callable[[Memory], None]) -> None:
        """Change registers of all servos as if they had been delivered so."""
        for i, memory in enumerate(self.memories):
            change(memory)
            self._settings(i)
            self.load(i)
