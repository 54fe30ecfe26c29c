"""The GIF of a film: its size, its pace, its limit."""

from pathlib import Path

import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.gif import write_gif
from cadenza.envs.rendering.video import VideoWriter, read_frames, video_info


def write_film(path: Path, seconds: int, height: int = 360, width: int = 480, noise: int = 0) -> Path:
    """A film that brightens evenly, at 40 frames per second."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, 40, width, height) as writer:
        for level in np.linspace(10, 240, 40 * seconds):
            frame = np.full((height, width, 3), level)
            frame += rng.uniform(-noise, noise, frame.shape)
            writer.write(np.clip(frame, 0, 255).astype(np.uint8))
    return path


def test_it_is_small_loops_and_plays_in_real_time(tmp_path: Path) -> None:
    gif = write_gif(write_film(tmp_path / "film.mp4", 2))
    assert gif == tmp_path / "film.gif"
    data = gif.read_bytes()
    assert data.startswith(b"GIF89a")
    assert b"NETSCAPE2.0\x03\x01\x00\x00" in data  # repeat for ever
    assert data.count(b"\x21\xf9\x04") == 40  # frames: 2 s at 20 per second
    info = video_info(gif)
    assert (info["size"], info["fps"]) == ((320, 240), 20)
    levels = read_frames(gif, [2, 20, 37]).mean(axis=(1, 2, 3))
    assert levels == pytest.approx([10 + 230 * share for share in (0.05, 0.5, 0.925)], abs=12)


def test_what_is_too_large_gets_coarser_and_then_is_refused(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 2, 72, 96, noise=60)
    full = write_gif(film, width=96, max_bytes=10**9).stat().st_size
    less = write_gif(film, width=96, max_bytes=full // 2)
    assert less.stat().st_size <= full // 2
    assert video_info(less)["fps"] < 20
    less.unlink()
    with pytest.raises(CadenzaError, match="fits into") as caught:
        write_gif(film, width=96, max_bytes=2_000)
    assert "--steps" in caught.value.advice
    assert list(tmp_path.iterdir()) == [film]


def test_a_film_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("not a film")
    with pytest.raises(CadenzaError, match="ffmpeg could not make a GIF"):
        write_gif(tmp_path / "film.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
