"""Words, bars and curves on frames, drawn with OpenCV. Every function takes RGB and returns a new image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
GREY: Colour = (190, 196, 206)
DARK: Colour = (18, 21, 28)
TRACK: Colour = (62, 68, 80)
ACCENT: Colour = (94, 177, 255)
GREEN: Colour = (72, 201, 116)
YELLOW: Colour = (245, 196, 66)
RED: Colour = (239, 83, 80)

BACKING_OPACITY = 0.62
DIMMED = 0.62
MIN_TEXT_PX = 12
REGULAR, BOLD = 400, 700


def text_px(frame_height: int, frame_width: int) -> int:
    """Letter height that stays legible on a small frame and modest on a large one."""
    return max(MIN_TEXT_PX, round(0.036 * min(frame_height, frame_width)))


@cache
def _font() -> Any:
    """OpenCV 5 brings an outline font; OpenCV 4 has its stroke font only."""
    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


def _hershey(size: int, weight: int) -> tuple[int, float, int]:
    return cv2.FONT_HERSHEY_SIMPLEX, size / 29, 2 if weight >= BOLD and size >= 16 else 1


def text_width(text: str, size: int, weight: int = REGULAR) -> int:
    """Width in pixels of ``text`` in letters of ``size`` pixels."""
    if not text:
        return 0
    if _font() is None:
        return int(cv2.getTextSize(text, *_hershey(size, weight))[0][0])
    return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight)[2])


def _write(image: Image, text: str, x: int, baseline: int, size: int, colour: Colour, weight: int = REGULAR) -> None:
    """Draw into ``image``; ``x`` is the text's left end."""
    if not text:
        return
    if _font() is None:
        face, scale, thickness = _hershey(size, weight)
        cv2.putText(image, text, (x, baseline), face, scale, colour, thickness, cv2.LINE_AA)
    else:
        cv2.putText(image, text, (x, baseline), colour, _font(), size, weight)


def shortened(text: str, size: int, width: int, weight: int = REGULAR) -> str:
    """``text``, its end replaced by dots if it is wider than ``width`` pixels."""
    if text_width(text, size, weight) <= width:
        return text
    while text and text_width(text + "...", size, weight) > width:
        text = text[:-1]
    return text.rstrip() + "..." if text else ""


def _darken(image: Image, top: int, bottom: int, opacity: float = BACKING_OPACITY) -> None:
    rows = image[max(0, top) : bottom]
    rows[:] = (rows * (1 - opacity) + np.array(DARK) * opacity).astype(np.uint8)


def strength_colour(strength: float) -> Colour:
    """Green at 0, yellow at 0.5, red at 1."""
    share = min(max(strength, 0.0), 1.0) * 2
    start, end = (GREEN, YELLOW) if share <= 1 else (YELLOW, RED)
    return _mixed(start, end, share if share <= 1 else share - 1)


