"""Imitation: behaviour cloning from demonstrations, inverse-dynamics pre-training, DAgger.

Sources: the low level of *Multi-Stage Cable Routing through Hierarchical Imitation Learning* (Luo et al., arXiv
2307.08927) for network, loss and schedule; DAgger: Ross, Gordon, Bagnell, AISTATS 2011, arXiv 1011.0686.

Reading order: :mod:`config` (every number) -> :mod:`distribution` (the loss) -> :mod:`networks` -> :mod:`augmentation`
-> :mod:`policy` (what acts and is saved) -> :mod:`samples` (demonstrations as arrays) -> :mod:`optimisation` ->
:mod:`tasks` (whether policy, demonstrations and task fit) -> :mod:`cloning` (the loop, checkpoints) ->
:mod:`inverse_dynamics` -> :mod:`dagger`.

Names are imported on first use, so that reading the settings does not load torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cadenza.agents.imitation.cloning import clone, fine_tune
    from cadenza.agents.imitation.config import CloningConfig
    from cadenza.agents.imitation.dagger import dagger
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.imitation.samples import Samples

__all__ = ["CloningConfig", "ImitationPolicy", "Samples", "clone", "dagger", "fine_tune"]

_HOME = {
    "CloningConfig": "config",
    "ImitationPolicy": "policy",
    "Samples": "samples",
    "clone": "cloning",
    "dagger": "dagger",
    "fine_tune": "cloning",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
