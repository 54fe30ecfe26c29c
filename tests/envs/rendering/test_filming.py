from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.filming import (
    HOLD_S,
    FilmInterruptedError,
    Panel,
    action_strength,
    default_fps,
    film,
    film_side_by_side,
    frames_due,
    step_rate_hz,
)
from cadenza.envs.rendering.video import read_frames, video_info

SMALL: dict[str, Any] = {"width": 96, "height": 80}


class Counter(gym.Env):
    """Ends after ``length`` steps with a reward of 2 each; its picture's grey is the step, ten a step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1000, 1000, (1,))
    action_space = gym.spaces.Box(-0.4, 0.4, (2,), np.float32)
    render_mode = "rgb_array"

    def __init__(self, length: int):
        self.length = length
        self.steps = 0
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full(1, self.steps, np.float32), 2.0, self.steps >= self.length, False, {}

    def render(self) -> Any:
        return np.full((80, 96, 3), 10 * self.steps, np.uint8)


def still(observation: Any) -> Any:
    return np.zeros(2, np.float32)


@pytest.fixture
def humanoid() -> Iterator[Any]:
    env = gym.make("Humanoid-v5")
    yield env
    env.close()


def test_a_film_plays_in_real_time() -> None:
    assert default_fps(1 / 0.015) == pytest.approx(1 / 0.030)
    assert default_fps(60.0) == 60.0
    assert default_fps(50.0) == 50.0
    assert default_fps(500.0) == pytest.approx(500 / 9)
    assert [frames_due(step, 50.0, 50.0) for step in range(4)] == [1, 2, 3, 4]
    assert [frames_due(step, 60.0, 30.0) for step in range(5)] == [1, 1, 2, 2, 3]
    assert frames_due(500, 50.0, 24.0) == 241  # ten seconds


def test_the_rate_comes_from_dt_or_the_metadata(humanoid: Any) -> None:
    assert step_rate_hz(humanoid) == pytest.approx(1 / 0.015)
    assert step_rate_hz(Counter(1)) == 20.0


def test_action_strength_is_a_share_of_the_bound() -> None:
    space = gym.spaces.Box(-0.4, 0.4, (2,), np.float32)
    assert action_strength(np.array([0.2, -0.4]), space) == pytest.approx(0.75)
    assert action_strength(np.array([4.0, 4.0]), space) == 1.0
    assert action_strength(1, gym.spaces.Discrete(3)) == 0.0


def test_episodes_seeds_and_progress(tmp_path: Path) -> None:
    env = Counter(4)
    told: list[tuple[int, int]] = []
    result = film(
        env,
        still,
        tmp_path / "film.mp4",
        seed=7,
        episodes=2,
        max_steps=10,
        progress=lambda step, total: told.append((step, total)),
        **SMALL,
    )
    assert env.seeds[-2:] == [7, 8]
    assert (result.returns, result.lengths, result.interrupted) == ([8.0, 8.0], [4, 4], False)
    assert told == [(1, 20), (2, 20), (3, 20), (4, 20), (11, 20), (12, 20), (13, 20), (14, 20)]
    assert result.frames == 2 * (1 + 4 + round(20 * HOLD_S)) == len(read_frames(result.path))
    assert video_info(result.path)["fps"] == 20.0


def test_without_overlays_the_picture_is_the_environments(tmp_path: Path) -> None:
    result = film(Counter(9), still, tmp_path / "film.mp4", seed=1, max_steps=5, overlays=False, **SMALL)
    assert result.lengths == [5]
    frames = read_frames(result.path)
    np.testing.assert_allclose(frames[:6].mean(axis=(1, 2, 3)), [0, 10, 20, 30, 40, 50], atol=4)


def test_the_strip_stays_within_the_size(tmp_path: Path) -> None:
    result = film(Counter(3), still, tmp_path / "film.mp4", seed=1, strip=True, width=160, height=120)
    assert video_info(result.path)["size"] == (160, 120)


def test_panels_start_alike_and_wait_for_each_other(tmp_path: Path) -> None:
    short, long = Counter(3), Counter(12)
    result = film_side_by_side(
        [Panel("before", short, still), Panel("after", long, still)],
        tmp_path / "film.mp4",
        seed=5,
        overlays=False,
        **SMALL,
    )
    assert short.seeds[-1] == long.seeds[-1] == 5
    assert (result.returns, result.lengths) == ([6.0, 24.0], [3, 12])
    frames = read_frames(result.path)
    assert frames.shape[1:] == (80, 2 * 96 + 2, 3)
    assert len(frames) == 1 + 12 + round(20 * HOLD_S)
    left, right = frames[:, 40:, :90].mean(axis=(1, 2, 3)), frames[:, 40:, 102:].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(left[:3], [0, 10, 20], atol=4)
    assert left[3:13].max() < 25  # the fourth picture, 30, dimmed, and frozen since
    np.testing.assert_allclose(right[3:12], np.arange(30, 120, 10), atol=4)
    assert frames[11, :40, :90].max() > 180  # "fell at step 3"


def test_notes_stand_in_a_line_below_the_title_of_their_panel(tmp_path: Path) -> None:
    panels = [Panel("a", Counter(12), still, {"mean": "123"}), Panel("a", Counter(12), still)]
    frames = read_frames(film_side_by_side(panels, tmp_path / "film.mp4", seed=1, **SMALL).path).astype(int)
    noted, plain = frames[11, 27:40, :90], frames[11, 27:40, 102:188]  # below the title's band; the picture is grey 110
    assert plain.min() > 90
    assert noted.min() < 70  # the line's backing
    assert noted.max() > 180  # its letters


def test_panels_need_environments_of_their_own(tmp_path: Path) -> None:
    env = Counter(3)
    with pytest.raises(ValueError, match="of its own"):
        film_side_by_side([Panel("a", env, still), Panel("b", env, still)], tmp_path / "film.mp4", seed=1)


def test_ctrl_c_leaves_a_playable_film(tmp_path: Path) -> None:
    def stopping(observation: Any) -> Any:
        if observation[0] == 5:
            raise KeyboardInterrupt
        return still(observation)

    with pytest.raises(FilmInterruptedError) as caught:
        film(Counter(50), stopping, tmp_path / "film.mp4", seed=1, **SMALL)
    result = caught.value.result
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (result.interrupted, result.lengths, result.returns) == (True, [5], [10.0])
    assert len(read_frames(result.path)) == result.frames == 6


def test_an_unwritable_place_is_told_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = Counter(3)
    with pytest.raises(CadenzaError, match="Cannot write"):
        film(env, still, tmp_path / "file" / "film.mp4", seed=1)
    assert env.steps == 0


@pytest.mark.usefixtures("needs_gl")
def test_filming_the_humanoid(humanoid: Any, tmp_path: Path) -> None:
    def act(observation: Any) -> Any:
        return np.full(17, 0.1, np.float32)

    other = gym.make("Humanoid-v5")
    panels = [Panel("one", humanoid, act), Panel("two", other, act)]
    result = film_side_by_side(panels, tmp_path / "film.mp4", seed=3, max_steps=12, width=160, height=160)
    other.close()
    assert result.lengths == [12, 12]
    assert result.returns[0] == result.returns[1]  # the same policy from the same seed
    frames = read_frames(result.path)
    difference = np.abs(frames[-1, 30:120, :160].astype(int) - frames[-1, 30:120, 162:])
    assert difference.mean() < 4  # the coding's noise
    assert np.abs(frames[6, 30:120].astype(int) - frames[0, 30:120]).max() > 60  # it moves
    assert video_info(result.path)["fps"] == pytest.approx(33.33, abs=0.01)