def _mixed(start: Colour, end: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _bar(image: Image, left: int, top: int, width: int, height: int, share: float) -> None:
    """A horizontal bar with round ends, filled from the left."""
    radius, middle = height / 2, top + height / 2
    shift = 4  # OpenCV's fixed point: 1/16 pixel, so that the bar moves smoothly

    def pill(length: float, colour: Colour) -> None:
        start = (round((left + radius) * 16), round(middle * 16))
        end = (round((left + max(length - radius, radius)) * 16), round(middle * 16))
        cv2.line(image, start, end, colour, max(1, height), cv2.LINE_AA, shift)

    pill(width, TRACK)
    if share > 0:
        pill(width * min(share, 1.0), strength_colour(share))


def draw_panel(
    frame: Image,
    *,
    title: str,
    step: int,
    episode_return: float,
    action_strength: float,
    extra: Mapping[str, str] | None = None,
) -> Image:
    """A band with title and step above, one with return and action strength below.

    Args:
        frame: RGB, shape (height, width, 3).
        title: cut with dots where it is too long.
        step: steps of the episode so far.
        episode_return: sum of rewards so far.
        action_strength: mean |action| as a share of its bound, in [0, 1].
        extra: more values, one line each under the title.
    """
    image = frame.copy()
    height, width = image.shape[:2]
    size = text_px(height, width)
    pad = round(0.7 * size)
    band = round(2.1 * size)
    base = round((band + 0.72 * size) / 2)

    lines = list((extra or {}).items())
    top = band + (round(1.45 * size) * len(lines) if lines else 0)
    _darken(image, 0, top)
    counter = f"step {step:,}"
    counter_left = width - pad - text_width(counter, size)
    _write(image, counter, counter_left, base, size, GREY)
    _write(image, shortened(title, size, counter_left - 2 * pad, BOLD), pad, base, size, WHITE, BOLD)
    for index, (name, value) in enumerate(lines):
        line = base + round(1.45 * size) * (index + 1)
        _write(image, name, pad, line, size, GREY)
        _write(image, value, pad + text_width(name + "  ", size), line, size, WHITE)

    _darken(image, height - band, height)
    low = height - band + base
    _write(image, "return", pad, low, size, GREY)
    after = pad + text_width("return", size) + size // 2
    _write(image, f"{episode_return:,.0f}", after, low, size, WHITE, BOLD)
    bar_width = round(0.26 * width)
    bar_left = width - pad - bar_width
    bar_height = max(6, round(0.5 * size))
    _bar(image, bar_left, height - band + (band - bar_height) // 2, bar_width, bar_height, action_strength)
    _write(image, "action", bar_left - size // 2 - text_width("action", size), low, size, GREY)
    return image


def draw_ending(frame: Image, text: str) -> Image:
    """The frame dimmed and greyed, with ``text`` in its upper part: an episode that is over."""
    grey = frame.mean(axis=2, keepdims=True)
    image = np.asarray(DIMMED * (0.5 * frame + 0.5 * grey), np.uint8)
    height, width = image.shape[:2]
    size = round(1.35 * text_px(height, width))
    text = shortened(text, size, width - size, BOLD)
    middle = round(0.18 * height)
    _darken(image, middle - round(0.95 * size), middle + round(0.95 * size))
    left = (width - text_width(text, size, BOLD)) // 2
    _write(image, text, left, middle + round(0.36 * size), size, WHITE, BOLD)
    return image


def reward_strip(width: int, height: int, values: Sequence[float] | NDArray[np.floating], cursor: int) -> Image:
    """A small curve of a value over the steps.

    Args:
        width: of the picture, in pixels.
        height: likewise.
        values: one per step, stretched over the width; NaN leaves a gap, for steps to come.
        cursor: index of the value that is marked and written out.
    """
    image = np.full((height, width, 3), DARK, np.uint8)
    series = np.asarray(values, np.float64)
    known = series[np.isfinite(series)]
    size = max(MIN_TEXT_PX, round(0.22 * height))
    text_room = text_width("reward -00.00", size) + size
    left, right, top, bottom = size // 2, max(width - text_room, width // 2), 0.16 * height, 0.84 * height
    if not len(known):
        return image
    low, high = min(0.0, float(known.min())), max(0.0, float(known.max()))
    span = (high - low) or 1.0
    xs = left + (right - left) * np.arange(len(series)) / max(len(series) - 1, 1)
    ys = bottom - (bottom - top) * (series - low) / span
    zero = round(bottom + (bottom - top) * low / span)
    cv2.line(image, (left, zero), (right, zero), TRACK, 1)
    points = np.round(np.stack([xs, ys], axis=1)[np.isfinite(series)] * 16).astype(np.int32)
    ground = np.array([[points[-1, 0], zero * 16], [points[0, 0], zero * 16]], np.int32)
    cv2.fillPoly(image, [np.vstack([points, ground])], _mixed(DARK, ACCENT, 0.3), cv2.LINE_AA, 4)
    cv2.polylines(image, [points], False, ACCENT, max(1, round(height / 40)), cv2.LINE_AA, 4)
    cursor = min(max(cursor, 0), len(series) - 1)
    if np.isfinite(series[cursor]):
        centre = (round(xs[cursor] * 16), round(ys[cursor] * 16))
        cv2.circle(image, centre, round(0.05 * height * 16) + 24, WHITE, -1, cv2.LINE_AA, 4)
        number = f"{series[cursor]:.2f}"
        base = round(height / 2 + 0.36 * size)
        _write(image, "reward", right + size // 2, base, size, GREY)
        _write(image, number, width - size // 2 - text_width(number, size, BOLD), base, size, WHITE, BOLD)
    return image


def side_by_side(frames: Sequence[Image], separator_px: int = 2) -> Image:
    """Frames of one height in a row, with a thin dark line between them."""
    if not frames:
        raise ValueError("no frames to put side by side")
    line = np.full((frames[0].shape[0], separator_px, 3), DARK, np.uint8)
    parts: list[Image] = []
    for frame in frames:
        parts += [line, frame] if parts else [frame]
    return np.concatenate(parts, axis=1)


def in_a_grid(frames: Sequence[Image], columns: int, separator_px: int = 2) -> Image:
    """Frames of one size row by row, ``columns`` in each, with thin dark lines between; missing ones are dark."""
    if columns < 1:
        raise ValueError(f"a grid has at least one column, not {columns}")
    missing = -len(frames) % columns
    full = [*frames, *(np.full_like(frames[0], DARK) for _ in range(missing))]
    rows = [side_by_side(full[i : i + columns], separator_px) for i in range(0, len(full), columns)]
    line = np.full((separator_px, rows[0].shape[1], 3), DARK, np.uint8)
    parts: list[Image] = []
    for row in rows:
        parts += [line, row] if parts else [row]
    return np.concatenate(parts, axis=0)


def frame_strip(frames: Sequence[Image], labels: Sequence[str]) -> Image:
    """Frames in a row on white, each with its label below: for a page of the documentation."""
    if len(frames) != len(labels) or not frames:
        raise ValueError(f"{len(frames)} frames and {len(labels)} labels: give one label a frame")
    height, width = frames[0].shape[:2]
    size = text_px(height, width)
    gap, foot = max(4, size // 2), 2 * size
    image = np.full((height + foot, len(frames) * (width + gap) - gap, 3), 255, np.uint8)
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        left = index * (width + gap)
        image[:height, left : left + width] = frame
        label = shortened(label, size, width)
        _write(image, label, left + (width - text_width(label, size)) // 2, height + round(1.4 * size), size, DARK)
    return image
