"""A robot's hardware layer over a port that records, in each state of its life."""

from __future__ import annotations

from typing import Any

import numpy as np
from recording_port import RecordingPort

from cadenza.robots import load_humanoid
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.types import JointCommand

OP3, G1 = load_humanoid("op3"), load_humanoid("unitree_g1")
KP = np.array([row.kp for row in OP3.joints])


def tick(hardware: RobotHardware, port: RecordingPort, command: JointCommand | None = None) -> Any:
    hardware.read()
    applied = hardware.step(command)
    port.tick()
    return applied


def configured(**options: Any) -> tuple[RobotHardware, RecordingPort]:
    port = RecordingPort(OP3, follow=True)
    hardware = RobotHardware(port, OP3, homing_s=0.5, **options)
    hardware.connect()
    hardware.configure()
    return hardware, port


def homed(**options: Any) -> tuple[RobotHardware, RecordingPort]:
    hardware, port = configured(**options)
    hardware.start_up()
    while not hardware.homed:
        tick(hardware, port)
    return hardware, port


def active(**options: Any) -> tuple[RobotHardware, RecordingPort]:
    hardware, port = homed(**options)
    hardware.release()
    tick(hardware, port, at(hardware))
    return hardware, port


def at(hardware: RobotHardware, offset: float = 0.0) -> JointCommand:
    return JointCommand.hold(hardware.home + offset, KP)
