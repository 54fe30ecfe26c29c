"""The Gymnasium humanoid, walking forward, with actions in [-1, 1].

A humanoid of 17 motors starts upright with small random joint offsets. It is paid for the forward speed of its centre
of mass and for staying upright, and pays for control effort (and, in ``cadenza/Humanoid-v0``, for contact forces). The
episode terminates when the torso leaves the height range 1.0 m to 2.0 m; the time limit of 1000 steps (15 s) truncates.

Observation, float64, in this order (root x and y left out):

| Part              | v0  | Paper | Unit             | Meaning                                               |
|-------------------|-----|-------|------------------|-------------------------------------------------------|
| ``qpos[2:]``      | 22  | 22    | m, -, rad        | torso height, torso quaternion wxyz, joint angles     |
| ``qvel``          | 23  | 23    | m/s, rad/s       | velocity and rotation of the torso, joint velocities  |
| ``cinert``        | 130 | 140   | kg, kg m, kg m^2 | mass and inertia of each body about the robot's centre of mass |
| ``cvel``          | 78  | 84    | rad/s, m/s       | velocity of each body there                           |
| ``qfrc_actuator`` | 17  | 23    | N m              | motor torque at each joint                            |
| ``cfrc_ext``      | 78  | 84    | N m, N           | contact wrench on each body                           |
| total             | 348 | 376   |                  | v0 leaves out what is always 0: world body, free joint |

Action, float32 of shape (17,) in [-1, 1], in the order of the actuators (:mod:`cadenza.robots.gym_humanoid`):

| Id                       | ``ctrl``                                  | Control cost              |
|--------------------------|-------------------------------------------|---------------------------|
| cadenza/Humanoid-v0      | 0.4 * action: the whole range is used     | 0.1 * sum (0.4 action)^2  |
| cadenza/HumanoidPaper-v0 | action; MuJoCo clamps the force at +-0.4  | 0.1 * sum action^2        |

Source: Gymnasium's Humanoid-v5 and Humanoid-v4, whose classes run below; arXiv 2512.10477 for the second action rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import humanoid_v4, humanoid_v5
from numpy.typing import NDArray

from cadenza.envs.humanoid_mirror import humanoid_mirror
from cadenza.envs.mirror import Mirror
from cadenza.envs.rendering.rendered import Headless

Step = tuple[NDArray[np.float64], np.float64, bool, bool, dict[str, Any]]


@dataclass(frozen=True)
class HumanoidConfig:
    """Reward weights and limits; the defaults are Gymnasium's."""

    forward_weight: float = 1.25
    """Per m/s of the centre of mass along x."""
    healthy_weight: float = 5.0
    """Per step with the torso inside ``healthy_z_m``."""
    control_weight: float = 0.1
    """Cost per sum of squared ``ctrl``."""
    contact_weight: float = 5e-7
    """Cost per sum of squared contact wrenches; HumanoidPaper-v0 has no such cost."""
    contact_cost_max: float = 10.0
    """Upper limit of the contact cost per step."""
    healthy_z_m: tuple[float, float] = (1.0, 2.0)
    """Torso heights that do not terminate the episode."""
    reset_noise: float = 0.01
    """Half width of the uniform noise on qpos and qvel at reset."""


def unit_box(count: int) -> spaces.Box:
    """The action space of all our environments: [-1, 1]^count, float32."""
    return spaces.Box(-1.0, 1.0, (count,), np.float32)


class Humanoid(Headless, humanoid_v5.HumanoidEnv):
    """``cadenza/Humanoid-v0``: Humanoid-v5 with the motors' range mapped to [-1, 1].

    Args:
        config: reward weights and limits.
        kwargs: for :class:`gymnasium.envs.mujoco.MujocoEnv`, e.g. ``render_mode``, ``width``, ``camera_name``.
    """

    def __init__(self, config: HumanoidConfig | None = None, **kwargs: Any):
        self.config = config or HumanoidConfig()
        super().__init__(
            forward_reward_weight=self.config.forward_weight,
            ctrl_cost_weight=self.config.control_weight,
            contact_cost_weight=self.config.contact_weight,
            contact_cost_range=(-np.inf, self.config.contact_cost_max),
            healthy_reward=self.config.healthy_weight,
            healthy_z_range=self.config.healthy_z_m,
            reset_noise_scale=self.config.reset_noise,
            **kwargs,
        )
        # Gymnasium's EzPickle has kept the parent's arguments: copy.deepcopy and pickle need ours.
        self._ezpickle_args, self._ezpickle_kwargs = (self.config,), kwargs

    def _set_action_space(self) -> spaces.Box:
        self.action_space = unit_box(self.model.nu)
        return self.action_space

    @property
    def mirror(self) -> Mirror:
        """How observations and actions look in a mirror, for agents that learn from both."""
        return humanoid_mirror(self.model, world=False)

    def step(self, action: NDArray[np.float32]) -> Step:
        """Set ``ctrl`` to the action times the motors' range; one step is 5 * 0.003 s."""
        limit = self.model.actuator_ctrlrange[:, 1]
        observation, reward, terminated, truncated, info = super().step(limit * action)
        info["reward_terms"] = {
            "forward": float(info["reward_forward"]),
            "healthy": float(info["reward_survive"]),
            "control": float(info["reward_ctrl"]),
            "contact": float(info["reward_contact"]),
        }
        return observation, np.float64(reward), bool(terminated), truncated, info


class HumanoidPaper(Headless, humanoid_v4.HumanoidEnv):
    """``cadenza/HumanoidPaper-v0``: Humanoid-v4, step for step, that takes actions in [-1, 1] unscaled.

    Args:
        config: reward weights and limits; ``contact_weight`` and ``contact_cost_max`` are not used.
        kwargs: for :class:`gymnasium.envs.mujoco.MujocoEnv`, e.g. ``render_mode``, ``width``, ``camera_name``.
    """

    def __init__(self, config: HumanoidConfig | None = None, **kwargs: Any):
        self.config = config or HumanoidConfig()
        super().__init__(
            forward_reward_weight=self.config.forward_weight,
            ctrl_cost_weight=self.config.control_weight,
            healthy_reward=self.config.healthy_weight,
            healthy_z_range=self.config.healthy_z_m,
            reset_noise_scale=self.config.reset_noise,
            **kwargs,
        )
        self._ezpickle_args, self._ezpickle_kwargs = (self.config,), kwargs

    def _set_action_space(self) -> spaces.Box:
        self.action_space = unit_box(self.model.nu)
        return self.action_space

    @property
    def mirror(self) -> Mirror:
        """How observations and actions look in a mirror, for agents that learn from both."""
        return humanoid_mirror(self.model, world=True)

    def step(self, action: NDArray[np.float32]) -> Step:
        """Set ``ctrl`` to the action; the motors give at most +-0.4 of their gear. One step is 5 * 0.003 s."""
        observation, reward, terminated, truncated, info = super().step(action)
        info["reward_terms"] = {
            "forward": float(info["reward_linvel"]),
            # Humanoid-v4 also pays it on the step that terminates, Humanoid-v5 does not.
            "healthy": float(info["reward_alive"]),
            "control": float(info["reward_quadctrl"]),
        }
        return observation, np.float64(reward), bool(terminated), truncated, info
