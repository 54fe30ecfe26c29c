"""How hot a motor's winding gets: a first-order model of a ROBOTIS XM430-W350, scaled to any actuator.

The motor of a simulated robot is imagined as an XM430-W350 grown (or shrunk) until its stall torque is the actuator's
limit. What counts is then the *load* ``torque / limit`` alone, a number in [-1, 1]::

    current         i = load * stall_current                       (torque is proportional to current)
    copper loss     P = i^2 * R
    temperature     tau dT/dt = R_th * P - (T - T_ambient)         (one heat capacity, one way out)

=====================  ==========================  =================================================================
Constant               Value                       Where from
=====================  ==========================  =================================================================
stall torque, current  4.1 N m, 2.3 A at 12 V      ROBOTIS e-manual, XM430-W350, specifications
R                      12 V / 2.3 A = 5.2 Ohm      derived; leads and driver included
limit                  80 degC                     e-manual, control table, Temperature Limit (31), initial value
rated torque           stall torque / 5            assumed: the page gives no continuous torque; ROBOTIS's page of
                                                   the XL-320 advises loads of 1/5 of the stall torque or less
R_th                   49.8 K/W                    derived: at rated torque the winding settles at the limit, as maxon
                                                   defines its nominal torque
ambient                25 degC                     assumed; the usual reference of data sheets
tau                    300 s                       assumed: the e-manual has one wait 20 minutes after an overheating
                                                   shutdown; in four time constants 98 % of the heat is gone
=====================  ==========================  =================================================================

A stalled motor reaches the limit 12 s after a cold start. Left out: the resistance's rise with temperature (+22 % at
80 degC), iron losses and friction, the winding's own second or two. Nothing switches the motor off, so that the
temperature of a bad policy goes where no motor would survive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Winding:
    """A motor as its winding sees it; the module tells where the XM430-W350's numbers come from."""

    stall_torque_nm: float = 4.1
    stall_current_a: float = 2.3
    supply_v: float = 12.0
    """At which the two hold."""
    rated_share: float = 0.2
    """Torque that may be held for ever, as a share of the stall torque."""
    limit_c: float = 80.0
    ambient_c: float = 25.0
    time_constant_s: float = 300.0

    @property
    def resistance_ohm(self) -> float:
        """At standstill all of the supply drops over the winding."""
        return self.supply_v / self.stall_current_a

    @property
    def limit_rise_k(self) -> float:
        """How much warmer than the surroundings the winding may get."""
        return self.limit_c - self.ambient_c

    @property
    def thermal_resistance_k_w(self) -> float:
        """Winding to surroundings, such that the rated torque ends at the limit."""
        return self.limit_rise_k / self.loss_w(self.rated_share)

    @property
    def heat_capacity_j_k(self) -> float:
        """What the time constant and the thermal resistance make of it."""
        return self.time_constant_s / self.thermal_resistance_k_w

    def loss_w(self, load: float) -> float:
        """Copper loss at a torque of ``load`` times the stall torque."""
        return (load * self.stall_current_a) ** 2 * self.resistance_ohm

    def seconds_to_limit(self, load: float) -> float:
        """From cold, at a constant load; infinite up to the rated torque."""
        final = self.thermal_resistance_k_w * self.loss_w(load)
        return -self.time_constant_s * math.log1p(-self.limit_rise_k / final) if final > self.limit_rise_k else math.inf

    def heat(self, rise_k: NDArray[np.float64], load: NDArray[np.float64], dt_s: float) -> NDArray[np.float64]:
        """The windings' rise above the surroundings after each step, exact for a load that is constant within a step.

        Args:
            rise_k: before the first step, shape (motors,).
            load: torque over stall torque in each step, shape (steps, motors).
            dt_s: length of a step.

        Returns:
            Shape (steps, motors), K.
        """
        final = self.thermal_resistance_k_w * self.loss_w(1.0) * np.square(load)
        rises = np.empty_like(final)
        # rise[k] = a rise[k-1] + (1 - a) final[k], solved with a cumulative sum of final[k] / a^k. 1 / a^k must not
        # overflow: at most 50 time constants at once.
        rate = dt_s / self.time_constant_s
        stride = max(1, int(50.0 / rate))
        for first in range(0, len(final), stride):
            part = final[first : first + stride]
            decay = np.exp(-rate * np.arange(1, len(part) + 1))[:, None]
            rises[first : first + stride] = decay * (rise_k - math.expm1(-rate) * np.cumsum(part / decay, axis=0))
            rise_k = rises[first + len(part) - 1]
        return rises


XM430_W350 = Winding()
"""The Dynamixel of small humanoids."""
