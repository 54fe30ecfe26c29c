"""What emulated servos share below their makers' registers: shaft, winding, supply, overload, and faults of these.

Angles are rad at the motor's output shaft, 0 at its centre position: the inverse of the joint map,
``motor = sign * (joint - zero_rad)``. Heat is the first-order winding of robots/motor_thermal.py, scaled to the motor.
A servo calls itself overloaded when it has had nearly all of its duty in use for some time without moving much; makers
do not publish their rule, so share and time are assumptions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.motor_thermal import XM430_W350, Winding
from cadenza.robots.motors import MOTORS

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_OVERLOAD_SHARE = 0.85
"""Of the stall torque at the present supply."""
_OVERLOAD_S = 1.0
QUANTITIES = ("supply_v", "temperature_c")
"""What can be set from outside."""


class ServoBank:
    """Motors of one kind of firmware; all arrays are (n,), in the order of ``rows``.

    Args:
        world: with the plant.
        rows: which of the plant's motors, by index; None: all.
        winding: for heat; torque is taken relative to each motor's stall torque.
    """

    def __init__(self, world: World, rows: Sequence[int] | None = None, winding: Winding = XM430_W350):
        plant = world.plant
        self.world, self.winding = world, winding
        self.rows = np.arange(len(plant.joints)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.joints = [plant.joints[int(row)] for row in self.rows]
        self.n = n = len(self.rows)
        self.sign = np.array([float(joint.sign) for joint in self.joints])
        self.zero_rad = np.array([joint.zero_rad for joint in self.joints])
        motors = [MOTORS[joint.motor] for joint in self.joints]
        self.stall_nm = np.array([motor.peak_torque_nm for motor in motors])
        """At the nominal voltage."""
        self.nominal_v = np.array([motor.nominal_voltage_v for motor in motors])
        self.back_emf = plant.back_emf[self.rows]
        """N m s/rad; the plant applies it to a powered motor."""
        self.bus_ids = [joint.bus_id for joint in self.joints]
        """Present ids, for faults; a device that changes its id writes it here."""
        self.set_supply_v = self.nominal_v.copy()
        """Of the power supply; a brown-out is below it."""
        self.supply_v = self.nominal_v.copy()
        self.temperature_c = np.full(n, winding.ambient_c)
        self.overload_s = np.zeros(n)
        """How long each has been at its limit."""
        self.cut = np.zeros(n, dtype=bool)
        """No supply at all: unplugged, or switched off at the board."""
        self.switched_on = np.ones(n, dtype=bool)
        """What a board with a power switch makes of it; see OpenCR."""
        self.cutoff_v = np.zeros(n)
        """Supply below which the processor itself stops."""
        self._stuck_rad = np.full(n, np.nan)
        self._powered = np.zeros(n, dtype=bool)

    # ------------------------------------------------------------------ what its sensors say

    @property
    def angle_rad(self) -> Array:
        """True shaft angle."""
        return self.sign * (self.world.plant.q[self.rows] - self.zero_rad)

    @property
    def velocity_rad_s(self) -> Array:
        """True shaft speed."""
        return self.sign * self.world.plant.dq[self.rows]

    @property
    def torque_nm(self) -> Array:
        """At the shaft, in the last step, back-EMF included: what a current sensor would say."""
        return self.sign * self.world.plant.force[self.rows]

    def measured_rad(self) -> Array:
        """Shaft angle as the encoder sees it: frozen where it is stuck."""
        angle = self.angle_rad
        return np.where(np.isnan(self._stuck_rad), angle, self._stuck_rad)

    def measured_rad_s(self) -> Array:
        """Speed as the encoder sees it: 0 where it is stuck."""
        return np.where(np.isnan(self._stuck_rad), self.velocity_rad_s, 0.0)

    @property
    def stuck(self) -> Bools:
        """Whose encoder is frozen."""
        return ~np.isnan(self._stuck_rad)

    @property
    def overloaded(self) -> Bools:
        """Who has been at its limit for too long, or is told so by a fault."""
        return self.overload_s >= _OVERLOAD_S

    @property
    def voltage_share(self) -> Array:
        """Supply over nominal voltage: what stall torque and gain are proportional to."""
        return self.supply_v / self.nominal_v

    # ------------------------------------------------------------------ what its bridge does

    @property
    def powered(self) -> Bools:
        """Torque on."""
        return self._powered

    def power(self, on: Bools) -> None:
        """Bridges on or off; one whose supply is cut stays off."""
        self._powered = on & ~self.cut
        self.world.plant.powered[self.rows] = self._powered

    def command(
        self, goal_rad: Array, kp: Array, limit_nm: Array, *,
        kd: Array | None = None, goal_rad_s: Array | None = None, tau_nm: Array | None = None,
    ) -> None:  # fmt: skip
        """The law of the next physics step, at the motor's side; see the plant. The encoder that is stuck feeds the
        law with the angle at which it stuck, so such a motor runs away as a real one does.
        """
        plant, rows = self.world.plant, self.rows
        zero = np.zeros(self.n)
        goal = self.zero_rad + self.sign * goal_rad
        stuck = ~np.isnan(self._stuck_rad)
        if stuck.any():
            goal = np.where(stuck, plant.q[rows] + self.sign * (goal_rad - self._stuck_rad), goal)
        plant.goal[rows], plant.kp[rows], plant.limit_nm[rows] = goal, kp, limit_nm
        plant.kd[rows] = zero if kd is None else kd
        plant.goal_velocity[rows] = zero if goal_rad_s is None else self.sign * goal_rad_s
        plant.tau[rows] = zero if tau_nm is None else self.sign * tau_nm

    # ------------------------------------------------------------------ time

    def tick(self, now_s: float, dt_s: float) -> list[int]:
        """Heat, supply, overload and faults of one physics step; which motors (indices) restart now: told to by a
        ``reboot`` fault, or given their supply back.
        """
        restarts: list[int] = []
        faults, ids, winding = self.world.faults, self.bus_ids, self.winding
        load = self.torque_nm / self.stall_nm
        final_c = winding.ambient_c + winding.thermal_resistance_k_w * winding.loss_w(1.0) * load * load
        self.temperature_c += (final_c - self.temperature_c) * -math.expm1(-dt_s / winding.time_constant_s)
        share = np.abs(load) / np.maximum(self.voltage_share, 1e-3)
        at_limit = share > _OVERLOAD_SHARE
        self.overload_s = np.where(at_limit, self.overload_s + dt_s, np.maximum(self.overload_s - dt_s, 0.0))
        np.copyto(self.supply_v, self.set_supply_v)
        gone = ~self.switched_on
        if faults.any:
            for fault in faults.active("brown_out", now_s):
                self.supply_v[self._hit(fault.devices)] = fault.strength
            for fault in faults.active("over_heat", now_s):
                self.temperature_c[self._hit(fault.devices)] = fault.strength
            for fault in faults.active("overload", now_s):
                self.overload_s[self._hit(fault.devices)] = _OVERLOAD_S
            mask = faults.mask("stuck_encoder", ids, now_s)
            if mask is not None:
                self._stuck_rad = np.where(mask & np.isnan(self._stuck_rad), self.angle_rad, self._stuck_rad)
            self._stuck_rad[~mask if mask is not None else slice(None)] = np.nan
            for fault in faults.once("reboot", now_s):
                restarts += [int(index) for index in np.flatnonzero(self._hit(fault.devices))]
            gone |= np.array([faults.unplugged(bus_id, now_s) for bus_id in ids])
        gone |= self.supply_v < self.cutoff_v
        self.supply_v[gone] = 0.0
        back = self.cut & ~gone
        self.cut = gone
        if back.any():
            restarts += [int(index) for index in np.flatnonzero(back)]
        if (self._powered & gone).any():
            self.power(self._powered)
        return restarts

    def _hit(self, devices: tuple[int, ...] | None) -> Bools:
        if devices is None:
            return np.ones(self.n, dtype=bool)
        return np.array([bus_id in devices for bus_id in self.bus_ids])

    # ------------------------------------------------------------------ for the control socket

    def truth(self) -> list[dict[str, object]]:
        """What every firmware reports of a motor; add ``watchdog`` and the kind's own."""
        angle, velocity, torque = self.angle_rad, self.velocity_rad_s, self.torque_nm
        return [
            {
                "bus_id": self.bus_ids[i],
                "name": self.joints[i].name,
                "angle_rad": float(angle[i]),
                "velocity_rad_s": float(velocity[i]),
                "torque_nm": float(torque[i]),
                "temperature_c": float(self.temperature_c[i]),
                "supply_v": float(self.supply_v[i]),
                "torque_enabled": bool(self._powered[i]),
            }
            for i in range(self.n)
        ]

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        """See :meth:`Firmware.set_motor`."""
        if bus_id not in self.bus_ids:
            return False
        if name not in QUANTITIES:
            raise HardwareError(f"An emulated motor has no {name!r} to set.", f"There are: {', '.join(QUANTITIES)}.")
        index = self.bus_ids.index(bus_id)
        if name == "supply_v":
            self.set_supply_v[index] = self.supply_v[index] = value
        else:
            self.temperature_c[index] = value
        return True
