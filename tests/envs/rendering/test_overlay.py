from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cadenza.envs.rendering import overlay
from cadenza.envs.rendering.overlay import (
    draw_ending,
    draw_panel,
    frame_strip,
    reward_strip,
    shortened,
    side_by_side,
    strength_colour,
    text_width,
)

SIZES = [(480, 480), (320, 240), (160, 120)]


def plain(width: int = 480, height: int = 480, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def panel(frame: np.ndarray, **changes: Any) -> np.ndarray:
    values: dict[str, Any] = {"title": "Humanoid", "step": 120, "episode_return": 512.3, "action_strength": 0.5}
    return draw_panel(frame, **(values | changes))


@pytest.fixture(params=["outline", "stroke"])
def either_font(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The font of OpenCV 5 and, what OpenCV 4 has, the old one."""
    if request.param == "stroke":
        monkeypatch.setattr(overlay, "_font", lambda: None)


@pytest.mark.usefixtures("either_font")
@pytest.mark.parametrize("size", SIZES)
def test_the_panel_leaves_the_middle_alone(size: tuple[int, int]) -> None:
    frame = plain(*size)
    drawn = panel(frame)
    height = size[1]
    assert (frame == 128).all()
    np.testing.assert_array_equal(drawn[height // 4 : height * 3 // 4], frame[height // 4 : height * 3 // 4])
    for band in (drawn[: height // 8], drawn[-height // 8 :]):
        assert band.max() > 200  # white letters
        assert band.min() < 80  # on a dark ground


def coloured(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=2) < 30).sum())


def test_the_bar_grows_and_turns_from_green_to_red() -> None:
    assert strength_colour(0.0) == overlay.GREEN
    assert strength_colour(0.5) == overlay.YELLOW
    assert strength_colour(1.0) == strength_colour(7.0) == overlay.RED
    lengths = [coloured(panel(plain(), action_strength=share), strength_colour(share)) for share in (0.25, 0.5, 1.0)]
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.15)
    assert lengths[2] == pytest.approx(2 * lengths[1], rel=0.15)
    assert coloured(panel(plain(), action_strength=0.0), overlay.GREEN) == 0


def test_step_return_and_title_change_the_picture() -> None:
    before = panel(plain())
    for changes in ({"title": "Ant"}, {"step": 121}, {"episode_return": 513.4}, {"extra": {"speed": "1.2 m/s"}}):
        assert (panel(plain(), **changes) != before).any(), changes


@pytest.mark.usefixtures("either_font")
def test_long_titles_are_cut() -> None:
    title = "a policy with a name that goes on and on and on and on"
    cut = shortened(title, 17, 200)
    assert cut.endswith("...")
    assert text_width(cut, 17) <= 200
    assert shortened("short", 17, 200) == "short"
    assert shortened("short", 17, 1) == ""
    panel(plain(160, 120), title=title)


@pytest.mark.usefixtures("either_font")
def test_an_ending_is_dim_and_legible() -> None:
    drawn = draw_ending(plain(), "fell at step 21")
    assert drawn[240:].max() < 100
    assert drawn[:240].max() > 230
    assert drawn.shape == (480, 480, 3)


@pytest.mark.usefixtures("either_font")
def test_the_curve_is_high_where_the_reward_is() -> None:
    values = np.array([0.0] * 50 + [4.0] * 50 + [np.nan] * 100)
    drawn = reward_strip(400, 60, values, 99)
    assert drawn.shape == (60, 400, 3)
    line = np.abs(drawn.astype(int) - overlay.ACCENT).max(axis=2) < 40
    rows, columns = np.nonzero(line)
    end = columns.max()
    assert rows[columns < 0.45 * end].mean() > 45
    assert rows[(columns > 0.6 * end)].mean() < 15
    assert end < 0.5 * 400  # steps to come are left empty


def test_a_curve_without_values_is_empty() -> None:
    assert (reward_strip(100, 40, [], 0) == overlay.DARK).all()
    assert (reward_strip(100, 40, [float("nan")], 0) == overlay.DARK).all()
    assert reward_strip(100, 40, [2.0], 0).max() == 255


def test_side_by_side_has_a_thin_line() -> None:
    drawn = side_by_side([plain(20, 10, 50), plain(30, 10, 200)], separator_px=2)
    assert drawn.shape == (10, 52, 3)
    assert (drawn[:, :20] == 50).all()
    assert (drawn[:, 20:22] == overlay.DARK).all()
    assert (drawn[:, 22:] == 200).all()


def test_a_strip_for_a_page() -> None:
    drawn = frame_strip([plain(100, 80, 10), plain(100, 80, 60)], ["step 0", "step 100"])
    assert (drawn[:80, :100] == 10).all()
    assert (drawn[:80, -100:] == 60).all()
    assert drawn[80:].min() < 80  # dark letters below, on white
    with pytest.raises(ValueError, match="one label"):
        frame_strip([plain()], [])
