"""What an off-policy learner sees of a goal-conditioned environment: everything normalised, and what is still missing.

Stable-Baselines3's CombinedExtractor hands on metres and radians as they are. A few centimetres, which decide whether a
goal is reached, are then a hundredth of what joint velocities are, and where the goal lies from here has to be learned
as a difference of two inputs.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

OBSERVATION, ACHIEVED, DESIRED = "observation", "achieved_goal", "desired_goal"


class GoalFeatures(BaseFeaturesExtractor):
    """Observation, desired goal and desired minus achieved goal, by running mean and deviation, clipped.

    The moments are those of all batches it has learned from. They are buffers, so they are stored with the weights;
    their names begin as batch normalisation's do, so that Stable-Baselines3 copies them to the target networks.

    Args:
        observation_space: of a goal-conditioned environment, each part one vector.
        limit: features stay within +-limit deviations.

    Raises:
        ValueError: another observation space.
    """

    running_mean: Tensor
    running_square: Tensor
    running_count: Tensor

    def __init__(self, observation_space: spaces.Space, limit: float = 5.0):
        if not takes(observation_space):
            raise ValueError(f"GoalFeatures needs a goal and vectors as observations, not {observation_space}.")
        assert isinstance(observation_space, spaces.Dict)
        sizes = {name: int(observation_space[name].shape[0]) for name in (OBSERVATION, DESIRED)}  # type: ignore[index]
        size = sizes[OBSERVATION] + 2 * sizes[DESIRED]
        super().__init__(observation_space, size)
        self.limit = limit
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_square", torch.zeros(size))
        self.register_buffer("running_count", torch.zeros(()))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """(batch, part) of each part -> (batch, features). In training mode the batch is counted first."""
        desired = observations[DESIRED]
        parts = observations[OBSERVATION], desired, desired - observations[ACHIEVED]
        features = torch.cat([part.float() for part in parts], dim=1)
        if self.training:
            self._count(features.detach())
        # Until something was learned from, nothing is known of the scale.
        deviation = self.running_square.sqrt() if self.running_count > 0 else torch.ones_like(self.running_mean)
        scaled: Tensor = (features - self.running_mean) / (deviation + 1e-4)
        return scaled.clamp(-self.limit, self.limit)

    def _count(self, features: Tensor) -> None:
        # Batches are of one size, so each weighs the same (Chan et al. 1979).
        self.running_count += 1
        share = 1.0 / self.running_count
        variance, mean = torch.var_mean(features, dim=0, correction=0)
        gap = mean - self.running_mean
        self.running_square += share * (variance - self.running_square + (1.0 - share) * gap.square())
        self.running_mean += share * gap


def takes(space: spaces.Space) -> bool:
    """Whether :class:`GoalFeatures` can read these observations: three vectors, no pictures."""
    return (
        isinstance(space, spaces.Dict)
        and set(space.spaces) == {OBSERVATION, ACHIEVED, DESIRED}
        and all(isinstance(part, spaces.Box) and len(part.shape) == 1 for part in space.spaces.values())
    )
