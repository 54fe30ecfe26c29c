"""The expert of cable routing as one that demonstrates: it acts step by step, and injects failures to recover from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.cable_routing.expert import expert_choice
from cadenza.agents.cable_routing.scripted import PRIMITIVES, scripted_primitives
from cadenza.envs.cable.settings import PRIMITIVES_PER_CLIP


class CableExpert:
    """Scripted primitives in the order that the privileged state calls for.

    Args:
        seed: of noise and failures.
        noise: of the actions, see :class:`cadenza.agents.cable_routing.scripted.ScriptedPrimitive`.
        drop: probability that an attempt to route drops the cable on the way down.
        misroute: probability that it lays the cable beside the clip.
    """

    def __init__(self, seed: int, noise: float = 0.1, drop: float = 0.2, misroute: float = 0.2) -> None:
        generator = np.random.default_rng([seed, 5])  # of the seed alone it would be the environment's own
        self._primitives = scripted_primitives(noise, generator, drop=drop, misroute=misroute)
        self._world: Any = None
        self._now: Any = None
        self._spent: list[int] = []
        self._tried: list[str] = []
        self._injected: list[str] = []
        self.intended: NDArray[np.float32] = np.zeros(5, np.float32)
        """The last action without the noise."""

    def reset(self, env: Any, observation: Any, info: dict[str, Any]) -> None:
        """Look at the world of a new episode."""
        self._world = env.unwrapped.world
        self._spent, self._now = [0] * self._world.config.clips, None
        self._tried, self._injected = [], []

    def act(self, observation: Any) -> NDArray[np.float32]:
        """The action of the primitive that is on; a new one begins where the last is over."""
        if self._now is None or self._now.done:
            clip = self._world.current_clip
            self._spent[clip] += 1
            self._now = self._primitives[expert_choice(self._world)]
            self._now.start(observation, {"clip": clip, "world": self._world})
            self._tried.append(self._now.name)
            if getattr(self._now, "injected", None):
                self._injected.append(self._now.injected)
        action: NDArray[np.float32] = self._now.act(observation)
        self.intended = self._now.intended
        return action

    @property
    def extras(self) -> dict[str, float]:
        """Number of the attempt in the episode, and whether it was made to fail."""
        return {"attempt": len(self._tried) - 1.0, "injected": float(bool(getattr(self._now, "injected", None)))}

    def label(self) -> int:
        """Index of the primitive in :data:`cadenza.agents.cable_routing.scripted.PRIMITIVES`."""
        return PRIMITIVES.index(self._now.name)

    @property
    def done(self) -> bool:
        """Whether a primitive is over and the clip in work has had its eight."""
        return bool(self._now is not None and self._now.done and self._spent_all())

    def _spent_all(self) -> bool:
        return self._spent[self._world.current_clip] >= PRIMITIVES_PER_CLIP

    def metadata(self) -> dict[str, Any]:
        """Primitives in order, the failures that were injected, and where the clips stood (x, y, yaw; m, rad)."""
        return {
            "primitives": self._tried,
            "primitive_names": list(PRIMITIVES),
            "injected": self._injected,
            "layout": [[round(clip.x, 6), round(clip.y, 6), round(clip.yaw, 6)] for clip in self._world.clips],
            "routed": [bool(routed) for routed in self._world.routed],
        }


def make_expert(seed: int, **settings: Any) -> CableExpert:
    """For :data:`cadenza.agents.demos.experts.EXPERTS`."""
    return CableExpert(seed, **settings)
