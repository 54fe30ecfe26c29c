"""A film as one picture: moments side by side, for pages that cannot play it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.overlay import frame_strip
from cadenza.envs.rendering.video import read_frames, video_info

MAX_WIDTH_PX = 1800


def write_frame_strip(film: Path | str, count: int) -> Path:
    """Write ``count`` moments of a film, evenly spaced, as a JPEG beside it; each is labelled with its time [s].

    Raises:
        CadenzaError: fewer than one moment, or the picture cannot be written.
    """
    if count < 1:
        raise CadenzaError(f"A frame strip needs at least one frame, got {count}.")
    film = Path(film)
    info = video_info(film)
    total = max(1, round(info["duration"] * info["fps"]))
    indices = [int(index) for index in np.linspace(0, total - 1, count + 2)[1:-1]]
    frames = read_frames(film, indices)
    picture = frame_strip(list(frames), [f"{index / info['fps']:.1f} s" for index in indices])
    scale = min(1.0, MAX_WIDTH_PX / picture.shape[1])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    destination = film.with_suffix(".jpg")
    if not cv2.imwrite(str(destination), picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88]):
        raise CadenzaError(f"Cannot write {destination}.")
    return destination
