"""Symphony: an off-policy actor-critic made for training humanoids from scratch, gently.

Source of the algorithm: *Symphony: A Heuristic Normalized Calibrated Advantage Actor and Critic Algorithm with
Application to Humanoid Robots* (Ishuov, Folgheraiter, Nurmanov, Gordo, Farkas, Dombi; arXiv 2512.10477).

Reading order: :mod:`presets` (every number) -> :mod:`losses` (the formulas) -> :mod:`networks` (the blocks)
-> :mod:`replay` (the Fading Replay Buffer) -> :mod:`policy` (actor, critics, target) -> :mod:`symphony`
(the Stable-Baselines3 algorithm around them). Rewards of several groups: :mod:`groups`, :mod:`group_replay`.

Names are imported on first use, so that listing the presets does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadenza.agents.symphony.presets import PRESETS, SymphonyConfig
    from cadenza.agents.symphony.replay import FadingReplayBuffer
    from cadenza.agents.symphony.symphony import Symphony

__all__ = ["PRESETS", "FadingReplayBuffer", "Symphony", "SymphonyConfig"]

_HOME = {
    "PRESETS": "presets",
    "SymphonyConfig": "presets",
    "FadingReplayBuffer": "replay",
    "Symphony": "symphony",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
