"""Pictures of the table for observations: one small renderer for all copies, made when the first is asked for."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from cadenza.envs.rendering.camera import make_renderer
from cadenza.envs.tabletop.physics import Physics


class Pictures:
    """What the cameras see, uint8 (n, size, size, 3) by name; without shadows and reflections, which are slow.

    Args:
        physics: the copies.
        cameras: names of cameras of the model.
        size: width and height, px.
    """

    def __init__(self, physics: Physics, cameras: tuple[str, ...], size: int):
        self.physics, self.cameras, self.size = physics, cameras, size
        self.latest = {name: np.zeros((physics.n, size, size, 3), np.uint8) for name in cameras}
        self._renderer: mujoco.Renderer | None = None
        self._option = mujoco.MjvOption()

    @property
    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Of one copy, by camera."""
        return {name: spaces.Box(0, 255, (self.size, self.size, 3), np.uint8) for name in self.cameras}

    def take(self, ids: NDArray[np.intp]) -> dict[str, NDArray[np.uint8]]:
        """New pictures of these copies, the last ones of the others; copies of shape (n, size, size, 3)."""
        if self._renderer is None:
            self._renderer = make_renderer(self.physics.model, self.size, self.size, "fast")
        for index in ids.tolist():
            data = self.physics.data(index)
            for name in self.cameras:
                self._renderer.update_scene(data, name, self._option)
                self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
                self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
                self.latest[name][index] = self._renderer.render()
        return {name: pictures.copy() for name, pictures in self.latest.items()}

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
