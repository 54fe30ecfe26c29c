"""Ground: heights by formula and by MuJoCo; robots start on it, not in it."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from cadenza.envs.legged.ground import CELLS, GRADE, make_ground
from cadenza.envs.legged.task import LeggedTask

MakeTask = Callable[..., LeggedTask]


@pytest.mark.parametrize("terrain", ["flat", "rough", "slopes"])
def test_heights_are_those_of_the_compiled_field(terrain: str, make_task: MakeTask) -> None:
    task = make_task(terrain=terrain)
    data = mujoco.MjData(task.model)
    data.qpos[:] = task.home_qpos
    data.qpos[:2] = 1e3  # out of the way
    mujoco.mj_forward(task.model, data)
    reach = 0.95 * task.ground.half_width_m
    points = np.random.default_rng(0).uniform(-reach, reach, (400, 2))
    expected = task.ground.height(points)
    found, geom = np.empty(400), np.zeros(1, np.int32)
    for row, (x, y) in enumerate(points):
        far = mujoco.mj_ray(task.model, data, np.array([x, y, 5.0]), np.array([0.0, 0.0, -1.0]), None, 1, -1, geom)
        assert task.model.geom(geom[0]).name == "floor"
        found[row] = 5.0 - far
    error = np.abs(found - expected)
    # MuJoCo parts a cell into two triangles, we bend it: at most a quarter of its twist apart.
    assert error.max() < 0.004, error.max()
    assert np.ptp(expected) > 0.005 or terrain == "flat"


def test_what_the_terrains_promise() -> None:
    rough, slopes = make_ground("rough", 0.25), make_ground("slopes", 0.25)
    assert rough.heights is not None
    assert slopes.heights is not None
    assert rough.heights.min() >= 0.0
    assert rough.heights.max() <= 0.04 * 0.25
    cell = 2 * slopes.half_width_m / (CELLS - 1)
    grade = np.hypot(*np.gradient(slopes.heights, cell))
    assert 0.8 * GRADE < np.quantile(grade, 0.999) < 1.3 * GRADE
    for ground in (rough, slopes):
        assert ground.height(np.zeros((1, 2)))[0] == 0.0
    assert not np.array_equal(rough.heights, make_ground("rough", 0.25, seed=1).heights)
    with pytest.raises(ValueError, match="no terrain named 'lava'"):
        make_ground("lava", 0.25)  # type: ignore[arg-type]


def test_beyond_the_edge_it_goes_on_level() -> None:
    ground = make_ground("slopes", 0.25)
    edge = ground.half_width_m
    inside, outside = ground.height(np.array([[edge, 1.0], [edge + 5.0, 1.0]]))
    assert outside == inside


@pytest.mark.parametrize("terrain", ["rough", "slopes"])
def test_robots_start_on_it(terrain: str, make_task: MakeTask) -> None:
    task = make_task(n=32, terrain=terrain)
    task.reset(np.arange(32))
    signals = task._signals(np.arange(32))
    low = signals.foot_height.min()
    assert low > -0.02 * task.home_height - 0.04 * task.home_height
    highest = 0.0
    for _ in range(25):
        task.step(np.zeros((32, 20)))
        highest = max(highest, np.abs(task.physics.qvel[:, :3]).max())
    assert np.isfinite(task.physics.qpos).all()
    assert highest < 2.0, "a robot that starts in the ground is thrown out of it"
    assert (task.last_signals.foot_height.min(axis=1) < 0.1).all()
