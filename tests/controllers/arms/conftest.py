"""Arms in simulation for the tests of their controllers, and the paths that they follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from cadenza.robots import arm_names, load_arm
from cadenza.robots.arm_description import ArmRobot
from cadenza.robots.arm_pose import ArmIndex, arm_index, put_at_home, tcp_pose
from cadenza.robots.menagerie import is_fetched

Array = NDArray[np.float64]


def fetched(name: str) -> ArmRobot:
    arm = load_arm(name)
    for model in arm.models:
        if not is_fetched(model):
            pytest.skip(f"{model} is not on this computer: make robots")
    return arm


@dataclass
class Simulated:
    """An arm at home, in a world of its own where nothing touches."""

    arm: ArmRobot
    model: mujoco.MjModel
    data: mujoco.MjData
    at: ArmIndex

    @property
    def angles(self) -> Array:
        return self.data.qpos[self.at.qpos].copy()

    @property
    def velocities(self) -> Array:
        return self.data.qvel[self.at.dof].copy()

    @property
    def weight(self) -> Array:
        """What the controller has to carry: nothing where the maker's does."""
        return np.zeros(len(self.at.dof)) if self.arm.compensates_gravity else self.data.qfrc_bias[self.at.dof].copy()

    def pose(self) -> tuple[Array, Array]:
        mujoco.mj_kinematics(self.model, self.data)
        return tcp_pose(self.data, self.at)

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
            each()


def simulated(arm: ArmRobot, **options: object) -> Simulated:
    model = arm.build_spec(visuals=False, **{"contacts": "none", **options}).compile()
    data = mujoco.MjData(model)
    index = arm_index(model, arm)
    put_at_home(model, data, arm, index)
    return Simulated(arm, model, data, index)


@pytest.fixture
def simulate() -> Callable[..., Simulated]:
    return simulated


@pytest.fixture(params=arm_names())
def arm(request: pytest.FixtureRequest) -> ArmRobot:
    return fetched(request.param)


@pytest.fixture(params=["panda", "ur5e"])
def full_arm(request: pytest.FixtureRequest) -> ArmRobot:
    """One that can take any pose."""
    return fetched(request.param)


@pytest.fixture
def panda() -> ArmRobot:
    return fetched("panda")


@pytest.fixture
def so101() -> ArmRobot:
    return fetched("so101")


@pytest.fixture
def circle() -> Callable[[float, Array, float], tuple[Array, Array]]:
    """Position and twist on an upright circle of that radius, four seconds round, that starts at ``start``."""

    def at(time_s: float, start: Array, radius: float = 0.05) -> tuple[Array, Array]:
        omega = 2 * np.pi / 4
        sine, cosine = np.sin(omega * time_s), np.cos(omega * time_s)
        position = start + radius * np.array([0.0, sine, 1.0 - cosine])
        return position, radius * omega * np.array([0.0, cosine, sine, 0.0, 0.0, 0.0])

    return at


# Beyond reach: before, beside, above; behind the arm; inside its own base. In reaches of the arm.
FAR = {
    "before": (1.7, 0.0, 0.4),
    "beside": (0.3, 0.9, 1.4),
    "above": (0.0, 0.0, 1.7),
    "behind": (-0.5, 0.1, 0.3),
    "inside": (0.05, 0.0, 0.2),
}


@pytest.fixture(params=FAR)
def far(request: pytest.FixtureRequest) -> Array:
    return np.array(FAR[request.param])
