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
            CadenzaError: they have none.
        """
        try:
            mirror = env.get_attr("mirror")[0]
        except AttributeError as error:
            raise CadenzaError(
                "mirror=true needs an environment that knows its mirror image, and this one does not.",
                "The humanoids and legged tasks such as cadenza/OP3Walk-v0 do; train others without.",
            ) from error
        return cls(mirror, device)

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
