"""A film as a small looping GIF, for pages that show pictures but play no film. ffmpeg comes with imageio-ffmpeg."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg

from cadenza.envs.errors import CadenzaError

WIDTH_PX = 320
MAX_BYTES = 2_000_000
# Frames per second and colours, the finest first. GIF counts time in 1/100 s: other rates would not play in real time.
_LEVELS = ((20, 128), (20, 64), (12.5, 64), (10, 48), (5, 48))


def write_gif(film: Path | str, *, width: int = WIDTH_PX, max_bytes: int = MAX_BYTES) -> Path:
    """Write a film as a GIF of the same name beside it, as smooth as ``max_bytes`` allow; it plays in real time.

    Args:
        film: the video.
        width: of the GIF, in pixels; the height keeps the film's proportions.
        max_bytes: upper limit of the file.

    Raises:
        CadenzaError: no file that small can be made of the film, or it cannot be written.
    """
    film = Path(film)
    destination = film.with_suffix(".gif")
    part = destination.with_name(f"{film.stem}.part.gif")
    size = 0
    try:
        for fps, colours in _LEVELS:
            _convert(film, part, fps, colours, width)
            size = part.stat().st_size
            if size <= max_bytes:
                part.replace(destination)
                return destination
    finally:
        part.unlink(missing_ok=True)
    raise CadenzaError(
        f"No GIF of {film} fits into {max_bytes / 1e6:g} MB: at {_LEVELS[-1][0]:g} frames per second it has "
        f"{size / 1e6:.1f} MB.",
        "Film fewer steps (--steps 300).",
    )


def _convert(film: Path, target: Path, fps: float, colours: int, width: int) -> None:
    # A palette of the film's own; ordered dithering, whose pattern stands still and so compresses.
    palette = f"[a]palettegen=max_colors={colours}:stats_mode=diff[p];[b][p]paletteuse=dither=bayer:bayer_scale=5"
    graph = f"fps={fps:g},scale={width}:-2:flags=lanczos,split[a][b];{palette}:diff_mode=rectangle"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-hide_banner", "-loglevel", "error",
        "-i", str(film), "-filter_complex", graph, "-loop", "0", "-f", "gif", str(target),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not target.is_file():
        lines = done.stderr.strip().splitlines()
        raise CadenzaError(f"ffmpeg could not make a GIF of {film}: {lines[-1] if lines else 'it gave no reason'}")
