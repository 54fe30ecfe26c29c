"""Promise 9: the software stop latches, comes before a running policy within a tick, and its reset moves nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from wire_reader import GOAL_POSITION, TORQUE_ENABLE, check_goals, of_register, written
from wired import HOME, PERIOD_S, ROBOT, WiredOp3, command

from cadenza.controllers.bundle import PolicyBundle
from cadenza.controllers.loop import ControlLoop, LoopReport
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.estop import EStop, SocketStop
from cadenza.robots.hardware.lifecycle import Lifecycle

TRIP_AT = 30
"""Tick of the policy's driving."""


class Tripping:
    """Runs a policy on a wired robot and trips its stop in one tick; what happened at that moment."""

    def __init__(self, robot: WiredOp3, folder: Path, trip: Callable[[EStop], None], estop: EStop | None = None):
        self.robot = robot
        self.estop = EStop() if estop is None else estop
        self.hardware = robot.set_up(estop=self.estop)
        self.trip, self.driven = trip, 0
        self.tripped_s = float("nan")
        self.mark = -1
        self.speeds: list[float] = []
        """Fastest true speed of a shaft in each tick after the trip."""
        self.states: list[str] = []
        self.loop = ControlLoop(self.hardware, PolicyRunner(PolicyBundle.load(folder)), at_tick=self._note)

    def _note(self, state: object, applied: object) -> None:
        if self.mark >= 0:
            self.states.append(self.hardware.lifecycle.value)
            self.speeds.append(max(abs(motor["velocity_rad_s"]) for motor in self.robot.motors()))
        self.driven += self.hardware.lifecycle == Lifecycle.ACTIVE
        if self.driven == TRIP_AT and self.mark < 0:
            self.mark = self.robot.mark()
            self.tripped_s = self.robot.clock.now()
            self.trip(self.estop)

    def run(self) -> LoopReport:
        return self.loop.run(5.0)


def torque_off_s(robot: WiredOp3, since: int) -> float:
    """When the first servo was told to switch off."""
    return min(at for at, _, value in of_register(written(robot.control.log(since)), TORQUE_ENABLE, 1) if value == 0)


@pytest.mark.parametrize("category", [0, 1])
def test_it_comes_before_the_policy_within_a_tick(
    op3: WiredOp3, small_bundle: Callable[[str], Path], category: int
) -> None:
    run = Tripping(op3, small_bundle("stand"), lambda stop: stop.trip(category, "the red one"))
    report = run.run()
    assert (report.lifecycle, report.reason) == ("estopped", "the red one")
    assert report.active_ticks == TRIP_AT, "not one tick more for the policy"
    off_s = torque_off_s(op3, run.mark)
    if category == 0:
        assert off_s - run.tripped_s <= PERIOD_S + 1e-9
        assert of_register(written(op3.control.log(run.mark)), GOAL_POSITION, 4) == []
    else:
        assert run.states[0] == "stopping", "in the very next tick"
    assert not any(op3.torque())
    check_goals(op3.log(), ROBOT)


def test_category_1_comes_to_rest_before_the_power_goes(op3: WiredOp3) -> None:
    hardware = op3.go()
    for k in range(40):
        op3.tick(command(HOME + 0.4 * np.sin(k / 6)))
    fast = max(abs(motor["velocity_rad_s"]) for motor in op3.motors())
    assert fast > 0.5, "it moves"
    hardware.estop(1, "the yellow one")
    speeds = []
    while hardware.powered:
        speeds.append(max(abs(motor["velocity_rad_s"]) for motor in op3.motors()))
        assert all(op3.torque()), "power stays until it rests"
        op3.tick(command(HOME + 1.0))
        assert len(speeds) < 100
    assert hardware.lifecycle == Lifecycle.ESTOPPED
    assert len(speeds) >= 5
    assert speeds[-1] < hardware.policy.settle_rad_s + 0.05
    assert not any(op3.torque())
    check_goals(op3.log(), ROBOT)


def test_it_latches_and_a_reset_alone_moves_nothing(op3: WiredOp3) -> None:
    hardware = op3.go()
    for k in range(20):
        op3.tick(command(HOME + 0.3 * np.sin(k / 8)))
    hardware.estop(0, "the red one")
    mark = op3.mark()
    assert not any(op3.torque())
    for _ in range(20):
        op3.tick(command(HOME + 0.3))
    for again in (hardware.start_up, hardware.release, lambda: hardware.command(command(HOME))):
        with pytest.raises(RefusedError):
            again()
    assert hardware.lifecycle == Lifecycle.ESTOPPED
    hardware.reset()
    assert hardware.lifecycle == Lifecycle.INACTIVE
    for _ in range(50):
        op3.tick(command(HOME + 0.3))
        assert not any(op3.torque())
    with pytest.raises(RefusedError):
        hardware.release()
    asked = written(op3.control.log(mark))
    assert of_register(asked, GOAL_POSITION, 4) == []
    assert [one for one in of_register(asked, TORQUE_ENABLE, 1) if one[2]] == []


def test_a_stronger_stop_does_not_wait_for_a_weaker_one(op3: WiredOp3) -> None:
    hardware = op3.go()
    for k in range(30):
        op3.tick(command(HOME + 0.4 * np.sin(k / 6)))
    hardware.estop(1, "the yellow one")
    op3.tick(None)
    assert all(op3.torque())
    hardware.estop(0, "the red one")
    assert not any(op3.torque())
    hardware.estop(1, "too late")
    assert (hardware.lifecycle, hardware.reason) == (Lifecycle.ESTOPPED, "the red one")


def test_a_byte_on_a_socket_stops_a_running_policy(
    op3: WiredOp3, small_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """As from another program on the same computer."""
    door = str(tmp_path / "stop")
    noticed = threading.Event()

    class Telling(EStop):
        def trip(self, category: int, reason: str) -> None:
            super().trip(category, reason)
            noticed.set()

    def push(_: EStop) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(door)
            client.sendall(b"!")
            assert noticed.wait(30)  # emulated time stands still meanwhile

    estop = Telling()
    with SocketStop(estop, door):
        run = Tripping(op3, small_bundle("stand"), push, estop)
        report = run.run()
    assert (report.lifecycle, report.reason) == ("estopped", "a byte on the stop socket")
    assert report.active_ticks == TRIP_AT
    assert not any(op3.torque())
