"""Robots for tests: one per file in robots/humanoids/, and a hinge with any joint's motor."""

from __future__ import annotations

import pytest

from cadenza.robots import humanoid_names, load_humanoid
from cadenza.robots.description import LeggedRobot
from cadenza.robots.menagerie import is_fetched


def fetched(name: str) -> LeggedRobot:
    robot = load_humanoid(name)
    if not is_fetched(robot.menagerie):
        pytest.skip(f"{robot.menagerie} is not on this computer: make robots")
    return robot


@pytest.fixture(params=humanoid_names())
def robot(request: pytest.FixtureRequest) -> LeggedRobot:
    return fetched(request.param)


@pytest.fixture
def op3() -> LeggedRobot:
    return fetched("op3")
