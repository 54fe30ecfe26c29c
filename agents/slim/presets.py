"""Every number of SLIM, and its baselines as other numbers of the same code. Importing this loads no torch.

None of the values is the paper's: its hyper-parameters are not known to us. They are ours, for two processor cores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name
from cadenza.envs.setting_types import wrong_type

REACH, DIVERSITY, SAFETY = "reach", "diversity", "safety"


@dataclass(frozen=True)
class SlimConfig:
    """Settings of :class:`~cadenza.agents.slim.SLIM`; :data:`PRESETS` has the named ones."""

    # Skills
    objective: Literal["lsd", "metra", "diayn"] = "lsd"
    """What makes skills different."""
    skill: Literal["circle", "sphere", "one_hot"] = "circle"
    """What z is drawn from."""
    skill_size: int = 2
    """Entries of z."""
    features: Literal["object", "full_state"] = "object"
    """What of the world skills must change: the object's pose alone forces manipulation."""

    # Rewards
    weights: Mapping[str, float] = field(default_factory=lambda: {REACH: 0.2, DIVERSITY: 0.6, SAFETY: 0.2})
    """Group -> weight, all together 1; groups that are left out are not learned from."""
    critics: Literal["per_group", "summed", "summed_scaled"] = "per_group"
    """One critic per group, or one on the weighted sum: of rewards as they are, or divided by running deviations."""
    clip_mode: Literal["summed", "per_critic"] = "summed"
    """Clip the sum of the advantages, or each of them."""
    normalize_advantage: Literal["rollout", "running"] = "rollout"
    """Divide each group's advantages by their deviation in the rollout, or in all rollouts so far."""
    normalize_returns: bool = True
    """Critics predict in units of their own returns."""
    normalize_observations: bool = True
    """By running moments inside the policy."""

    # PPO
    n_steps: int = 256
    """Steps of each environment in a rollout: 4,096 transitions of 16. With 1,024 diversity, which few of them have
    anything to say about, stopped rising at 0.0008 a step (docs/slim.md)."""
    batch_size: int = 1024
    """Transitions in a minibatch."""
    n_epochs: int = 5
    """Passes over a rollout."""
    learning_rate: float = 3e-4
    """Where it starts; ``desired_kl`` moves it."""
    desired_kl: float | None = 0.02
    """Size of an update that the learning rate aims at; None: a fixed rate."""
    gamma: float = 0.99
    """Discount of every group, or of the single critic."""
    gammas: Mapping[str, float] = field(default_factory=lambda: {SAFETY: 0.9})
    """Group -> discount, where it is another. What is unsafe shows within a few steps; judged over a hundred, an action
    is also charged for everything that happens later by chance (docs/slim.md). A single critic cannot have it."""
    gae_lambda: float = 0.95
    """Bias against variance of the advantages."""
    clip_range: float = 0.2
    """PPO's epsilon."""
    ent_coef: float = 0.0
    """Weight of the entropy."""
    vf_coef: float = 0.5
    """Weight of the critics' losses."""
    max_grad_norm: float = 1.0
    """Of the actor, and of each critic."""
    hidden: tuple[int, ...] = (256, 256)
    """Layers of actor and critics, with ELU."""
    log_std_init: float = -0.7
    """Logarithm of the first exploration noise, in units of the action. At 0 the changes of the action are most of what
    safety sees."""

    # phi, or DIAYN's discriminator
    phi_hidden: tuple[int, ...] = (256, 256)
    """Its layers."""
    phi_learning_rate: float = 1e-4
    """Of Adam."""
    phi_epochs: int = 4
    """Passes over a rollout's transitions."""
    phi_batch_size: int = 256
    """Transitions in a minibatch."""


_SLIM = SlimConfig()
_ALONE = {DIVERSITY: 1.0}
_NAIVE = {REACH: 0.5, DIVERSITY: 0.5}


def _single(objective: Literal["lsd", "metra", "diayn"], weights: Mapping[str, float]) -> SlimConfig:
    return dataclasses.replace(_SLIM, objective=objective, weights=weights, critics="summed")


