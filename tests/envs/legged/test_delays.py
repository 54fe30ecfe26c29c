"""Delays act after exactly as many physics steps as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.task import LeggedTask

FIRST = np.zeros(1, dtype=np.intp)
MakeTask = Callable[..., LeggedTask]


@pytest.mark.parametrize("delay", [0, 1, 4, 5, 7, 10])
def test_a_command_reaches_its_motor_late(delay: int, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(conditions={"command_delay": delay})
    task.reset(FIRST)
    at_start = task.physics.ctrl[0].copy()
    seen, stepped = [], task.physics.step

    def step(count: int) -> None:
        for _ in range(count):
            seen.append(task.physics.ctrl[0].copy())
            stepped(1)

    monkeypatch.setattr(task.physics, "step", step)
    targets = []
    for action in np.random.default_rng(0).uniform(-1, 1, (6, 20)):
        wanted = task.home + task.action_scale * action
        targets.append(np.clip(wanted, task.limits[:, 0], task.limits[:, 1]))
        task.step(action[None])
    assert len(seen) == 6 * task.substeps
    for index, ctrl in enumerate(seen):
        expected = at_start if index < delay else targets[(index - delay) // task.substeps]
        np.testing.assert_array_equal(ctrl, expected, err_msg=f"physics step {index}")


@pytest.mark.parametrize("delay", [0, 1, 2, 6])
def test_a_sensor_reaches_the_policy_late(delay: int, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(conditions={"observation_delay": delay})
    task.reset(FIRST)
    truth, stepped = [task._sensed(FIRST)], task.physics.step

    def step(count: int) -> None:
        for _ in range(count):
            stepped(1)
            truth.append(task._sensed(FIRST))

    monkeypatch.setattr(task.physics, "step", step)
    for action in np.random.default_rng(0).uniform(-1, 1, (6, 20)):
        task.step(action[None])
        expected = task.conditioner.measure(truth[max(len(truth) - 1 - delay, 0)], FIRST)
        s = task.last_signals
        np.testing.assert_array_equal(s.joint_angle, expected.angle)
        np.testing.assert_array_equal(s.joint_velocity, expected.velocity)
        np.testing.assert_array_equal(s.gyro, expected.gyro)
        np.testing.assert_array_equal(s.gravity, expected.gravity)
        np.testing.assert_array_equal(s.angle, truth[-1][:, :20])


def test_each_copy_has_its_own(make_task: MakeTask) -> None:
    task = make_task(n=64, conditions={"command_delay": (0, 4)})
    task.reset(np.arange(64))
    assert set(task.delays.command.tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("value", [-1, 1000])
def test_impossible_delays_are_refused(value: int, make_task: MakeTask) -> None:
    with pytest.raises(CadenzaError, match="cannot be simulated"):
        make_task(conditions={"command_delay": value})
