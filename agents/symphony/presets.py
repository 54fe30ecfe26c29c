"""Every number of Symphony, as data: one frozen config, one entry a preset.

Presets named after the paper's variants reproduce it; where the paper's text and the authors' release differ there
are two entries (``ed`` / ``ed_paper``, ``s2`` / ``s2_paper``, ``saya`` / ``saya_paper``). ``cpu`` is ours.
Importing this module loads neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cadenza.envs.setting_types import wrong_type

ALPHA = (math.sqrt(5.0) - 1.0) / 2.0
"""1/phi, the inverse golden ratio: Adam's beta1 and the weight of the past in the value trace Q_T."""


@dataclass(frozen=True)
class SymphonyConfig:
    """Settings of one Symphony learner, grouped as in the paper; names shared with SAC mean what they mean there."""

    summary: str = ""
    """One line shown by ``cadenza list presets``."""

    # Networks
    hidden_size: int = 512
    """Width h of every feed-forward block."""
    critic_nodes: int = 128
    """Outputs n of each of the three critic heads; the value distribution has Nq = 3n entries."""
    resine: Literal["scaled", "width", "scaled_width"] = "scaled"
    """ReSine form: learned scale (S3), learned gate width (Saya release), both (Saya paper)."""
    gradient_dropout: Literal["none", "output", "latent"] = "none"
    """Where GradientDropout sits: nowhere, behind every block's output (S2), on the reward latent (Saya)."""
    gradient_dropout_p: float | None = 0.5
    """Share of gradient entries zeroed; None draws p ~ sigmoid(N(0, 1)) for every entry (Saya paper)."""
    feature_extractor: bool = False
    """Saya's z(s), reward network and za(s, a); the latent width is k = Nq/8."""

    # Action
    noise_std: float = 1.0 / math.e
    """Standard deviation of the bounded noise inside the tanh; the noise is clipped to [-1, 1]."""
    clamp: Literal["actor", "swaddling"] = "actor"
    """Where scale and resistance are kept off 0 and 1: in the actor (S3) or only inside the swaddling loss (Saya)."""
    clamp_epsilon: float = 1e-3
    """Distance kept from 0 and from 1."""

    # Objective
    gamma: float = 0.99
    """Discount factor."""
    swaddling_reduction: Literal["mean", "sum"] = "mean"
    """Reduction of the swaddling loss over action dimensions."""
    swaddling_in_target: bool = False
    """Subtract the swaddling of the next action from the bootstrapped value (paper, eq. 6)."""
    critic_weights: Literal["tanh", "bell"] = "tanh"
    """Law of the fixed weights on the sorted critic values: S3's tanh or Saya's one-sided bell."""
    value_trace: Literal["sample", "mean"] = "sample"
    """Q_T per sample with its mean carried on (S3), or one scalar (Saya)."""
    advantage_scale: Literal["trace", "spread"] = "trace"
    """What the advantage is divided by: |Q_T| (the paper), or the standard deviation of q' over the batch (ours)."""

    smoothness_weight: float = 0.0
    """Weight of the mean squared difference between the noise-free next action and the stored action before it (ours,
    after CAPS, Mysore et al. 2021, whose temporal term compares two noise-free actions). 0 = off, as in the paper."""

    # Ours: rewards that are a vector of groups (envs/reward_groups.py)
    critics: Literal["scalar", "per_group", "summed", "summed_scaled"] = "scalar"
    """Read the environment's scalar reward (the paper); a critic triple for each reward group (multi-critic Symphony);
    or, for comparison, one triple on the weighted sum of the groups as they are, or each divided by its own r_bar."""
    reward_weights: Mapping[str, float] | None = None
    """Group -> weight, all together 1; a group that is left out is not learned from. None: the environment's own."""
    group_gamma: Mapping[str, float] | None = None
    """Group -> discount, for groups whose own differs from ``gamma``. ``gamma={"safety": 0.9}`` sets it too."""
    group_advantage_scale: Literal["spread", "trace"] = "spread"
    """``advantage_scale`` of each of several groups. A group whose values lie about 0 cannot have the trace."""
    group_balance: Literal["pull", "none"] = "pull"
    """What several groups' advantages are brought to before they are weighted: the same mean pull on the action, so
    that weights are shares of the actor's attention, or nothing more than their own scale."""

    # Optimiser
    learning_rate: float = 1e-4
    learning_rate_end: float | None = None
    """Where a linear decay of the learning rate ends (ours). None keeps it constant, as the paper does, and so does an
    end above the start."""
    learning_rate_steps: int = 150_000
    """Environment steps over which it decays."""
    weight_decay: float = 0.01
    tau: float = 0.005
    """Polyak coefficient of the target critic; Adam's beta2 is 1 - tau."""
    actor_average: float = 0.0
    """Polyak coefficient of a second, averaged actor, which acts wherever no noise is asked for: in evaluation and in
    bundles (ours). The environments of the training and the updates keep the newest actor. 0 = off, as in the paper."""
    annealed_epsilon: bool = False
    """Start AdamW's epsilon near 1 and anneal it to 1e-8 with beta2: SGD at first, Adam later (Saya)."""

    # Replay
    buffer_size: int = 512_000
    learning_starts: int = 10_240
    """Exploration steps N_exp taken with the untrained actor and noise."""
    prefill_repeats: bool = True
    """Repeat the exploration transitions until the buffer is full, as the paper does. Off: the age law runs over
    the transitions really stored."""
    age_law: Literal["tanh", "bell", "power_law", "uniform"] = "tanh"
    """Sampling probability by age: S3's tanh, Saya's bell, p ~ i, or uniform."""
    storage: Literal["float16", "float32"] = "float32"
    """Number format of stored observations and actions (rewards are always float32)."""

    mirror: bool | Literal["auto"] = False
    """Mirror half of every batch left to right (ours): legged robots learn to turn and step to both sides from the data
    of one. True asks for an environment that says how; "auto" mirrors where it does, and does nothing elsewhere."""

    # Loop
    batch_size: int = 384
    gradient_steps: int = 3
    """Updates per call of train(), i.e. per environment step with train_freq = 1."""
    train_freq: int = 1
    overlap: bool = False
    """Step the environments while the learner updates, on a thread of their own (ours): actions are one update older.
    Has no effect with train_freq > 1 or where environments render."""
    deliberate_fall_steps: int = 50
    """From this many steps before the artificial time limit on (steps 950 to 1,000 of 1,000) the scaled action is
    zeroed and only noise remains, so that the episode ends in a true terminal. 0 = off."""
    noiseless: bool = False
    """Real-robot mode: no noise in the environment after exploration, std 1/2 in updates, rewards in the target
    multiplied by the mean resistance."""

    # Ours: observation normalisation (running moments of the stored observations, inside the policy)
    normalize_observations: bool = False
    normalize_every: int = 2_000
    normalize_until: int = 60_000
    """The moments are refreshed every ``normalize_every`` steps and frozen at ``normalize_until``."""
    normalize_clip: float = 10.0

    def __post_init__(self) -> None:
        positive = (
            "hidden_size critic_nodes batch_size buffer_size learning_starts train_freq gradient_steps noise_std "
            "learning_rate tau normalize_every learning_rate_steps normalize_clip"
        )
        for name in positive.split():
            if getattr(self, name) <= 0:
                raise ValueError(f"Symphony: {name} must be positive, got {getattr(self, name)}.")
        for name in ("learning_rate_end", "deliberate_fall_steps", "smoothness_weight", "normalize_until"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"Symphony: {name} must not be below 0, got {value}.")
        for name in ("gamma", "tau", "gradient_dropout_p"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"Symphony: {name} must lie in [0, 1], got {value}.")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Symphony: {name} must be one of {', '.join(map(str, choices))}; got {getattr(self, name)!r}."
                )
        if self.feature_extractor and 3 * self.critic_nodes < 8:
            raise ValueError("Symphony: the feature extractor needs critic_nodes >= 3, as its width is Nq/8.")
        if self.gradient_dropout == "latent" and not self.feature_extractor:
            raise ValueError("Symphony: gradient_dropout='latent' needs feature_extractor=True.")
        if not 0.0 < self.clamp_epsilon < 0.5:
            raise ValueError(f"Symphony: clamp_epsilon must lie in (0, 0.5), got {self.clamp_epsilon}.")
        if self.clamp == "actor" and self.clamp_epsilon < 1e-7:
            raise ValueError(
                f"Symphony: clamp_epsilon = {self.clamp_epsilon} is lost beside 1 in float32; give 1e-7 or more."
            )
        if not 0.0 <= self.actor_average < 1.0:
            raise ValueError(f"Symphony: actor_average must lie in [0, 1), got {self.actor_average}.")
        self._check_groups()
        if self.learning_starts > self.buffer_size:
            raise ValueError(
                f"Symphony: learning_starts ({self.learning_starts}) must not exceed buffer_size ({self.buffer_size})."
            )

    def _check_groups(self) -> None:
        for name in ("reward_weights", "group_gamma"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"Symphony: {name} maps reward groups to numbers, as in {{'reach': 0.5}}; got {value!r}."
                )
            if self.critics == "scalar":
                raise ValueError(f"Symphony: {name} needs critics='per_group' (or summed, summed_scaled).")
        for name, gamma in (self.group_gamma or {}).items():
            if not 0.0 <= gamma <= 1.0:
                raise ValueError(f"Symphony: the gamma of {name!r} must lie in [0, 1], got {gamma}.")
        if self.group_gamma and self.critics != "per_group":
            raise ValueError("Symphony: one critic has one gamma; discounts by group need critics='per_group'.")

    @property
    def value_count(self) -> int:
        """Nq, the number of values the three critic heads (of one group) give together."""
        return 3 * self.critic_nodes

    @property
    def latent_size(self) -> int:
        """k = Nq/8, the width of the feature extractor and of the reward latent."""
        return self.value_count // 8

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        return dataclasses.asdict(self)


