"""Promise 10: from any pose, start-up steps no farther than slew allows, with gains that rise from nothing; from a
pose beyond a limit it refuses, and says where.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from wire_reader import GOAL_POSITION, TICK_RAD, TORQUE_ENABLE, check_goals, of_register, written
from wired import HOME, KP, ROBOT, SharedOp3, WiredOp3

from cadenza.robots.hardware.errors import RefusedError
from cadenza.robots.hardware.lifecycle import Lifecycle
from cadenza.robots.hardware.types import Array

LIMITS = np.array([row.limits_rad for row in ROBOT.joints])
P_GAIN = 84
FULL_GAIN = round(KP[0] / (4.1 * 4096 / (128 * 2 * math.pi * 885)))
BEYOND = math.radians(2.0)


def pose(number: int) -> tuple[Array, list[str]]:
    """A random pose and the joints that lie beyond their limits; every third has some."""
    draw = np.random.default_rng(1000 + number)
    share = draw.uniform(0.02, 0.98, len(HOME))
    q = LIMITS[:, 0] + share * (LIMITS[:, 1] - LIMITS[:, 0])
    outside = []
    if number % 3 == 2:
        for row in draw.choice(len(HOME), size=draw.integers(1, 4), replace=False).tolist():
            if math.pi - np.abs(LIMITS[row]).max() < 2 * BEYOND:
                continue  # an encoder of one turn wraps there
            side = draw.integers(2)
            q[row] = LIMITS[row, side] + (BEYOND if side else -BEYOND) * draw.uniform(1.0, 2.0)
            outside.append(ROBOT.joint_names[row])
    return q, outside


@pytest.mark.parametrize("number", [*range(8), *(pytest.param(n, marks=pytest.mark.slow) for n in range(8, 50))])
def test_a_start_from_a_random_pose(op3: WiredOp3, number: int) -> None:
    q, outside = pose(number)
    hardware = op3.set_up(homing_s=0.8)
    op3.turn_to(q)
    mark = op3.mark()
    if outside:
        with pytest.raises(RefusedError) as caught:
            hardware.start_up()
        for name in outside:
            assert name in str(caught.value)
        assert hardware.lifecycle == Lifecycle.INACTIVE
        asked = written(op3.control.log(mark))
        assert of_register(asked, TORQUE_ENABLE, 1) == []
        assert of_register(asked, GOAL_POSITION, 4) == []
        assert not any(op3.torque())
        return
    hardware.start_up()
    first = {number: value for _, number, value in of_register(written(op3.control.log(mark)), GOAL_POSITION, 4)}
    for row, angle in zip(ROBOT.joints, q.tolist(), strict=True):
        assert abs(first[row.bus_id] - 2048 - angle / TICK_RAD) <= 1.0, "torque goes on at the measured pose"
    before = op3.angles()
    ticks, largest = 0, np.zeros(len(HOME))
    while not hardware.homed:
        op3.tick(None)
        now = op3.angles()
        largest, before = np.maximum(largest, np.abs(now - before)), now
        ticks += 1
        assert hardware.lifecycle == Lifecycle.HOMING, hardware.reason
        assert ticks < 400
    slew = hardware.limits.slew_rad_s * 0.02
    no_load = 46 * 2 * math.pi / 60 * 0.02
    assert (largest <= np.maximum(slew, no_load) + 2 * TICK_RAD).all()
    for row in ROBOT.joints:
        gains = [v for _, n, v in of_register(written(op3.control.log(mark)), P_GAIN, 2) if n == row.bus_id]
        # That of the table is written before torque, then they rise from nothing to it.
        rising = gains[gains.index(min(gains)) :]
        assert rising[0] <= 0.1 * FULL_GAIN
        assert rising == sorted(rising)
        assert rising[-1] == FULL_GAIN
    traffic = check_goals(op3.control.log(mark), ROBOT)
    assert traffic.switched_on == len(HOME)
    assert traffic.goals >= len(HOME) * ticks
    for _ in range(60):
        op3.tick(None)
    np.testing.assert_allclose(op3.angles(), HOME, atol=0.2)


def test_half_of_the_long_forms_poses_are_told_apart() -> None:
    """The poses themselves: enough of each kind, and those beyond a limit are."""
    kinds = [bool(pose(number)[1]) for number in range(50)]
    assert 10 <= sum(kinds) <= 20
    for number in range(50):
        q, outside = pose(number)
        beyond = (q < LIMITS[:, 0]) | (q > LIMITS[:, 1])
        assert [name for name, out in zip(ROBOT.joint_names, beyond, strict=True) if out] == sorted(
            outside, key=ROBOT.joint_names.index
        )


def test_a_blocked_joint_is_not_released(shared_op3: SharedOp3, op3: WiredOp3) -> None:
    """Its encoder stands still far from home: at the end of the way an operator's word is refused, by name."""
    hardware = op3.set_up()
    q = HOME.copy()
    q[18] = 0.8
    op3.turn_to(q)
    op3.fault("stuck_encoder", "head_pan")
    op3.advance(0.004)
    hardware.start_up()
    for _ in range(40):
        if hardware.homed:
            break
        op3.tick(None)
    if hardware.lifecycle == Lifecycle.HOMING:
        with pytest.raises(RefusedError, match="head_pan"):
            hardware.release()
    else:
        assert "head_pan" in hardware.reason
    shared_op3.emulator.control.clear_faults()  # type: ignore[union-attr]
