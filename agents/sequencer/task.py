"""What a task must offer to be sequenced: an environment, primitives, stages, and an expert for labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cadenza.agents.sequencer.primitive import Context, Observation, Primitive

Info = Mapping[str, Any]


class SequenceTask(Protocol):
    """A long task in stages (clips of a cable, or getting up before walking), with one environment inside.

    The machine and the learned choice see observations and primitives. ``finished`` and ``expert_choice`` look at what
    nobody could measure: they score, label, and serve the oracle.

    Optional: ``watched``, a :class:`cadenza.agents.sequencer.signals.Watched`: which entries of the action are motion
    and what of the observation shows progress, for the struggle signals; without, everything counts.
    """

    name: str
    stages: int
    rate_hz: float
    """Of control."""
    order: tuple[str, ...]
    """Names of primitives in which a script does one stage."""
    primitives: Mapping[str, Primitive]  # may be replaced: a learned one for a script, one that is watched
    """By name; their order gives the ids that are remembered and learned."""

    def reset(self, seed: int) -> tuple[Observation, Info]:
        """Begin an episode; everything that is drawn in it comes from ``seed``."""

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Info]:
        """As of a Gymnasium environment."""

    def stage(self, info: Info) -> int:
        """Which stage is being worked on, 0, 1, ..."""

    def aim(self, stage: int) -> None:
        """Work on ``stage`` from now on, whatever is done: for the script. Nothing to do where primitives move on."""

    def finished(self, info: Info) -> tuple[bool, ...]:
        """Which stages are done, (stages,)."""

    def over(self, info: Info) -> bool:
        """Whether there is nothing left to do, done well or not."""

    def context(self, info: Info) -> Context:
        """What a primitive is told when it starts."""

    def expert_choice(self) -> str:
        """The primitive that an expert would choose now."""

    def close(self) -> None:
        """Let the environment go."""
