"""One simulation with everything that is wired to it: a plant, the devices on its shafts, time and a lock.

How a new kind of emulated device plugs in
==========================================
1. *Firmware.* One object for all devices of the kind in a world (:class:`Firmware`), so that their physics can be
   arrays. :meth:`World.add` it. ``tick`` runs once before every physics step with the world's lock held: apply faults,
   read shafts, run the control law, write ``plant.goal``, ``kp``, ``limit_nm``, ... of your motors.
   :class:`cadenza.robots.hardware.emulators.servo.ServoBank` does what all servos share: shaft angles on the motor's
   side with a stuck encoder, supply, temperature, overload, power to the bridge, which faults hold.
   ``motors`` gives one record a motor for the control socket's ``state``; ``set_motor`` takes ``supply_v`` and
   ``temperature_c``.
2. *Wire.* A serial protocol subclasses :class:`cadenza.robots.hardware.emulators.wire.SerialBus` (cut packets off a
   stream, answer one) and hands itself to a ``SerialWire``, which owns the pty, pacing, baud mismatch, unplugging and
   the log. A CAN wire is a :class:`Wire` of its own: call ``world.faults.request`` for each frame that comes in,
   ``world.faults.reply`` for each that goes out, ``world.log.add`` for both, and :meth:`World.attach` it.
3. *Locking.* Whoever handles bytes holds ``world.lock`` while it touches registers or the plant; sleeping (pacing) is
   done without it. In lockstep ``Wire.drain`` is called with the lock held before and after time moves: handle whatever
   has arrived by then, and send what is due, or lockstep is not deterministic.
4. *Launching.* Offer ``build(order) -> World`` in the module that ``launch.BUILDERS`` names for your kind (e.g.
   ``emulators/feetech.py``), with devices added and the wire attached; ``launch.plant_for`` and ``fault_plan`` help.
   ``cadenza emulate <kind>`` and ``launch.spawn(Order("<kind>", ...))`` then work. ``dynamixel.py`` is an example.

Time is the simulation's. In lockstep it passes only in :meth:`World.advance`; otherwise a thread keeps it at the wall
clock and counts how far it has fallen behind. Nothing in a device may ask any other clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cadenza.robots.hardware.emulators.faults import FaultPlan
from cadenza.robots.hardware.emulators.gantry import Gantry, free_base
from cadenza.robots.hardware.errors import HardwareError
from cadenza.robots.hardware.plant import Plant

_LOG_ENTRIES = 200_000
_MOST_BEHIND_S = 0.25
"""A world that lags further gives up the difference: it runs slow rather than race."""


class Firmware(Protocol):
    """All devices of one kind in a world."""

    def tick(self, now_s: float, dt_s: float) -> None:
        """Just before a physics step of ``dt_s`` from ``now_s``; the lock is held."""

    def motors(self) -> list[dict[str, Any]]:
        """The truth about each motor, for ``state``: bus_id, name, angle_rad, velocity_rad_s, torque_nm,
        temperature_c, supply_v, torque_enabled, watchdog and whatever else the kind has; [] for one without motors.
        """

    def set_motor(self, bus_id: int, name: str, value: float) -> bool:
        """Set ``supply_v`` or ``temperature_c``; False where that device is not one of this firmware's.

        Raises:
            HardwareError: there is no such quantity.
        """


class Wire(Protocol):
    """What devices are connected by."""

    @property
    def address(self) -> str:
        """What a client opens: a path, or a CAN channel."""

    def drain(self) -> None:
        """Handle all that has arrived, and send what is due by now; the lock is held."""

    def start(self) -> None:
        """Begin to listen, in a thread."""

    def stop(self) -> None:
        """End; may be called twice."""


@dataclass(frozen=True)
class Captured:
    """Bytes that went over a wire."""

    number: int
    at_s: float
    """Simulated."""
    way: str
    """``in``: from the host; ``out``: to it."""
    wire: str
    data: bytes

    def to_json(self) -> dict[str, Any]:
        """With the bytes as hexadecimal digits."""
        return {
            "number": self.number, "at_s": self.at_s, "way": self.way, "wire": self.wire, "data": self.data.hex(),
        }  # fmt: skip


class ByteLog:
    """The last bytes on all wires, oldest first; numbers count from 0 and never repeat."""

    def __init__(self) -> None:
        self._entries: deque[Captured] = deque(maxlen=_LOG_ENTRIES)
        self._next = 0

    def add(self, at_s: float, way: str, wire: str, data: bytes) -> None:
        """``way`` is ``in`` (from the host) or ``out``."""
        self._entries.append(Captured(self._next, at_s, way, wire, data))
        self._next += 1

    def since(self, number: int = 0, most: int = 10_000) -> list[Captured]:
        """Up to ``most`` entries from that number on."""
        if not self._entries:
            return []
        skip = max(number - self._entries[0].number, 0)
        return [self._entries[i] for i in range(skip, min(skip + most, len(self._entries)))]


class World:
    """A plant, devices, time and a lock.

    Args:
        plant: whose shafts the devices turn.
        lockstep: time passes only in :meth:`advance`; else a thread follows the wall clock.
        faults: None: none.
        held: a gantry holds the base of a robot that would stand on the floor; see :meth:`release`.
    """

    def __init__(self, plant: Plant, *, lockstep: bool = False, faults: FaultPlan | None = None, held: bool = False):
        self.plant, self.lockstep = plant, lockstep
        self.faults = faults or FaultPlan()
        self.lock = threading.RLock()
        self.log = ByteLog()
        self.steps = 0
        """Physics steps done: a key for caches of what the shafts do."""
        self.behind_s = 0.0
        """Simulated time given up because the machine was too slow, in all."""
        self.gantry = Gantry(plant) if held else None
        self._now = plant.time
        self._firmware: list[Firmware] = []
        self._wires: list[Wire] = []
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    # ------------------------------------------------------------------ set-up

    def add(self, firmware: Firmware) -> None:
        """Let it tick from now on, after those added before."""
        self._firmware.append(firmware)

    def attach(self, wire: Wire) -> None:
        """A wire that :meth:`start` starts and :meth:`stop` stops."""
        self._wires.append(wire)

    @property
    def wires(self) -> Sequence[Wire]:
        """All that were attached."""
        return self._wires

    def start(self) -> None:
        """Wires listen; in real time the clock runs."""
        for wire in self._wires:
            wire.start()
        if not self.lockstep and self._thread is None:
            self._thread = threading.Thread(target=self._follow_wall_clock, name="world", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Time stops, wires close; may be called twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        for wire in self._wires:
            wire.stop()

    # ------------------------------------------------------------------ time

    @property
    def now_s(self) -> float:
        """Simulated time, s: what was asked for last, at most one physics step after the plant's."""
        return self._now

    def advance(self, until_s: float) -> None:
        """Let time pass to ``until_s``: whatever has arrived is handled first, then the plant takes all whole steps.

        Raises:
            HardwareError: time would run backwards or is not finite.
        """
        with self.lock:
            if not np.isfinite(until_s) or until_s < self._now - 1e-9:
                raise HardwareError(
                    f"Simulated time is {self._now:.6f} s and cannot go to {until_s!r}.", "Time only moves on."
                )
            self._drain()
            self._step_until(until_s)
            self._drain()

    def _drain(self) -> None:
        for wire in self._wires:
            wire.drain()

    def _step_until(self, until_s: float) -> None:
        plant = self.plant
        for _ in range(int(np.floor((until_s - plant.time) / plant.dt + 1e-6))):
            now_s = self._now = plant.time
            for firmware in self._firmware:
                firmware.tick(now_s, plant.dt)
            plant.step()
            if self.gantry is not None:
                self.gantry.hold(plant.dt)
            self.steps += 1
        self._now = until_s

    def _follow_wall_clock(self) -> None:
        start_wall, start_sim = time.monotonic(), self._now
        while not self._ended.is_set():
            due = start_sim + time.monotonic() - start_wall
            with self.lock:
                if due - self._now > _MOST_BEHIND_S:
                    self.behind_s += due - self._now
                    start_sim -= due - self._now
                    due = self._now
                # One step at a time: a wire that has a packet does not wait for all that is due.
                self._step_until(max(min(due, self.plant.time + 1.5 * self.plant.dt), self._now))
                next_s = self.plant.time + self.plant.dt
            left = start_wall + next_s - start_sim - time.monotonic()
            if left > 0:
                self._ended.wait(max(left, 0.0002))
            else:
                time.sleep(0)  # a wire's thread that waits for the lock gets its turn

    # ------------------------------------------------------------------ truth and interference

    def state(self) -> dict[str, Any]:
        """What is really so, as JSON: ``time_s``, ``behind_s``, ``motors`` (see :meth:`Firmware.motors`), ``faults``
        that hold, and of a whole robot ``base_pose`` (x, y, z, quaternion wxyz), ``base_height_m`` and ``uprightness``
        (1 upright, -1 upside down).
        """
        with self.lock:
            found: dict[str, Any] = {
                "time_s": self._now,
                "behind_s": self.behind_s,
                "lockstep": self.lockstep,
                "motors": [motor for firmware in self._firmware for motor in firmware.motors()],
                "faults": self.faults.to_json(),
                "held": self.gantry is not None and self.gantry.holds,
            }
            base = free_base(self.plant)
            if base is not None:
                found["base_pose"] = self.plant.data.qpos[base[0] : base[0] + 7].tolist()
                found["base_height_m"] = float(self.plant.data.qpos[base[0] + 2])
                found["uprightness"] = -float(self.plant.imu()[1][2])
            return found

    def set_motor(self, bus_id: int | None, name: str, value: float) -> None:
        """``supply_v`` or ``temperature_c`` of one motor, or of all; what else a device takes, of that device.

        Raises:
            HardwareError: no such device or quantity, or a value that is not finite.
        """
        if not np.isfinite(value):
            raise HardwareError(f"{name} cannot be {value!r}.", "Give a finite number.")
        with self.lock:
            ids = [motor["bus_id"] for firmware in self._firmware for motor in firmware.motors()]
            for one in ids if bus_id is None else [bus_id]:
                if not any(firmware.set_motor(one, name, value) for firmware in self._firmware):
                    raise HardwareError(f"There is no device with bus id {one}.", f"There are: {ids}.")

    def release(self) -> None:
        """The gantry lowers the robot to its feet and lets go.

        Raises:
            HardwareError: there is no gantry.
        """
        if self.gantry is None:
            raise HardwareError("Nothing holds this robot.", "Start the emulator with --held.")
        with self.lock:
            self.gantry.release()
