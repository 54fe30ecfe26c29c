"""What an update writes into the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cadenza.agents.symphony.group_replay import GroupReplayBuffer
from cadenza.agents.symphony.objective import Loss

if TYPE_CHECKING:
    from cadenza.agents.symphony.symphony import Symphony


def record_loss(model: Symphony, loss: Loss) -> None:
    """The parts of ``loss``, and what scales them, into ``model``'s logger; by reward group where there are several."""
    logger, groups, buffer = model.logger, model.groups, model.replay_buffer
    logger.record("train/n_updates", model._n_updates, exclude="tensorboard")
    logger.record("train/loss", loss.total.item())
    logger.record("train/critic_loss", loss.critic.item())
    logger.record("train/advantage", loss.advantage.item())
    logger.record("train/swaddling", loss.swaddling.item())
    if model.config.feature_extractor:
        logger.record("train/reward_loss", loss.reward.item())
    logger.record("train/value_trace", loss.value_trace.mean().item())
    logger.record("train/scale_mean", loss.next_scale.mean().item())
    logger.record("train/resistance_mean", loss.next_resistance.mean().item())
    if loss.by_group is not None:
        assert groups is not None
        parts = (("advantage", loss.by_group), ("value_trace", loss.value_trace), ("weight", model.policy.attention))
        for kind, numbers in parts:
            for name, number in zip(groups.names, numbers, strict=True):
                logger.record(f"train/{kind}_{name}", float(number))
    if isinstance(buffer, GroupReplayBuffer):
        assert groups is not None
        for name, scale in zip(groups.names, buffer.reward_scales, strict=True):
            logger.record(f"train/reward_scale_{name}", float(scale))
    else:
        logger.record("train/reward_scale", buffer.reward_scale)
