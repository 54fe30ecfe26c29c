"""What an observation or a reward term is, as data, and how a vector of observations is put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cadenza.envs.legged.signals import Signals

Array = NDArray[np.float64]
Source = Literal["encoder", "imu", "command", "memory", "privileged"]
"""Who knows a quantity on the robot: its joint encoders, its inertial unit, whoever commands it, the policy's own
program (last action, phase of the gait), or nobody but the simulation."""


@dataclass(frozen=True)
class ObservationTerm:
    """A named part of the observation."""

    name: str
    size: int
    source: Source
    read: Callable[[Signals], Array]
    """The quantity in SI units, shape (n, size)."""
    scale: float = 1.0
    """What it is multiplied by in the observation."""
    noise: float = 0.0
    """Half width of the uniform noise in a randomised simulation, in SI units."""
    unit: str = ""
    meaning: str = ""
    factors: tuple[float, ...] = ()
    """Of each entry, beside ``scale``; empty: all 1."""

    @property
    def gains(self) -> Array:
        """What each entry is multiplied by in the observation, shape (size,)."""
        return np.full(self.size, self.scale) * (np.array(self.factors) if self.factors else 1.0)


@dataclass(frozen=True)
class RewardTerm:
    """A named part of the reward: a bounded quantity, of which the configuration knows the weight."""

    name: str
    read: Callable[[Signals], Array]
    """Shape (n,), in [0, 1]."""
    meaning: str = ""


class ObservationLayout:
    """The order of terms in the observation vector: actor's terms, their history, then privileged ones.

    Args:
        terms: in the order of the vector; privileged terms come last.
        history: how many samples of every actor term, the newest first.
    """

    def __init__(self, terms: Sequence[ObservationTerm], history: int = 1):
        if history < 1:
            raise ValueError(f"An observation holds at least the newest sample: history {history} must be 1 or more.")
        self.actor = tuple(term for term in terms if term.source != "privileged")
        self.privileged = tuple(term for term in terms if term.source == "privileged")
        if (*self.actor, *self.privileged) != tuple(terms):
            raise ValueError("Privileged observation terms must come last, so that the actor's are a slice.")
        names = [term.name for term in terms]
        if len(set(names)) != len(names):
            raise ValueError(f"Observation terms must have different names, got {', '.join(names)}.")
        self.history = history
        self.sample_size = sum(term.size for term in self.actor)
        self.actor_size = history * self.sample_size
        self.size = self.actor_size + sum(term.size for term in self.privileged)
        self.scale = np.concatenate([term.gains for term in self.actor])
        self.noise = np.concatenate([term.noise * term.gains for term in self.actor])

    def sample(self, signals: Signals) -> Array:
        """The actor's terms as they are now, scaled, without noise, shape (n, sample_size)."""
        return np.concatenate([term.read(signals) for term in self.actor], axis=1) * self.scale

    def known_to_critics(self, signals: Signals) -> Array | None:
        """The privileged terms, scaled, shape (n, ...); None where there are none."""
        if not self.privileged:
            return None
        return np.concatenate([term.read(signals) * term.scale for term in self.privileged], axis=1)

    def slices(self) -> dict[str, slice]:
        """Where the newest sample of each term lies in the vector."""
        out, start = {}, 0
        for term in self.actor:
            out[term.name] = slice(start, start + term.size)
            start += term.size
        start = self.actor_size
        for term in self.privileged:
            out[term.name] = slice(start, start + term.size)
            start += term.size
        return out

    def names(self) -> tuple[str, ...]:
        """One name an entry of the actor's slice, as a bundle lists them: ``gyro[0]``, or ``gyro[0]@1`` a step ago."""
        return tuple(
            f"{term.name}[{index}]" + (f"@{age}" if age else "")
            for age in range(self.history)
            for term in self.actor
            for index in range(term.size)
        )


def bell(error: Array, width: float) -> Array:
    """1 where the error is 0, 1/e where it is ``width``: exp(-(error / width)^2)."""
    return np.exp(-np.square(error / width))


def norm_bell(error: Array, width: float) -> Array:
    """:func:`bell` of the length of (n, k) vectors."""
    return np.exp(-np.square(error).sum(axis=1) / width**2)


def share(values: Array, most: float) -> Array:
    """Values of at least 0 as a share of ``most``, cut at 1."""
    return np.minimum(values / most, 1.0)
