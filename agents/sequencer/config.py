"""Every number of the sequencer. Importing this loads no torch.

Network, history, batch and rate are those of the release of arXiv 2307.08927; limits are those of our task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name


@dataclass(frozen=True)
class SelectorConfig:
    """Settings of the learned choice of primitives."""

    history: int = 6
    """How many primitives back it remembers; before the first there is a padding id."""
    id_size: int = 4
    """Numbers an id becomes."""
    hidden: int = 256
    """Width of its layers."""
    features: str | None = None
    """Without an embedding of its own it reads the observation's vectors, or this feature set of them."""
    parts: tuple[str, ...] = ()
    """Of that feature set only the entries of these names; none: all."""
    signals: bool = False
    """Tell it the struggle signals too (:mod:`cadenza.agents.sequencer.signals`)."""
    steps: int = 30_000
    """Updates; the learning rate reaches 0 with the last."""
    batch_size: int = 128
    """Decisions in an update."""
    learning_rate: float = 3e-4
    """Where the cosine begins."""
    weight_decay: float = 1e-2
    """Of AdamW, on weights of linear layers."""
    held_out: float = 0.1
    """Share of the layouts kept for validation."""
    validate_every: int = 2_000
    """Updates between validations."""
    checkpoint_every: int = 5_000
    """Updates between checkpoints."""
    seed: int = 0
    """Of weights and batches."""

    def __post_init__(self) -> None:
        for name in ("history", "id_size", "hidden", "steps", "batch_size", "learning_rate", "validate_every"):
            if not getattr(self, name) > 0:
                raise CadenzaError(f"{name} must be above 0, not {getattr(self, name)}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class MachineLimits:
    """When the state machine gives up."""

    attempts_per_stage: int = 8
    """Primitives tried at one stage."""
    settle_s: float = 0.6
    """How long the last of these primitives goes on after it succeeded, before the stage is given up: what it did may
    count a moment later only, as a cable does that has to lie in its clip for half a second."""
    time_limit_s: float | None = None
    """Cuts a primitive that does not keep to its own limit; None: its own."""
    flat_s_per_stage: float = 24.0
    """How long a policy without primitives may act, for each stage."""


def resolve_selector_config(overrides: Mapping[str, Any], base: SelectorConfig | None = None) -> SelectorConfig:
    """``base`` with ``overrides``.

    Raises:
        CadenzaError: an unknown setting (the nearest names are listed), or a number out of range.
    """
    names = [one.name for one in dataclasses.fields(SelectorConfig)]
    for name in overrides:
        if name not in names:
            raise unknown_name("setting of the sequencer", name, names)
    values = dict(overrides)
    if "parts" in values:
        parts = values["parts"]
        values["parts"] = tuple(parts) if isinstance(parts, list | tuple) else (parts,)
    return dataclasses.replace(base or SelectorConfig(), **values)
