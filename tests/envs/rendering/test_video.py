from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering import video
from cadenza.envs.rendering.video import VideoWriter, read_frames, video_info


def plain(value: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def test_a_video_is_h264_that_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "new" / "film.mp4"
    with VideoWriter(path, 25.0, 64, 48) as writer:
        for value in range(0, 250, 10):
            writer.write(plain(value))
        assert not path.exists()
    info = video_info(path)
    assert info["codec"] == "h264"
    assert info["pix_fmt"].startswith("yuv420p")
    assert info["size"] == (64, 48)
    assert info["fps"] == 25.0
    assert info["duration"] == pytest.approx(1.0)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # faststart: plays before it is loaded
    assert [other.name for other in path.parent.iterdir()] == ["film.mp4"]


def test_frames_come_back(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with VideoWriter(path, 30, 64, 48) as writer:
        for value in range(0, 200, 20):
            writer.write(plain(value))
    assert writer.frames == 10
    chosen = read_frames(path, [5, 0, -1])
    assert chosen.shape == (3, 48, 64, 3)
    np.testing.assert_allclose(chosen.mean(axis=(1, 2, 3)), [100, 0, 180], atol=4)
    assert len(read_frames(path, every=4)) == 3
    with pytest.raises(IndexError, match="10"):
        read_frames(path, [10])


def test_odd_sizes_lose_a_row_and_a_column(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with VideoWriter(path, 30, 65, 49) as writer:
        writer.write(plain(90, 65, 49))
    assert video_info(path)["size"] == (64, 48)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_film_is_playable(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "film.mp4"
    with pytest.raises(kind), VideoWriter(path, 30, 64, 48) as writer:  # noqa: PT012 - the block is what is tested
        for value in (10, 20, 30):
            writer.write(plain(value))
        raise kind
    assert len(read_frames(path)) == 3
    assert [other.name for other in tmp_path.iterdir()] == ["film.mp4"]


def test_a_killed_process_leaves_a_playable_part(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, os, signal\n"
        "from cadenza.envs.rendering.video import VideoWriter\n"
        "writer = VideoWriter(sys.argv[1], 30, 64, 48)\n"
        "for _ in range(5): writer.write(np.zeros((48, 64, 3), np.uint8))\n"
        "writer._process.stdin.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "film.mp4")], check=False)
    assert done.returncode == -signal.SIGKILL
    part = tmp_path / "film.part.mp4"
    deadline = time.monotonic() + 10
    while True:
        try:
            assert len(read_frames(part)) == 5
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_no_frames_no_file(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"an older film")
    with VideoWriter(path, 30, 64, 48):
        pass
    assert path.read_bytes() == b"an older film"
    assert [other.name for other in tmp_path.iterdir()] == ["film.mp4"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CadenzaError, match="Cannot write"):
        VideoWriter(tmp_path / "file" / "film.mp4", 30, 64, 48)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(CadenzaError, match="Permission denied"):
        VideoWriter(folder / "film.mp4", 30, 64, 48)


def test_a_full_disk_is_told_before_the_first_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(video.shutil, "disk_usage", lambda _: usage(100, 99, 2**20))
    with pytest.raises(CadenzaError, match="1 MB left"):
        VideoWriter(tmp_path / "film.mp4", 30, 64, 48)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["film.avi", "film", "."])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CadenzaError, match=r"\.mp4"):
        VideoWriter(tmp_path / name, 30, 64, 48)


def test_sizes_that_no_video_has(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="64x8"):
        VideoWriter(tmp_path / "film.mp4", 30, 64, 8)


def test_ffmpeg_failing_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexec 0<&-\necho first >&2\necho 'No space left on device' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(video.imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(broken))
    frame = np.zeros((480, 640, 3), np.uint8)
    with (  # noqa: PT012
        pytest.raises(CadenzaError, match="No space left on device"),
        VideoWriter(tmp_path / "film.mp4", 30, 640, 480) as writer,
    ):
        for _ in range(20):
            writer.write(frame)
    assert [other.name for other in tmp_path.iterdir()] == ["ffmpeg"]


def test_frames_of_another_size_are_a_mistake(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "film.mp4", 30, 64, 48) as writer:
        with pytest.raises(ValueError, match="shape"):
            writer.write(plain(0, 48, 64))
        writer.write(plain(0))
