"""The frame strip: evenly spaced moments of a film, in order."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.strip import write_frame_strip
from cadenza.envs.rendering.video import VideoWriter


def test_moments_are_in_order(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    with VideoWriter(film, 10, 64, 64) as writer:
        for level in np.linspace(0, 250, 60):
            writer.write(np.full((64, 64, 3), int(level), np.uint8))
    strip = cv2.imread(str(write_frame_strip(film, 4)))
    panel = strip.shape[1] / 4
    levels = [strip[20, int(panel * (index + 0.5))].mean() for index in range(4)]
    assert levels == pytest.approx([50, 100, 150, 200], abs=12)


def test_at_least_one_frame(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="at least one"):
        write_frame_strip(tmp_path / "film.mp4", 0)
