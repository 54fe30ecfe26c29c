"""An emulated CAN bus in another process, and the hands of an experimenter on it, for tests of both makers' drives."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cadenza.robots.hardware import can_motors  # noqa: F401  (adds the drives to MOTORS)
from cadenza.robots.hardware.bus import MotorSettings
from cadenza.robots.hardware.canbus.bus import CanBus
from cadenza.robots.hardware.canbus.codec import Codec
from cadenza.robots.hardware.clock import VirtualClock
from cadenza.robots.hardware.emulators.launch import Order, Spawned, spawn
from cadenza.robots.hardware.transports.canport import FrameLog
from cadenza.robots.hardware.types import Array

IDS = (1, 2, 5)


def free_channel() -> str:
    """A multicast group and a UDP port that nobody else uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return f"239.74.163.2:{probe.getsockname()[1]}"


def settings(motor: str, ids: Sequence[int] = IDS, **changes: Any) -> list[MotorSettings]:
    fields: dict[str, Any] = {
        "torque_limit_nm": 6.0, "velocity_limit_rad_s": 15.0, "position_limits_rad": (-2.5, 2.5), "kp": 20.0, "kd": 1.0,
        **changes,
    }  # fmt: skip
    return [MotorSettings(name=f"joint_{number}", bus_id=number, motor=motor, **fields) for number in ids]


def emulated(kind: str, motor: str, ids: Sequence[int] = IDS, **order: Any) -> Spawned:
    """Drives in a process of their own, in lockstep, on a channel of their own."""
    return spawn(Order(kind, motor=motor, ids=tuple(ids), lockstep=True, channel=free_channel(), **order))


class CanRig:
    """See ``conformance.Rig``. ``bus.clock`` moves with the emulator, whose drives are as after power-on."""

    resolution_rad = 25.2 / 65535

    def __init__(self, emulator: Spawned, motor: str, codec: Codec, ids: Sequence[int] = IDS):
        self.emulator, self.ids = emulator, list(ids)
        control = emulator.control
        control.clear_faults()
        control.fault("reboot")
        control.set(supply_v=24.0 if motor != "RS-02" else 48.0, temperature_c=25.0)
        self.clock = VirtualClock(control.state()["time_s"])
        self.clock.followers.append(control.advance)
        self.advance(0.01)
        control.clear_faults()
        for index in range(len(ids)):
            self.turn(index, 0.0)
        self.frames = FrameLog(None)
        self.bus = CanBus(emulator.port, settings(motor, ids), codec, clock=self.clock, margin_s=0.2)
        self.bus.port.taps.append(self.frames)

    def _motors(self) -> list[dict[str, Any]]:
        found = {motor["bus_id"]: motor for motor in self.emulator.control.state()["motors"]}
        return [found[number] for number in self.ids]

    def shafts(self) -> Array:
        return np.array([motor["angle_rad"] for motor in self._motors()])

    def turn(self, index: int, q_rad: float) -> None:
        self.emulator.control.set(self.ids[index], angle_rad=q_rad)

    def powered(self) -> list[bool]:
        return [motor["torque_enabled"] for motor in self._motors()]

    def registers(self) -> Any:
        return [(motor["registers"], motor["goal"], motor["torque_enabled"]) for motor in self._motors()]

    def advance(self, seconds: float) -> None:
        self.clock.sleep_until(self.clock.now() + seconds)

    def fault(self, kind: str, index: int | None = None) -> None:
        fields: dict[str, Any] = {} if index is None else {"devices": [self.ids[index]]}
        if kind == "corrupt":
            fields["way"] = "reply"
        # Shorter waits: from here on, answers are missing on purpose.
        self.bus._link.margin_s = 0.1
        self.emulator.control.fault(kind, **fields)
        if kind == "unplug":
            time.sleep(0.1)  # the wire's thread looks every 20 ms

    def heal(self) -> None:
        self.emulator.control.clear_faults()
        self.bus._link.margin_s = 0.2
