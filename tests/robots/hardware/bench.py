"""Emulators for tests, in a process of their own, whose free shafts can be turned by hand over the control socket.

python bench.py ORDER     the emulator, as cadenza.robots.hardware.emulators.launch, which also takes
                          {"do": "set", "device": 3, "angle_rad": 0.5}
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.dynamixel.bus import DynamixelBus
from cadenza.robots.hardware.dynamixel.settings import DynamixelOptions
from cadenza.robots.hardware.dynamixel.table import X_SERIES
from cadenza.robots.hardware.emulators.control import EmulatorControl
from cadenza.robots.hardware.emulators.launch import Order, Spawned, run
from cadenza.robots.hardware.emulators.world import World
from cadenza.robots.hardware.transports.serial import SerialPort
from cadenza.robots.hardware.types import Array
from cadenza.robots.motors import MOTORS


def let_shafts_be_turned(world: World, _: Path) -> None:
    plain: Callable[[int | None, str, float], None] = world.set_motor

    def set_motor(bus_id: int | None, name: str, value: float) -> None:
        if name != "angle_rad":
            plain(bus_id, name, value)
            return
        with world.lock:
            plant = world.plant
            row = next(row for row in plant.joints if row.bus_id == bus_id)
            plant.data.joint(row.name).qpos[0] = row.sign * value + row.zero_rad
            plant.data.joint(row.name).qvel[0] = 0.0
            mujoco.mj_forward(plant.model, plant.data)
            world.steps += 1  # key of the firmware's caches

    world.set_motor = set_motor  # type: ignore[method-assign]


def start(order: Order) -> Spawned:
    """Like ``launch.spawn``; the caller stops it."""
    order = dataclasses.replace(order, end_with_stdin=True)
    process = subprocess.Popen(
        [sys.executable, __file__, order.to_json()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ),
    )  # fmt: skip
    assert process.stdout is not None
    record = json.loads(process.stdout.readline())
    return Spawned(process, record["port"], EmulatorControl(record["control"]))


def settings(ids: tuple[int, ...], motor: str = "XM430-W350", limit_rad: float = 2.0) -> list[MotorSettings]:
    data = MOTORS[motor]
    return [
        MotorSettings(f"joint_{'abcdefghij'[i]}", number, motor, data.peak_torque_nm, data.no_load_speed_rad_s,
                      (-limit_rad, limit_rad), 18.9, 0.0)
        for i, number in enumerate(ids)
    ]  # fmt: skip


class DynamixelRig:
    """A :class:`conformance.Rig` of XM430 servos on a bench, in lockstep."""

    resolution_rad = 2 * np.pi / 4096

    def __init__(self, emulator: Spawned, bus: DynamixelBus, clock: VirtualClock):
        self.emulator, self.bus, self.clock = emulator, bus, clock
        self.ids = [row.bus_id for row in bus.settings]
        self.control = emulator.control
        clock.followers.append(self.control.advance)
        self.spoiled = False

    def _motors(self) -> list[dict[str, Any]]:
        found = {motor["bus_id"]: motor for motor in self.control.state()["motors"]}
        return [found[number] for number in self.ids]

    def shafts(self) -> Array:
        return np.array([motor["angle_rad"] for motor in self._motors()])

    def turn(self, index: int, q_rad: float) -> None:
        self.control.set(self.ids[index], angle_rad=q_rad)

    def powered(self) -> list[bool]:
        return [bool(motor["torque_enabled"]) for motor in self._motors()]

    def registers(self) -> Any:
        """What is writable, read over a wire without faults by whoever holds the port: the bus, or nobody yet."""
        port = self.bus.port
        was_open = port.serial.is_open
        port.open()
        counters = dataclasses.replace(self.bus.counters)
        found = {}
        for number in self.ids:
            for item in X_SERIES:
                if item.writable:
                    found[number, item.name] = port.read(number, item.address, item.size).data
        self.bus.counters.__dict__.update(counters.__dict__)
        if not was_open:
            port.close()
        return found

    def advance(self, seconds: float) -> None:
        self.clock.sleep_until(self.clock.now() + seconds)

    def fault(self, kind: str, index: int | None = None) -> None:
        devices = None if index is None else [self.ids[index]]
        more = {"way": "reply"} if kind == "corrupt" else {}
        self.control.fault(kind, devices=devices, **more)
        self.spoiled = self.spoiled or kind == "unplug"
        if kind == "unplug":  # in lockstep a wire looks at its faults when time passes
            self.control.ask("advance", by_s=0.02)
            time.sleep(0.05)

    def heal(self) -> None:
        self.control.clear_faults()


class SharedEmulator:
    """One process for many tests, which find it as after power-on; EEPROM keeps what it was given.

    Starting one takes more than a second, most of it to import MuJoCo.
    """

    def __init__(self, ids: tuple[int, ...] = (1, 2, 3)):
        self.ids = ids
        self._emulator: Spawned | None = None

    def rig(self, margin_s: float = 0.2, **options: Any) -> DynamixelRig:
        if self._emulator is None:
            self._emulator = start(Order("dynamixel", ids=self.ids, lockstep=True))
        else:
            self._power_cycle(self._emulator)
        clock = VirtualClock(self._emulator.control.state()["time_s"])
        made = DynamixelOptions(**{"broadcast_up_to": max(self.ids), **options})
        port = SerialPort(self._emulator.port, 1_000_000, margin_s=margin_s)
        return DynamixelRig(self._emulator, DynamixelBus(settings(self.ids), port, clock, made), clock)

    def _power_cycle(self, emulator: Spawned) -> None:
        control = emulator.control
        control.clear_faults()
        for number in self.ids:
            control.set(number, supply_v=0.0)
        control.ask("advance", by_s=0.5)
        for number in self.ids:
            control.set(number, supply_v=12.0, temperature_c=25.0, angle_rad=0.0)
        control.ask("advance", by_s=0.5)

    def give_back(self, rig: DynamixelRig) -> None:
        rig.bus.close()
        if rig.spoiled:
            self.stop()

    def stop(self) -> None:
        if self._emulator is not None:
            self._emulator.stop()
            self._emulator = None


if __name__ == "__main__":
    sys.exit(run(Order.from_json(sys.argv[1]), ready=let_shafts_be_turned))
