from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.camera import Camera, camera_names, robot_root


@pytest.fixture
def humanoid() -> Iterator[Any]:
    env = gym.make("Humanoid-v5")
    env.reset(seed=1)
    yield env
    env.close()


class Flat(gym.Env):
    """An environment without MuJoCo, with a picture of 20x40."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode: str | None = "rgb_array"):
        self.render_mode = render_mode

    def render(self) -> Any:
        return np.full((20, 40, 3), 77, np.uint8)


def robot_pixels(env: Any, **settings: Any) -> np.ndarray:
    """Where the orange humanoid is: a mask of the picture."""
    with Camera(env, **settings) as camera:
        picture = camera.frame().astype(int)
    return picture[..., 0] - picture[..., 2] > 40


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("quality", ["fast", "nice"])
def test_a_frame_has_the_size_asked_for(humanoid: Any, quality: Any) -> None:
    with Camera(humanoid, width=96, height=64, quality=quality) as camera:
        picture = camera.frame()
    assert picture.shape == (64, 96, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("size", [(160, 160), (200, 120), (90, 160)])
def test_the_whole_humanoid_is_visible(humanoid: Any, size: tuple[int, int]) -> None:
    width, height = size
    mask = robot_pixels(humanoid, width=width, height=height)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert rows[0] > 2
    assert rows[-1] < height - 3
    assert columns[0] > 2
    assert columns[-1] < width - 3
    assert len(rows) > 0.35 * min(width, height)  # and it is not a dot


@pytest.mark.usefixtures("needs_gl")
def test_the_camera_follows(humanoid: Any) -> None:
    inner = humanoid.unwrapped
    with Camera(humanoid, width=96, height=96) as camera:
        before = camera.frame().astype(int)
        inner.data.qpos[0] += 20.0
        mujoco.mj_forward(inner.model, inner.data)
        camera.cut()
        after = camera.frame().astype(int)
    there = [picture[..., 0] - picture[..., 2] > 40 for picture in (before, after)]
    assert there[0].sum() == pytest.approx(there[1].sum(), rel=0.1)


@pytest.mark.usefixtures("needs_gl")
def test_filming_changes_neither_physics_nor_the_model() -> None:
    states = []
    for films in (False, True):
        env: Any = gym.make("Humanoid-v5")
        env.reset(seed=3)
        settings = env.unwrapped.model.vis
        before = (settings.global_.offwidth, settings.quality.offsamples, settings.quality.shadowsize)
        camera = Camera(env, width=1000, height=32) if films else None
        for step in range(10):
            env.step(np.full(17, 0.03 * step))
            if camera is not None:
                camera.frame()
        assert before == (settings.global_.offwidth, settings.quality.offsamples, settings.quality.shadowsize)
        states.append(env.unwrapped.data.qpos.copy())
        if camera is not None:
            camera.close()
        env.close()
    np.testing.assert_array_equal(*states)


@pytest.mark.usefixtures("needs_gl")
def test_larger_than_the_models_own_limit(humanoid: Any) -> None:
    limit = humanoid.unwrapped.model.vis.global_.offwidth
    with Camera(humanoid, width=limit + 64, height=32) as camera:
        assert camera.frame().shape == (32, limit + 64, 3)


@pytest.mark.usefixtures("needs_gl")
def test_named_cameras(humanoid: Any) -> None:
    assert camera_names(humanoid.unwrapped.model) == ["track", "1"]
    with Camera(humanoid, width=64, height=64, camera="track") as named:
        first = named.frame()
    with Camera(humanoid, width=64, height=64, camera=0) as counted:
        np.testing.assert_array_equal(first, counted.frame())


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("camera", ["trakc", 2, -1])
def test_an_unknown_camera_names_those_there_are(humanoid: Any, camera: str | int) -> None:
    with pytest.raises(CadenzaError, match="no camera") as caught:
        Camera(humanoid, camera=camera)
    assert "track" in caught.value.advice


@pytest.mark.usefixtures("needs_gl")
def test_closing_twice_and_working_again(humanoid: Any) -> None:
    camera = Camera(humanoid, width=32, height=32)
    camera.close()
    camera.close()
    assert camera.frame().shape == (32, 32, 3)
    camera.close()


def test_the_robot_is_what_has_motors() -> None:
    """Not the loose box, though only the box has a free joint."""
    model = mujoco.MjModel.from_xml_string("""<mujoco><worldbody>
        <body name="box"><freejoint/><geom size=".1"/></body>
        <body name="arm"><geom size=".1"/><body><joint name="elbow"/><geom size=".1"/></body></body>
        </worldbody><actuator><motor joint="elbow"/></actuator></mujoco>""")
    assert model.body(robot_root(model)).name == "arm"


def test_without_motors_the_one_that_moves_most() -> None:
    model = mujoco.MjModel.from_xml_string("""<mujoco><worldbody>
        <body name="wall"><geom size=".1"/></body><body name="ball"><freejoint/><geom size=".1"/></body>
        </worldbody></mujoco>""")
    assert model.body(robot_root(model)).name == "ball"


def test_other_environments_are_resized() -> None:
    with Camera(Flat(), width=30, height=50) as camera:
        picture = camera.frame()
    assert picture.shape == (50, 30, 3)
    assert (picture == 77).all()


def test_an_environment_without_pictures_is_refused() -> None:
    with pytest.raises(CadenzaError, match="no pictures") as caught:
        Camera(Flat(render_mode=None))
    assert "rgb_array" in caught.value.advice


def test_an_unknown_quality_is_refused() -> None:
    with pytest.raises(CadenzaError, match="quality 'best'"):
        Camera(Flat(), quality=cast("Any", "best"))
