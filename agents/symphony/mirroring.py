"""Symmetry as data: half of every batch is seen in a mirror, where the environment says how (ours).

The transitions of a batch are drawn independently, so mirroring its second half mirrors each with probability 1/2. See
Mittal et al. 2024, "Symmetry Considerations for Learning Task Symmetric Robot Policies" (arXiv 2403.04359), who augment
the batches of PPO so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch

from cadenza.envs.errors import CadenzaError

if TYPE_CHECKING:
    from cadenza.agents.symphony.replay import Batch


class BatchMirror:
    """Mirrors batches in place.

    Args:
        mirror: a :class:`cadenza.envs.mirror.Mirror`.
        device: of the batches.
    """

    def __init__(self, mirror: Any, device: torch.device):
        self._observation = self._tensors(mirror.observation_index, mirror.observation_sign, device)
        self._action = self._tensors(mirror.action_index, mirror.action_sign, device)

    @classmethod
    def of(cls, env: Any, device: torch.device) -> Self:
        """From a VecEnv whose environments have a ``mirror``.

        Raises:
            CadenzaError: they have none, or one of other observations or actions.
        """
        if not env.has_attr("mirror"):
            raise CadenzaError(
                "mirror=true needs an environment that knows its mirror image, and this one does not.",
                "The humanoids and legged tasks such as cadenza/OP3Walk-v0 do; train others without.",
            )
        if not cls.fits(env):
            raise CadenzaError(
                "The environment's mirror is of other observations or actions than those it is trained with.",
                "A wrapper that changes them needs a `mirror` of its own; train without mirror=true otherwise.",
            )
        return cls(env.get_attr("mirror")[0], device)

    @staticmethod
    def fits(env: Any) -> bool:
        """Whether the VecEnv's environments have a ``mirror``, and of as many entries as they are trained with: a
        wrapper that stacks observations shows the mirror of what it wraps.
        """
        if not env.has_attr("mirror"):
            return False
        mirror = env.get_attr("mirror")[0]
        sizes = (len(mirror.observation_index),), (len(mirror.action_index),)
        return sizes == (env.observation_space.shape, env.action_space.shape)

    def apply(self, batch: Batch) -> None:
        """Mirror the second half of a batch."""
        half = len(batch.rewards) // 2
        for values, (index, sign) in (
            (batch.observations, self._observation),
            (batch.next_observations, self._observation),
            (batch.actions, self._action),
        ):
            values[half:] = values[half:, index] * sign

    @staticmethod
    def _tensors(index: Any, sign: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.as_tensor(index, device=device), torch.as_tensor(sign, dtype=torch.float32, device=device)
