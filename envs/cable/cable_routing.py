"""``cadenza/CableRouting-v0``: an arm lays a cable, anchored at one end, into clips, one after the other.

Observation: a dict with ``state`` (:mod:`cadenza.envs.cable.observation`) and, with ``observe="camera"``, one picture
(size, size, 3), uint8, a camera.

Action, in [-1, 1]^5 at 10 Hz: velocity of the hand along the world's axes, times 0.2 m/s; yaw rate, times 1.5 rad/s;
gripper: more than 0 closes it. The fifth entry is ours: the data set this task follows has the first four.

Reward: the term ``routed``, the change in the share of clips that are routed. An episode terminates when all are; the
time limit of 48 s a clip truncates.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from numpy.typing import NDArray

from cadenza.envs.cable.episodes import CONTROL_HZ
from cadenza.envs.cable.hand import ACTIONS
from cadenza.envs.cable.observation import state_layout, state_of
from cadenza.envs.cable.settings import config_of
from cadenza.envs.cable.world import CableWorld
from cadenza.envs.guard import BAD_STATE, all_finite

Observation = dict[str, NDArray[Any]]


class CableRouting(gym.Env):
    """The task as a Gymnasium environment.

    Args:
        render_mode: None or ``rgb_array``, the view of the side camera.
        width: of rendered pictures, pixels.
        height: of rendered pictures, pixels.
        settings: those of :class:`cadenza.envs.cable.settings.CableConfig`.

    Raises:
        CadenzaError: a setting that cannot be.
        MissingModelError: the Panda has not been fetched.
        NoGraphicsLibraryError: pictures are asked for and nothing can draw them.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own

    def __init__(self, *, render_mode: str | None = None, width: int = 480, height: int = 480, **settings: Any) -> None:
        self.config = config_of(settings)
        self.render_mode, self.width, self.height = render_mode, width, height
        self.world = CableWorld(self.config)
        self.model: mujoco.MjModel = self.world.model
        self.data: mujoco.MjData = self.world.data
        self.state_layout = state_layout(self.config.observe)
        """Slices of ``observation["state"]`` by name."""
        self.action_names = ACTIONS
        """Of the entries of an action."""
        self.dt = 1.0 / CONTROL_HZ
        self._views: Any = None
        self._pictured: Any = None
        self._last: Observation | None = None
        self._routed = 0
        size = max(part.stop for part in self.state_layout.values())
        spaces: dict[str, gym.Space] = {"state": gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)}
        if self.config.observe == "camera":
            shape = (self.config.camera_size, self.config.camera_size, 3)
            spaces |= {name: gym.spaces.Box(0, 255, shape, np.uint8) for name in self.config.cameras}
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (len(ACTIONS),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A new episode: clips, stiffness, cable and hand are drawn anew; the same seed gives the same to the bit."""
        super().reset(seed=seed)
        self.world.reset(self.np_random)
        self._routed = sum(self.world.routed)
        self._last = self._observe()
        return self._last, self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step of 0.1 s.

        A state that is not finite ends the episode with the last good observation, reward 0 and
        ``info["non_finite"]``.

        Raises:
            ValueError: an action of another size or with a number that is not finite.
        """
        for warning in BAD_STATE:
            self.data.warning[warning].number = 0
        self.world.step(action)
        bad = any(self.data.warning[warning].number for warning in BAD_STATE)
        observation = self._observe()
        if bad or not all_finite(observation["state"]):
            assert self._last is not None, "reset() comes before step()"
            info = self._info() | {"non_finite": True, "reward_terms": {"routed": 0.0}}
            return self._last, 0.0, True, False, info
        routed = sum(self.world.routed)
        reward = (routed - self._routed) / self.config.clips
        self._routed, self._last = routed, observation
        info = self._info() | {"reward_terms": {"routed": reward}}
        return observation, reward, routed == self.config.clips, False, info

    def _observe(self) -> Observation:
        observation: Observation = {"state": state_of(self.world, self.config.observe)}
        if self.config.observe == "camera":
            if self._views is None:
                from cadenza.envs.cable.views import Views

                self._views = Views(self.model, self.config.camera_size)
            observation |= {name: self._views.picture(self.data, name) for name in self.config.cameras}
        return observation

    def _info(self) -> dict[str, Any]:
        routed = self.world.routed
        return {
            "routed": np.array(routed),
            "current_clip": self.world.current_clip,
            "is_success": all(routed),
            "privileged": self.world,
        }

    def render(self) -> Any:
        """The view of the side camera, (height, width, 3), uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._pictured is None:
            from cadenza.envs.rendering.camera import Camera

            self._pictured = Camera(self, width=self.width, height=self.height, camera="side")
        return self._pictured.frame()

    def close(self) -> None:
        """Free the renderers."""
        for drawing in (self._views, self._pictured):
            if drawing is not None:
                drawing.close()
        self._views = self._pictured = None

    def get_extra_state(self) -> dict[str, Any]:
        """What is not in ``mjData``, for :mod:`cadenza.envs.state`."""
        return self.world.get_state()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; ``mjData`` and the generator were restored before."""
        self.world.set_state(state, self.np_random)
        mujoco.mj_forward(self.model, self.data)
