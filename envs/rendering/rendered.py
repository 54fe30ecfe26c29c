"""Environments that draw themselves with Gymnasium's renderer, on machines without a display too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym

from cadenza.envs.errors import CadenzaError
from cadenza.envs.rendering.camera import checked_camera
from cadenza.envs.rendering.gl import ensure_gl_backend
from cadenza.envs.state import get_env_state, set_env_state

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

    made_with: dict[str, Any]
    """The arguments it was made with, for copies."""

    def draw_with(self, render_mode: str | None, width: int, height: int, camera_name: str) -> None:
        """Say how, once, when ``model`` and ``data`` are there.

        Raises:
            CadenzaError: a mode or a camera that it does not have.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise CadenzaError(
                f"There is no render_mode {render_mode!r}.", f"It has: {', '.join(self.metadata['render_modes'])}."
            )
        checked_camera(self.model, camera_name)
        self.render_mode, self.width, self.height, self.camera_name = render_mode, width, height, camera_name

    def __reduce__(self) -> Any:
        """``copy.deepcopy`` and ``pickle`` make it anew and put the state in.

        A copied MjData shares no memory with the arrays that look into it: such a copy would act and never move.
        """
        return _made_again, (type(self), self.made_with, self.spec, get_env_state(self))

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


def _made_again(kind: type[RenderedEnv], made_with: dict[str, Any], spec: Any, state: dict[str, Any]) -> RenderedEnv:
    env = kind(**made_with)
    env.spec = spec
    set_env_state(env, state)
    return env
