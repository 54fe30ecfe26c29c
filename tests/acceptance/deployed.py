"""A policy deployed in lockstep, tick by tick on record."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.loop import ControlLoop, LoopReport
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.rigs import open_rig
from cadenza.robots import load_humanoid
from cadenza.robots.hardware.robot import RobotHardware
from cadenza.robots.hardware.types import Array, JointCommand, RobotState, Sent

ROBOT = load_humanoid("op3")
WALK = np.array([0.15, 0.0, 0.0])


@dataclass
class Run:
    """What was seen in each tick in which the policy drove."""

    report: LoopReport
    q: list[Array] = field(default_factory=list)
    dq: list[Array] = field(default_factory=list)
    gyro: list[Array] = field(default_factory=list)
    gravity: list[Array] = field(default_factory=list)
    action: list[Array] = field(default_factory=list)
    goal: list[Array] = field(default_factory=list)
    base_height_m: float = float("nan")
    uprightness: float = float("nan")


class Late:
    """A port whose goals take effect, and whose samples arrive, some ticks late; their age says so.

    Args:
        port: the joints.
        ticks: by which goals and samples together are late.
        period_s: of a tick.
    """

    def __init__(self, port: Any, ticks: int, period_s: float = 0.02):
        self._port, self._ticks, self._period_s = port, ticks, period_s
        self._samples: deque[RobotState] = deque(maxlen=ticks + 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)

    def read(self) -> RobotState:
        """The sample of some ticks ago."""
        self._samples.append(self._port.read())
        old, now = self._samples[0], self._samples[-1]
        # A wire that is late says nothing of it: the age is that of a fresh sample.
        return replace(old, at_s=now.at_s, joints=replace(old.joints, age=now.joints.age))

    def write(self, command: JointCommand) -> Sent:
        sent: Sent = self._port.write(command)
        return sent


def drive(
    bus: str,
    folder: Path,
    ticks: int,
    *,
    hung_up: bool = False,
    command: Array | None = None,
    late: int = 0,
    start_s: float = 1.0,
    faults: Path | None = None,
    spoil: Callable[[Any], None] = lambda rig: None,
) -> Run:
    """Start, go home, drive so many ticks, stop.

    ``start_s`` is when the way home begins, on a clock that starts at 0: both kinds of bus must begin at one time,
    since a driver's set-up lets some pass and a simulation's does not.
    """
    runner = PolicyRunner(PolicyBundle.load(folder))
    run = Run(None)  # type: ignore[arg-type]
    with open_rig(bus, ROBOT, lockstep=True, hung_up=hung_up, faults=faults) as rig:
        port = Late(rig.port, late) if late else rig.port
        with RobotHardware(port, ROBOT, homing_s=0.5) as hardware:

            def note(state: RobotState, applied: Any) -> None:
                if hardware.lifecycle.value != "active" or applied is None or applied.sent is None:
                    return
                assert state.imu is not None
                run.q.append(state.joints.q.copy())
                run.dq.append(state.joints.dq.copy())
                run.gyro.append(state.imu.gyro.copy())
                run.gravity.append(state.imu.gravity.copy())
                run.action.append(runner.action.copy())
                run.goal.append(applied.sent.command.q.copy())

            hardware.connect()
            hardware.configure(prove_watchdog=False)
            rig.clock.sleep_until(start_s)
            spoil(rig)
            loop = ControlLoop(hardware, runner, at_home=rig.put_down, at_tick=note, command=command)
            run.report = loop.run(ticks * 0.02)
            if rig.emulator is not None:
                truth = rig.emulator.control.state()
                run.base_height_m = truth.get("base_height_m", float("nan"))
                run.uprightness = truth.get("uprightness", float("nan"))
            elif rig.plant is not None:
                run.uprightness = -float(rig.plant.imu()[1][2])
    return run
