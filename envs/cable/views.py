"""Pictures of the cable world's cameras, small and quick: one renderer for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.rendering.camera import make_renderer


class Views:
    """Draws what named cameras see.

    Args:
        model: of the world.
        size: of the square pictures, pixels.

    Raises:
        CadenzaError: drawing does not start.
        NoGraphicsLibraryError: no graphics library.
    """

    def __init__(self, model: Any, size: int) -> None:
        self._renderer = make_renderer(model, size, size, "fast")

    def picture(self, data: Any, camera: str) -> NDArray[np.uint8]:
        """What this camera sees now, (size, size, 3), without shadows and reflections."""
        import mujoco

        self._renderer.update_scene(data, camera)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()
