"""The .mp4 files of a LeRobotDataset: many episodes one after the other, quick to seek."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos.errors import DemoError

CODING = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-g", "2", "-bf", "0", "-pix_fmt", "yuv420p")
"""A key frame every second frame, as LeRobot's own videos have them: any frame is at most one away from one."""
_PIXEL_BYTES = 0.4
"""More than H.264 at this quality takes a pixel, so that a file stays within the limit whatever it shows."""


class EpisodeVideo:
    """One camera's files: frames are appended, and a new file begins with an episode when one is full.

    Args:
        pattern: path of a file, with ``{chunk_index}`` and ``{file_index}``.
        fps: frames per second.
        shape: of a picture, (height, width, 3).
        limit_bytes: of a file.
        chunk_files: files of a chunk.

    Raises:
        DemoError: H.264 cannot have pictures of that size.
    """

    def __init__(self, pattern: str, fps: float, shape: tuple[int, ...], limit_bytes: float, chunk_files: int):
        height, width, _ = shape
        if height % 2 or width % 2 or min(height, width) < 16:
            raise DemoError(
                f"Pictures of {width} x {height} pixels cannot become H.264: it needs even sides of 16 or more.",
                "--images keeps every picture as a PNG instead.",
            )
        self._pattern, self._fps, self._shape, self._chunk_files = pattern, fps, shape, chunk_files
        self._most = max(int(limit_bytes / (_PIXEL_BYTES * height * width)), 1)
        self._number, self._frames = -1, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None

    def add(self, pictures: NDArray[np.uint8]) -> dict[str, float | int]:
        """Append an episode, (T, height, width, 3).

        Returns:
            ``chunk_index``, ``file_index``, ``from_timestamp`` and ``to_timestamp`` [s] within the file.
        """
        if self._process is None or self._frames + len(pictures) > self._most:
            self.close()
            self._begin()
        assert self._process is not None
        assert self._process.stdin is not None
        first, self._frames = self._frames, self._frames + len(pictures)
        try:
            self._process.stdin.write(np.ascontiguousarray(pictures).data)
        except OSError:
            self.close()
            raise DemoError("ffmpeg ended early.", "Is there room on the disk?") from None
        chunk, file = divmod(self._number, self._chunk_files)
        return {
            "chunk_index": chunk, "file_index": file,
            "from_timestamp": first / self._fps, "to_timestamp": self._frames / self._fps,
        }  # fmt: skip

    def _begin(self) -> None:
        self._number, self._frames = self._number + 1, 0
        chunk, file = divmod(self._number, self._chunk_files)
        path = Path(self._pattern.format(chunk_index=chunk, file_index=file))
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width, _ = self._shape
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        command = [
            imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-hide_banner", "-loglevel", "error", "-f", "rawvideo",
            "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._fps:.9g}", "-i", "-", "-an",
            *CODING, "-threads", "1", str(path),
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )

    def close(self) -> None:
        """Complete the open file.

        Raises:
            DemoError: ffmpeg could not.
        """
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        code = process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        if code:
            raise DemoError(f"ffmpeg could not write a video: {lines[-1] if lines else f'exit code {code}'}")
