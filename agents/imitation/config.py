"""Every number of imitation. Importing this loads no torch.

``steps``, ``batch_size``, ``learning_rate``, ``hidden`` and the fine-tuning are those of the release of arXiv
2307.08927; the rest is ours, for two processor cores.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name
from cadenza.envs.setting_types import wrong_type

Encoder = Literal["small", "resnet18"]
Config = TypeVar("Config")
ENCODERS: tuple[str, ...] = ("small", "resnet18")


@dataclass(frozen=True)
class CloningConfig:
    """Settings of behaviour cloning."""

    # What the policy reads
    numbers: tuple[str, ...] = ("state",)
    """Keys of the observation that are vectors."""
    parts: tuple[str, ...] = ()
    """Of these vectors only the entries of these names (``tcp`` takes ``tcp_x``, ``tcp.x``, ...); none: all entries. A
    camera policy that read the cable's points would need no cameras."""
    features: str | None = None
    """Compute this feature set first (:mod:`cadenza.agents.imitation.features`); its vector is then one of those that
    ``numbers`` can name."""
    cameras: tuple[str, ...] = ()
    """Keys of the observation that are pictures, (H, W, 3) uint8."""
    primitive: str | None = None
    """Learn from the steps of this primitive only; None: from all, one policy for the whole task."""
    followed_by: str | None = None
    """With ``primitive``: only from attempts after which the expert chose this one, or that ended a successful episode.
    An expert that chooses ``tighten`` once the cable lies in the clip thereby says which attempts at ``route`` did it,
    failures that were put in left out."""
    intended: bool = True
    """Learn what the expert meant, where it added noise to its actions and that was recorded; else what it did."""
    successes_only: bool = True
    """Leave out episodes that failed."""

    # Networks
    encoder: Encoder = "small"
    """Of each camera, one of its own: a CNN that two cores can train, or a ResNet-18 with GroupNorm."""
    hidden: tuple[int, ...] = (256, 256)
    """Layers behind the encoders, ReLU."""
    log_std_bounds: tuple[float, float] = (-3.0, 1.0)
    """Of the Gaussian before tanh."""
    action_clip: float = 0.999
    """Actions of demonstrations are clipped to +- this before atanh, which has no value at 1."""

    # Learning
    steps: int = 20_000
    """Updates; the learning rate reaches 0 with the last."""
    batch_size: int = 256
    """Steps of demonstrations in an update."""
    learning_rate: float = 1e-3
    """Where the cosine begins."""
    weight_decay: float = 1e-2
    """Of AdamW, on the weights of linear and convolutional layers, and on nothing else."""
    max_grad_norm: float = 10.0
    """Gradients are shortened to this."""
    augment: bool = True
    """Shift and tint the pictures, each by its own draw."""
    jitter: float = 0.0
    """Standard deviation of noise on the normalised numbers in training, so that few demonstrations are not learned by
    heart."""
    freeze_encoder: bool = False
    """Leave encoders as pre-training made them."""
    held_out: float = 0.1
    """Share of the layouts (not of steps or episodes) kept for validation."""
    validate_every: int = 1_000
    """Updates between validations."""
    checkpoint_every: int = 2_000
    """Updates between checkpoints."""
    seed: int = 0
    """Of weights, batches, augmentation and the choice of held-out layouts."""

    def __post_init__(self) -> None:
        # An encoder that there is not is answered with the nearest, below.
        if wrong := wrong_type(type(self), {k: v for k, v in vars(self).items() if k != "encoder"}):
            raise CadenzaError(f"{wrong}.")
        for name in ("steps", "batch_size", "learning_rate", "max_grad_norm", "validate_every", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise CadenzaError(f"{name} must be above 0, not {getattr(self, name)}.")
        for name in ("weight_decay", "jitter", "seed"):
            if getattr(self, name) < 0:
                raise CadenzaError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not self.hidden or min(self.hidden) < 1:
            raise CadenzaError(f"hidden must be the sizes of one or more layers, not {self.hidden}.")
        if not self.log_std_bounds[0] < self.log_std_bounds[1]:
            raise CadenzaError(f"log_std_bounds must be a lower and a higher number, not {self.log_std_bounds}.")
        if not 0.0 < self.action_clip < 1.0:
            raise CadenzaError(f"action_clip must lie between 0 and 1, not {self.action_clip}.")
        if not 0.0 <= self.held_out < 1.0:
            raise CadenzaError(f"held_out must be at least 0 and below 1, not {self.held_out}.")
        if self.followed_by is not None and self.primitive is None:
            raise CadenzaError("followed_by says which attempts of a primitive count; say which: primitive=NAME.")
        if self.encoder not in ENCODERS:
            raise unknown_name("encoder", self.encoder, ENCODERS)
        if not (self.numbers or self.cameras):
            raise CadenzaError("A policy must read something.", "Give numbers=state, or cameras, or both.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


FINE_TUNING: dict[str, Any] = {"steps": 1_000, "learning_rate": 3e-5}
"""Of the release: after people (here: the expert) have corrected on new layouts."""


def resolve_config(overrides: Mapping[str, Any], base: CloningConfig | None = None) -> CloningConfig:
    """``base`` with ``overrides``; lists become tuples, as JSON has no tuples, and one name a tuple of one.

    Raises:
        CadenzaError: an unknown setting (the nearest names are listed), or a number out of range.
    """
    base = base or CloningConfig()
    names = [one.name for one in dataclasses.fields(CloningConfig)]
    values: dict[str, Any] = {}
    for name, value in overrides.items():
        if name not in names:
            raise unknown_name("setting of imitation", name, names)
        if isinstance(getattr(base, name), tuple):
            value = tuple(value) if isinstance(value, list | tuple) else (value,)
        values[name] = value
    return dataclasses.replace(base, **values)


def config_from(kind: type[Config], data: Mapping[str, Any]) -> Config:
    """A configuration of this kind from its JSON, whose lists were tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


def cosine(step: int, steps: int, learning_rate: float) -> float:
    """The learning rate of update ``step`` (0, 1, ...) of ``steps``: half a cosine from ``learning_rate`` to 0."""
    return 0.5 * learning_rate * (1.0 + math.cos(math.pi * min(step / steps, 1.0)))
