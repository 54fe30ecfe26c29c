"""Firmware of emulated STS3215s: registers on one side, the shafts of a plant on the other.

In position mode the goal runs through the servo's own ramp (acceleration, speed); the share of full voltage is the P
coefficient times what is left to the ramp, cut at the torque limit; voltage and back-EMF give the torque
(robots/actuators.py). Assumptions, because Feetech publishes no law: D and I coefficients, the least starting force and
the speed-loop gains have no effect; a protection that unloads does so while its condition holds, and torque comes back
when it ends; an overload stays until torque is switched off. Goal time (44) is kept but not used in position mode, as
Feetech's protocol (section 4.3) calls it reserved there; the older SCS servos take it as the duration of a move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.emulators.feetech_table import BAUD, Memory
from cadenza.robots.hardware.emulators.servo import ServoBank
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.motors import MOTORS

Array = NDArray[np.float64]

STEPS = 4096
RAD = 2 * math.pi / STEPS
MIDDLE = 2048

_DUTY_PER_RAD_AT_P_32 = 5.312  # 32 times 0.166, BAM's gain of an STS3215
_STALL_CURRENT_A = 2.7  # of the 12 V model by its seller; only for the register of the current
_CURRENT_UNIT_A = 0.0065
_BOOT_S = 0.8  # Feetech's protocol, section 4.12

VOLTAGE, SENSOR, HEAT, CURRENT, OVERLOAD = 1, 2, 4, 8, 32  # bits of status and unloading condition


class FeetechServos:
    """All STS servos of a world.

    Args:
        world: with the plant; call :meth:`World.add` with the result.
        rows: which of the plant's motors; None: all.
        gain: what the P coefficient really does, relative to what robots/motors.py says; for identification.
    """

    def __init__(self, world: World, rows: Sequence[int] | None = None, gain: Sequence[float] | float = 1.0):
        self.world = world
        self.bank = bank = ServoBank(world, rows)
        n = bank.n
        self.gain = np.zeros(n) + np.asarray(gain, dtype=np.float64)
        self.memories = [Memory() for _ in range(n)]
        motors = [MOTORS[joint.motor] for joint in bank.joints]
        self._no_load = np.array([motor.no_load_speed_rad_s for motor in motors])
        for memory, joint, motor in zip(self.memories, bank.joints, motors, strict=True):
            memory.put("ID", joint.bus_id, keep=True)
            # As their makers deliver them: the 7.4 V servo takes 4 to 8 V, the 12 V servo 4 to 14 V.
            memory.put("VOLTAGE_MAX", 80 if motor.nominal_voltage_v < 10 else 140, keep=True)
            memory.put("VOLTAGE_MIN", 40, keep=True)
        self.boot_until_s = np.full(n, -np.inf)
        self.pending: list[tuple[int, bytes] | None] = [None] * n
        """What a REG WRITE left for ACTION: address and bytes."""
        self._ramp = np.zeros(n)
        """Where the servo's own ramp has come to, in steps of the present position."""
        self._ramp_speed = np.zeros(n)
        self._over = np.zeros((2, n))
        """How long each has been over its overload torque, and over its current, s."""
        self._tripped = np.zeros(n, dtype=bool)
        self._status = np.zeros(n, dtype=np.int64)
        self._columns: dict[str, Array] = {}
        for index in range(n):
            self._restart(index)

    # ------------------------------------------------------------------ for the bus

    def alive(self, index: int) -> bool:
        """Whether it has power and has started."""
        return not self.bank.cut[index] and self.world.now_s >= self.boot_until_s[index]

    def baud(self, index: int) -> int:
        """bit/s."""
        return BAUD[self.memories[index].get("BAUD")]

    def error(self, index: int) -> int:
        """The error byte of its replies."""
        return int(self._status[index]) & 0x7F

    def read(self, index: int, address: int, size: int) -> bytes:
        """Registers, measured ones as of now."""
        self._measure(index)
        return self.memories[index].read(address, size)

    def write(self, index: int, address: int, data: bytes) -> None:
        """What a WRITE does."""
        memory = self.memories[index]
        before = memory.get("TORQUE")
        for name in memory.write(address, data):
            if name == "TORQUE":
                self._switch(index, before)
            elif name == "ID":
                self.bank.bus_ids[index] = memory.get("ID")
            elif name == "GOAL" and memory.get("MODE") == 3:
                memory.put("GOAL", round(self._present(index)) + memory.get("GOAL"))
        self._load()

    def restart(self, index: int) -> None:
        """What RESTART does: silence, then everything as after power-on."""
        self._restart(index)
        self.boot_until_s[index] = self.world.now_s + _BOOT_S

    def recover(self, index: int) -> None:
        """Factory values, where EEPROM is not locked."""
        if self.memories[index].get("LOCK") == 0:
            self.memories[index].recover()
            self._load()

    def calibrate(self, index: int, value: int) -> None:
        """From now on the present position is called ``value``: present = actual - offset."""
        memory = self.memories[index]
        offset = round(self.bank.measured_rad()[index] / RAD) + MIDDLE - value
        offset = (offset + STEPS // 2) % STEPS - STEPS // 2
        memory.put("OFFSET", max(offset, -2047), keep=memory.get("LOCK") == 0)
        memory.put("GOAL", value)
        self._load()
        self._ramp[index], self._ramp_speed[index] = self._present(index), 0.0

    # ------------------------------------------------------------------ registers to numbers and back

    def _restart(self, index: int) -> None:
        memory = self.memories[index]
        memory.restart()
        self.bank.bus_ids[index] = memory.get("ID")
        self.pending[index] = None
        self._over[:, index] = 0.0
        self._tripped[index] = False
        self._load()
        self._power()
        self._ramp[index], self._ramp_speed[index] = self._present(index), 0.0
        memory.put("GOAL", round(self._present(index)))
        self._load()

    def _switch(self, index: int, before: int) -> None:
        memory = self.memories[index]
        asked = memory.get("TORQUE")
        if asked == 128:
            memory.put("TORQUE", before)
            self.calibrate(index, MIDDLE)
        elif asked > 1:
            memory.put("TORQUE", before)
        elif asked == 0:
            self._tripped[index] = False
            self._over[:, index] = 0.0
        elif before == 0:
            self._ramp[index], self._ramp_speed[index] = self._present(index), 0.0

    def _load(self) -> None:
        """Registers as arrays, so that a tick touches no bytes."""
        names = (
            "TORQUE", "ACCELERATION", "GOAL", "TIME", "SPEED", "TORQUE_LIMIT", "TORQUE_MAX", "P", "OFFSET", "MODE",
            "PHASE", "UNLOAD", "ANGLE_MIN", "ANGLE_MAX", "TEMPERATURE_MAX", "VOLTAGE_MAX", "VOLTAGE_MIN", "DEAD_CW",
            "DEAD_CCW", "CURRENT_MAX", "OVERCURRENT_TIME", "PROTECT_TORQUE", "PROTECT_TIME", "OVERLOAD_TORQUE",
        )  # fmt: skip
        column = {name: np.array([float(memory.get(name)) for memory in self.memories]) for name in names}
        phase = column["PHASE"].astype(np.int64)
        unit = np.where(phase & 4, 1.0, 50.0)
        speed = column["SPEED"] * unit
        # In position mode speed 0 means as fast as it goes, or stand still: phase bit 3.
        column["top_speed"] = np.where(speed == 0, np.where(phase & 8, np.inf, 0.0), np.abs(speed))
        column["wheel_speed"] = np.where((speed == 0) & (phase & 8 != 0), np.inf, speed)
        column["ramp"] = np.where(column["ACCELERATION"] == 0, np.inf, column["ACCELERATION"] * 100)
        column["whole"] = (phase & 16 != 0).astype(np.float64)
        low, high = column["ANGLE_MIN"], column["ANGLE_MAX"]
        free = (low == 0) & (high == 0)  # multi-turn
        column["goal"] = np.where(free, column["GOAL"], np.clip(column["GOAL"], low, np.maximum(low, high)))
        column["kp"] = column["P"] / 32 * _DUTY_PER_RAD_AT_P_32 * self.bank.stall_nm * self.gain
        pwm = column["TIME"].astype(np.int64)
        column["pwm"] = np.where(pwm & 1024, -1, 1) * np.minimum(pwm & 1023, 1000) / 1000
        self._columns = column

    def _steps(self) -> Array:
        """Positions less the offset, as counted without end."""
        return self.bank.measured_rad() / RAD + MIDDLE - self._columns["OFFSET"]

    def _turns(self, steps: Array) -> Array:
        """Whole turns that the register of the position does not show, in steps."""
        return np.where(self._columns["whole"] > 0, 0.0, np.floor(np.round(steps) / STEPS) * STEPS)

    def _present(self, index: int) -> float:
        steps = self._steps()
        return float((steps - self._turns(steps))[index])

    def _duty(self) -> Array:
        """Share of full voltage at the winding."""
        bank = self.bank
        force = bank.torque_nm + np.where(bank.powered, bank.back_emf * bank.velocity_rad_s, 0.0)
        return np.where(bank.powered, force / (bank.stall_nm * np.maximum(bank.voltage_share, 1e-3)), 0.0)

    def _amperes(self) -> Array:
        return self.bank.torque_nm / self.bank.stall_nm * _STALL_CURRENT_A

    def _measure(self, index: int) -> None:
        memory, bank = self.memories[index], self.bank
        unit = 1.0 if memory.get("PHASE") & 4 else 50.0
        memory.put("NOW_POSITION", round(self._present(index)))
        memory.put("NOW_SPEED", round(float(bank.measured_rad_s()[index]) / RAD / unit))
        memory.put("NOW_LOAD", round(float(self._duty()[index]) * 1000))
        memory.put("NOW_VOLTAGE", round(float(bank.supply_v[index]) * 10))
        memory.put("NOW_TEMPERATURE", round(float(bank.temperature_c[index])))
        memory.put("PENDING", int(self.pending[index] is not None))
        memory.put("STATUS", int(self._status[index]))
        memory.put("MOVING", int(abs(float(bank.measured_rad_s()[index])) > 5 * RAD))
        memory.put("NOW_CURRENT", round(float(self._amperes()[index]) / _CURRENT_UNIT_A))

    # ------------------------------------------------------------------ time

    def tick(self, now_s: float, dt_s: float) -> None:
        """See :class:`cadenza.robots.hardware.emulators.world.Firmware`."""
        bank, column = self.bank, self._columns
        for index in bank.tick(now_s, dt_s):
            self.restart(index)
            column = self._columns
        self._protect(now_s, dt_s)
        self._power()
        steps = self._steps()
        turns = self._turns(steps)
        present = steps - turns
        self._follow(present, dt_s)
        share = np.maximum(bank.voltage_share, 0.0)
        full = bank.stall_nm * share
        left = np.minimum(column["TORQUE_LIMIT"], column["TORQUE_MAX"]) / 1000
        protected = self._tripped & (column["UNLOAD"].astype(np.int64) & OVERLOAD != 0)
        left = np.where(protected, np.minimum(left, column["PROTECT_TORQUE"] / 100), left)
        ahead = self._ramp - present
        quiet = (ahead <= column["DEAD_CW"]) & (ahead >= -column["DEAD_CCW"]) & (self._ramp_speed == 0)
        aim = (np.where(quiet, present, self._ramp) + turns + column["OFFSET"] - MIDDLE) * RAD
        place = (column["MODE"] == 0) | (column["MODE"] == 3)
        turning = column["MODE"] == 1
        bank.command(
            np.where(place, aim, 0.0),
            np.where(place, column["kp"] * share, 0.0),
            full * left,
            kd=np.where(turning, full / (0.05 * self._no_load), 0.0),
            goal_rad_s=np.where(turning, self._ramp_speed * RAD, 0.0),
            tau_nm=np.where(column["MODE"] == 2, column["pwm"] * full, 0.0),
        )

    def _follow(self, present: Array, dt_s: float) -> None:
        """The servo's own ramp to its goal: limited speed, limited change of speed, no overshoot."""
        column, on = self._columns, self.bank.powered
        rate, top = column["ramp"], column["top_speed"]
        left = column["goal"] - self._ramp
        braking = np.sqrt(2 * rate * np.maximum(np.abs(left), 1e-9))  # not 0 times infinity
        wanted = np.sign(left) * np.minimum(np.minimum(top, braking), np.abs(left) / dt_s)
        turning = column["MODE"] == 1
        limit = self._no_load / RAD
        wanted = np.where(turning, np.clip(column["wheel_speed"], -limit, limit), wanted)
        speed = self._ramp_speed + np.clip(wanted - self._ramp_speed, -rate * dt_s, rate * dt_s)
        ramp = self._ramp + speed * dt_s
        there = ~turning & (np.abs(left) <= np.abs(speed) * dt_s + 1e-9) & (np.abs(speed) <= 2 * rate * dt_s)
        self._ramp = np.where(on & ~turning, np.where(there, column["goal"], ramp), present)
        self._ramp_speed = np.where(on, np.where(there, 0.0, speed), 0.0)

    def _protect(self, now_s: float, dt_s: float) -> None:
        bank, column = self.bank, self._columns
        load = np.abs(self._duty()) * 1000 >= column["OVERLOAD_TORQUE"] / 100 * np.minimum(
            column["TORQUE_MAX"], column["TORQUE_LIMIT"]
        )
        current = np.abs(self._amperes()) >= column["CURRENT_MAX"] * _CURRENT_UNIT_A
        for row, excess in enumerate((load & bank.powered, current & bank.powered)):
            self._over[row] = np.where(excess, self._over[row] + dt_s, 0.0)
        forced = self.world.faults.mask("overload", bank.bus_ids, now_s)
        self._tripped = self._tripped | (self._over[0] >= column["PROTECT_TIME"] / 100) & (
            column["OVERLOAD_TORQUE"] > 0
        )
        if forced is not None:
            self._tripped = self._tripped | forced
        volts = bank.supply_v * 10
        status = np.zeros(bank.n, dtype=np.int64)
        status[(volts < column["VOLTAGE_MIN"]) | (volts > column["VOLTAGE_MAX"] + 0.5)] |= VOLTAGE
        status[bank.temperature_c > column["TEMPERATURE_MAX"]] |= HEAT
        status[self._over[1] >= column["OVERCURRENT_TIME"] / 100] |= CURRENT
        status[self._tripped] |= OVERLOAD
        self._status = status

    def _power(self) -> None:
        column = self._columns
        unload = column["UNLOAD"].astype(np.int64) & (VOLTAGE | SENSOR | HEAT | CURRENT)
        started = self.world.now_s >= self.boot_until_s
        self.bank.power((column["TORQUE"] == 1) & (self._status & unload == 0) & started)

    # ------------------------------------------------------------------ for the control socket

    def motors(self) -> list[dict[str, Any]]:
        """See :class:`Firmware`; there is no watchdog in them."""
        found: list[dict[str, Any]] = []
        for index, truth in enumerate(self.bank.truth()):
            memory = self.memories[index]
            found.append(
                {
                    **truth,
                    "torque_enabled": memory.get("TORQUE") == 1,
                    "bridge_on": bool(self.bank.powered[index]),
                    "watchdog": None,
                    "status": int(self._status[index]),
                    "goal_steps": memory.get("GOAL"),
                    "registers": bytes(memory.now[:56]).hex(),
                    "stored": bytes(memory.kept).hex(),
                }
            )
        return found

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        """See :class:`Firmware`."""
        return self.bank.set_motor(bus_id, name, value)