_CHOICES: dict[str, tuple[str | bool, ...]] = {
    "resine": ("scaled", "width", "scaled_width"),
    "gradient_dropout": ("none", "output", "latent"),
    "clamp": ("actor", "swaddling"),
    "swaddling_reduction": ("mean", "sum"),
    "critic_weights": ("tanh", "bell"),
    "value_trace": ("sample", "mean"),
    "advantage_scale": ("trace", "spread"),
    "critics": ("scalar", "per_group", "summed", "summed_scaled"),
    "group_advantage_scale": ("spread", "trace"),
    "group_balance": ("pull", "none"),
    "age_law": ("tanh", "bell", "power_law", "uniform"),
    "storage": ("float16", "float32"),
    "mirror": (True, False, "auto"),
}

_S3 = SymphonyConfig(summary="S3, the paper's main variant: h 512, n 128, three updates a step")
_ED = dataclasses.replace(
    _S3,
    summary="ED (authors' release): h 384, n 96, two updates a step, float16 storage",
    hidden_size=384,
    critic_nodes=96,
    batch_size=288,
    gradient_steps=2,
    learning_starts=7_680,
    buffer_size=384_000,
    storage="float16",
)
_S2 = dataclasses.replace(
    _S3,
    summary="S2 (authors' release): S3 with GradientDropout behind every block and half the learning rate",
    learning_rate=5e-5,
    learning_starts=20_480,
    gradient_dropout="output",
)
_SAYA = SymphonyConfig(
    summary="Saya (authors' release): feature extractor, reward network, one update a step",
    hidden_size=384,
    critic_nodes=64,
    resine="width",
    gradient_dropout="latent",
    feature_extractor=True,
    clamp="swaddling",
    clamp_epsilon=1e-8,
    swaddling_in_target=True,
    critic_weights="bell",
    value_trace="mean",
    tau=0.001,
    annealed_epsilon=True,
    buffer_size=500_000,
    learning_starts=10_000,
    age_law="bell",
    storage="float16",
    batch_size=192,
    gradient_steps=1,
    deliberate_fall_steps=100,
)

