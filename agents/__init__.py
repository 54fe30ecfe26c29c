"""Learning algorithms as Stable-Baselines3 classes, and the runs that train, store, measure and export them.

``from cadenza.agents import Symphony`` works without loading torch until the name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadenza.agents.symphony import FadingReplayBuffer, Symphony

__all__ = ["FadingReplayBuffer", "Symphony"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cadenza.agents import symphony

    return getattr(symphony, name)
