"""SLIM: skill discovery with one critic per reward, and the multi-critic PPO under it.

Source of the idea: *SLIM: Skill Learning with Multiple Critics* (Emukpere, Wu, Perez, Renders; arXiv 2402.00823).

Reading order: :mod:`presets` (every number) -> :mod:`surrogates` (the loss) -> :mod:`multi_critic_buffer` (advantages
per group) -> :mod:`multi_critic_policy` (the networks) -> :mod:`multi_critic_ppo` (the learner for any vector reward)
-> :mod:`skills` and :mod:`diversity` (what a skill is, and what makes skills different) -> :mod:`slim`.

Names are imported on first use, so that listing the presets does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadenza.agents.slim.diversity import DIAYN, LSD, METRA
    from cadenza.agents.slim.multi_critic_policy import MultiCriticPolicy
    from cadenza.agents.slim.multi_critic_ppo import MultiCriticPPO
    from cadenza.agents.slim.presets import PRESETS, SlimConfig
    from cadenza.agents.slim.skills import SkillConditioned, SkillPrior
    from cadenza.agents.slim.slim import SLIM

__all__ = [
    "DIAYN",
    "LSD",
    "METRA",
    "PRESETS",
    "SLIM",
    "MultiCriticPPO",
    "MultiCriticPolicy",
    "SkillConditioned",
    "SkillPrior",
    "SlimConfig",
]

_HOME = {
    "DIAYN": "diversity",
    "LSD": "diversity",
    "METRA": "diversity",
    "MultiCriticPPO": "multi_critic_ppo",
    "MultiCriticPolicy": "multi_critic_policy",
    "PRESETS": "presets",
    "SLIM": "slim",
    "SkillConditioned": "skills",
    "SkillPrior": "skills",
    "SlimConfig": "presets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