_CPU = dataclasses.replace(
    _S3,
    summary="ours, for two CPU cores: small S3, normalised observations, mirrored batches, less noise, a falling rate",
    hidden_size=128,
    critic_nodes=32,
    batch_size=128,
    gradient_steps=1,
    noise_std=0.2,
    learning_rate=6e-4,
    learning_rate_end=1.5e-4,
    buffer_size=300_000,
    learning_starts=5_000,
    prefill_repeats=False,
    normalize_observations=True,
    actor_average=5e-4,
    mirror="auto",
    overlap=True,
)

PRESETS: dict[str, SymphonyConfig] = {
    "cpu": _CPU,
    "demo": dataclasses.replace(
        _CPU,
        summary="ours, for `make demo`: half of cpu's work per step, to see learning within minutes",
        critic_nodes=16,
        batch_size=64,
        buffer_size=100_000,
        learning_starts=2_000,
    ),
    "ed": _ED,
    "ed_paper": dataclasses.replace(
        _ED, summary="ED as the paper's text has it: batch 384, three updates a step", batch_size=384, gradient_steps=3
    ),
    "se": dataclasses.replace(_S3, summary="SE: S3 with less noise (std 1/pi)", noise_std=1.0 / math.pi),
    "s3": _S3,
    "s2": _S2,
    "s2_paper": dataclasses.replace(
        _S2, summary="S2 as the paper's text has it: swaddling summed over actions", swaddling_reduction="sum"
    ),
    "saya": _SAYA,
    "saya_paper": dataclasses.replace(
        _SAYA,
        summary="Saya as the paper's text has it: h 768, n 128, batch 384, ReSine with scale and width",
        hidden_size=768,
        critic_nodes=128,
        resine="scaled_width",
        gradient_dropout_p=None,
        buffer_size=1_000_000,
        learning_starts=20_000,
        batch_size=384,
    ),
}


def resolve_config(preset: str, overrides: dict[str, Any]) -> SymphonyConfig:
    """The preset with ``overrides`` applied.

    Raises:
        ValueError: unknown preset (the message lists the nearest names), or a value of the wrong type or out of range.
        TypeError: unknown override; the message lists the nearest names.
    """
    from difflib import get_close_matches

    if preset not in PRESETS:
        near = get_close_matches(preset, PRESETS, n=3, cutoff=0.3) or list(PRESETS)
        raise ValueError(f"Unknown Symphony preset {preset!r}. Nearest: {', '.join(near)}.")
    fields = {f.name for f in dataclasses.fields(SymphonyConfig)}
    for name in overrides:
        if name not in fields:
            near = get_close_matches(name, fields, n=3, cutoff=0.3)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            raise TypeError(f"Symphony has no setting {name!r}.{hint}")
    if isinstance(overrides.get("gamma"), Mapping):
        overrides = {**overrides, "group_gamma": dict(overrides["gamma"])}
        del overrides["gamma"]
    if wrong := wrong_type(SymphonyConfig, overrides):
        raise ValueError(f"Symphony: {wrong}.")
    return dataclasses.replace(PRESETS[preset], **overrides)
