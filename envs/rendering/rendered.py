"""Environments that draw themselves with Gymnasium's renderer, on machines without a display too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from cadenza.envs.rendering.gl import ensure_gl_backend

if TYPE_CHECKING:
    import mujoco
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer


class Headless(gym.Env):
    """Chooses how MuJoCo draws before an environment of Gymnasium's own first does: put it before that class."""

    def render(self) -> Any:
        """As the environment's own."""
        if self.render_mode in ("rgb_array", "depth_array", "rgbd_tuple"):
            ensure_gl_backend()
        return super().render()


class RenderedEnv(gym.Env):
    """A base for environments with ``model`` and ``data``: pictures in mode ``rgb_array``."""

    model: mujoco.MjModel
    data: mujoco.MjData
    _renderer: MujocoRenderer | None = None

    def draw_with(self, render_mode: str | None, width: int, height: int, camera_name: str) -> None:
        """Say how, once, while the environment is made."""
        self.render_mode, self.width, self.height, self.camera_name = render_mode, width, height, camera_name

    def render(self) -> Any:
        """A picture (height, width, 3), uint8, in mode ``rgb_array``; None without a mode.

        Raises:
            NoGraphicsLibraryError: no graphics library.
        """
        if self.render_mode is None:
            return None
        if self._renderer is None:
            ensure_gl_backend()
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            self._renderer = MujocoRenderer(
                self.model, self.data, None, self.width, self.height, camera_name=self.camera_name
            )
        return self._renderer.render(self.render_mode)

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
