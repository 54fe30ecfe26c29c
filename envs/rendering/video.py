"""Writes H.264 videos that browsers play, and reads frames back. ffmpeg comes with imageio-ffmpeg."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError

MIN_SIDE = 16
MIN_FREE_BYTES = 16 * 2**20


class VideoWriter:
    """An .mp4 under construction, as a context manager.

    Frames go to ``NAME.part.mp4`` beside the target, which is renamed on leaving. Whatever ends the block early (an
    error, Ctrl-C), the frames so far become a playable file; only a block without any frame leaves none. If this
    process is killed, ffmpeg still completes the ``.part.mp4``.

    Args:
        path: the target, ending in .mp4; its folder is made.
        fps: frames per second.
        width: of the frames handed in. H.264's yuv420p needs even sizes: an odd last column is cut off.
        height: likewise; an odd last row is cut off.

    Raises:
        CadenzaError: already here if the folder cannot be written or the disk is full; later if ffmpeg fails.
    """

    def __init__(self, path: Path | str, fps: float, width: int, height: int):
        self.path = Path(path)
        self.frames = 0
        self._shape = (height, width, 3)
        self._even = (height - height % 2, width - width % 2)
        if min(self._even) < MIN_SIDE or fps <= 0:
            raise CadenzaError(f"No video of {width}x{height} pixels at {fps:g} frames per second can be made.")
        if self.path.suffix.lower() != ".mp4":
            raise CadenzaError(f"{self.path} does not end in .mp4.", "Videos are written as H.264 in .mp4 files.")
        self._part = self.path.with_name(f"{self.path.stem}.part.mp4")
        check_writable(self.path, self._part)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the writer
        self._process: subprocess.Popen[bytes] | None = self._start(fps)

    def _start(self, fps: float) -> subprocess.Popen[bytes]:
        height, width = self._even
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6g}", "-i", "-"]
        coding = ["-an", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-hide_banner", "-loglevel", "error",
            *source, *coding, "-movflags", "+faststart", str(self._part),
        ]  # fmt: skip
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we close its input in good order.
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append one RGB frame of shape (height, width, 3)."""
        if self._process is None or self._process.stdin is None:
            raise ValueError("the video is closed")
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame of shape {self._shape}, got {frame.dtype} {frame.shape}")
        height, width = self._even
        try:
            self._process.stdin.write(np.ascontiguousarray(frame[:height, :width]).data)
        except OSError:
            self._finish()
            self._part.unlink(missing_ok=True)
            raise self._failure() from None
        self.frames += 1

    def close(self) -> None:
        """Complete the file and give it its name."""
        if self._process is None:
            return
        code = self._finish()
        if not self.frames:
            self._part.unlink(missing_ok=True)
        elif code:
            self._part.unlink(missing_ok=True)
            raise self._failure()
        else:
            self._part.replace(self.path)

    def _finish(self) -> int:
        """Close ffmpeg's input and wait for it; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        return process.wait()

    def _failure(self) -> CadenzaError:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1].strip() if lines else "it gave no reason"
        return CadenzaError(f"ffmpeg could not write {self.path}: {reason}", "Is there room on the disk?")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._process is not None:
            self._finish()  # a frame cut in the middle makes ffmpeg complain, but the file is whole
            if self.frames and self._part.is_file() and self._part.stat().st_size:
                self._part.replace(self.path)
            else:
                self._part.unlink(missing_ok=True)


def check_writable(path: Path, part: Path) -> None:
    """Make the folder and try the temporary file, so that an hour of rendering does not end in an error."""
    if path.is_dir():
        raise CadenzaError(f"{path} is a folder.", "Name a file that ends in .mp4.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(b"")
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise CadenzaError(f"Cannot write {path}: {error.strerror or error}.", "Choose another place.") from error
    if free < MIN_FREE_BYTES:
        part.unlink(missing_ok=True)
        raise CadenzaError(
            f"Cannot write {path}: the disk has {free / 2**20:.0f} MB left.", "Make room or choose another place."
        )


def video_info(path: Path | str) -> dict[str, Any]:
    """What ffmpeg says of a video: among it ``codec``, ``size`` (width, height), ``fps`` and ``duration`` (s)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        return dict(next(reader))
    finally:
        reader.close()


def read_frames(path: Path | str, indices: Sequence[int] | None = None, every: int = 1) -> NDArray[np.uint8]:
    """Frames of a video, shape (count, height, width, 3), in the order asked for.

    Args:
        path: the video.
        indices: which frames; negative ones count from the end. Without them: every ``every``-th.
        every: see ``indices``.
    """
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        width, height = next(reader)["size"]
        wanted = None
        if indices is not None:
            if any(index < 0 for index in indices):
                total, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
                indices = [index + total if index < 0 else index for index in indices]
            wanted = set(indices)
        found: dict[int, NDArray[np.uint8]] = {}
        for index, data in enumerate(reader):
            if (index % every == 0) if wanted is None else (index in wanted):
                found[index] = np.frombuffer(data, np.uint8).reshape(height, width, 3)
            if wanted is not None and len(found) == len(wanted):
                break
    finally:
        reader.close()
    order = list(found) if indices is None else indices
    if missing := [index for index in order if index not in found]:
        raise IndexError(f"{path} has no frames {missing}")
    return np.stack([found[index] for index in order])
