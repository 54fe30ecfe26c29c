"""Legged tasks for tests: without the meshes that only show, and skipped where the robot's model is not here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cadenza.envs.legged.physics import BatchPhysics, SinglePhysics
from cadenza.envs.legged.signals import Signals
from cadenza.envs.legged.task import LeggedTask, configured
from cadenza.envs.legged.tasks import task_class
from cadenza.robots import load_humanoid
from cadenza.robots.menagerie import is_fetched

MakeTask = Callable[..., LeggedTask]


@pytest.fixture(autouse=True)
def _models_are_here(request: pytest.FixtureRequest) -> None:
    wanted = request.getfixturevalue("robot_name") if "robot_name" in request.fixturenames else "op3"
    menagerie = load_humanoid(wanted).menagerie
    if not is_fetched(menagerie):
        pytest.skip(f"{menagerie} is not on this computer: make robots")


@pytest.fixture
def make_task() -> MakeTask:
    """``make_task("walk", n=1, robot="op3", **settings)``: the task itself; several copies are stepped as a batch."""

    def make(task: str = "walk", n: int = 1, robot: str = "op3", **settings: Any) -> LeggedTask:
        kind, description = task_class(task), load_humanoid(robot)
        config = configured(kind, description, {"visuals": False, **settings})
        made = kind(description, config, n, SinglePhysics if n == 1 else lambda model: BatchPhysics(model, n, 1))
        for index in range(n):
            made.seed(index, index)
        return made

    return make


@pytest.fixture
def make_signals() -> Callable[..., Signals]:
    """Two copies of a robot of three joints that stands still at home, but for what is given by name."""

    def make(**given: Any) -> Signals:
        n, joints = 2, 3
        zeros = {
            "joint_angle": (n, joints), "joint_velocity": (n, joints), "gyro": (n, 3), "gravity": (n, 3),
            "command": (n, 3), "action": (n, joints), "last_action": (n, joints), "action_before_last": (n, joints),
            "phase": (n,), "angle": (n, joints), "velocity": (n, joints), "home": (joints,), "torque": (n, joints),
            "tilt_gravity": (n, 3), "base_velocity": (n, 3), "base_rotation": (n, 3), "foot_height": (n, 2),
            "feet_ahead": (n, 2), "home_feet_ahead": (2,),
            "foot_velocity": (n, 2, 3), "foot_force": (n, 2), "push_soon": (n, 1),
        }  # fmt: skip
        values: dict[str, Any] = {name: np.zeros(shape) for name, shape in zeros.items()}
        values |= {
            "torque_limit": np.ones(joints), "limits": np.tile([-1.0, 1.0], (joints, 1)), "up": np.ones(n),
            "height": np.full(n, 0.3), "home_height": 0.3, "foot_contact": np.ones((n, 2)), "weight_n": 30.0,
            "friction": np.full((n, 1), 0.8), "moves": np.ones(n),
        }  # fmt: skip
        return Signals(**{**values, **{name: np.asarray(value, dtype=float) for name, value in given.items()}})

    return make