PRESETS: dict[str, SlimConfig] = {
    "slim": _SLIM,
    "diayn": _single("diayn", _ALONE),
    "lsd": _single("lsd", _ALONE),
    "metra": _single("metra", _ALONE),
    "diayn_reach": _single("diayn", _NAIVE),
    "lsd_reach": _single("lsd", _NAIVE),
    "metra_reach": _single("metra", _NAIVE),
    "single_raw": dataclasses.replace(_SLIM, critics="summed"),
    "single_scaled": dataclasses.replace(_SLIM, critics="summed_scaled"),
    "without_safety": dataclasses.replace(_SLIM, weights={REACH: 0.25, DIVERSITY: 0.75}),
    "without_reach": dataclasses.replace(_SLIM, weights={DIVERSITY: 0.75, SAFETY: 0.25}),
}
"""SLIM and what it is compared with. ``*_reach`` add the reach reward naively, one critic on the plain sum; those named
``single_*`` are SLIM's three groups with one critic; ``without_*`` leave a group out, in the ratio of the other two."""

SUMMARIES: dict[str, str] = {
    "slim": "reach, diversity (LSD) and safety, a critic each",
    "diayn": "diversity alone by DIAYN, one critic",
    "lsd": "diversity alone by LSD, one critic",
    "metra": "diversity alone by METRA, one critic",
    "diayn_reach": "DIAYN and reach added up, one critic",
    "lsd_reach": "LSD and reach added up, one critic",
    "metra_reach": "METRA and reach added up, one critic",
    "single_raw": "SLIM's three rewards, weighted and added up, one critic",
    "single_scaled": "the same, each reward divided by its running deviation",
    "without_safety": "SLIM without the safety critic",
    "without_reach": "SLIM without the reach critic",
}
"""Preset -> what it is, for people."""


_POSITIVE = (
    "n_steps", "batch_size", "n_epochs", "learning_rate", "phi_learning_rate", "phi_batch_size", "phi_epochs",
    "skill_size", "clip_range", "max_grad_norm",
)  # fmt: skip


_NAMED = ("objective", "skill", "features", "critics", "clip_mode", "normalize_advantage")
"""Settings whose unknown values are answered with the nearest, where they are used."""


def resolve_config(preset: str, overrides: Mapping[str, Any]) -> SlimConfig:
    """The preset with ``overrides`` applied; lists become tuples, as JSON has no tuples.

    Raises:
        CadenzaError: unknown preset or setting (the nearest names are listed), or a number out of range.
    """
    if preset not in PRESETS:
        raise unknown_name("SLIM preset", preset, PRESETS)
    names = [one.name for one in dataclasses.fields(SlimConfig)]
    for name in overrides:
        if name not in names:
            raise unknown_name("setting of slim", name, names)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in overrides.items()
    }
    if wrong := wrong_type(SlimConfig, {name: value for name, value in values.items() if name not in _NAMED}):
        raise CadenzaError(f"{wrong}.", "`cadenza list presets` shows what can be set.")
    config = dataclasses.replace(PRESETS[preset], **values)
    for name in _POSITIVE:
        if not getattr(config, name) > 0:
            raise CadenzaError(f"{name} must be above 0, not {getattr(config, name)}.")
    for name in ("vf_coef", "ent_coef"):
        if getattr(config, name) < 0:
            raise CadenzaError(f"{name} must not be below 0, got {getattr(config, name)}.")
    for name in ("hidden", "phi_hidden"):
        if min(getattr(config, name), default=0) < 1:
            raise CadenzaError(f"{name} must name at least one layer, each of 1 or more, not {getattr(config, name)}.")
    for name, value in {"gamma": config.gamma, "gae_lambda": config.gae_lambda, **config.gammas}.items():
        if not 0.0 <= value <= 1.0:
            raise CadenzaError(f"{name} must lie in [0, 1], not {value}.")
    return config
