"""What every step of a set of demonstrations holds: names, dtypes, shapes, rate, cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cadenza.agents.demos.errors import DemoError

DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
"""What a feature may consist of."""


@dataclass(frozen=True)
class Feature:
    """One named array of a step."""

    dtype: str
    """One of :data:`DTYPES`."""
    shape: tuple[int, ...]
    """Of one step, without time."""
    names: tuple[str, ...] | None = None
    """Of the entries, in C order; None where nobody has named them."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise DemoError(f"A feature cannot consist of {self.dtype!r}.", f"There are: {', '.join(DTYPES)}.")
        if any(side < 1 for side in self.shape):
            raise DemoError(f"A feature of shape {self.shape} holds nothing.")
        if self.names is not None and len(self.names) != self.size:
            raise DemoError(f"{len(self.names)} names do not fit a feature of shape {self.shape}.")

    @property
    def size(self) -> int:
        """Numbers in one step."""
        return math.prod(self.shape)

    @property
    def is_picture(self) -> bool:
        """Whether it has the form of a camera's picture: uint8 of shape (height, width, 3)."""
        return self.dtype == "uint8" and len(self.shape) == 3 and self.shape[2] == 3

    def entry_names(self, key: str) -> list[str]:
        """A name for each entry: ``key.name`` where it has names, else ``key.0``, ``key.1``, ..."""
        return [f"{key}.{name}" for name in (self.names or range(self.size))]

    def to_json(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_json` reads it."""
        return {"dtype": self.dtype, "shape": list(self.shape), "names": list(self.names) if self.names else None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Feature:
        """What :meth:`to_json` wrote."""
        names = data.get("names")
        return cls(str(data["dtype"]), tuple(int(n) for n in data["shape"]), tuple(names) if names else None)


@dataclass(frozen=True)
class Schema:
    """What a set is of. Two sets with one schema hold interchangeable episodes."""

    env_id: str
    env_settings: Mapping[str, Any]
    """JSON-able arguments of the environment."""
    rate_hz: float
    """Nominal steps per second; what was measured is in each episode's timestamps."""
    observation: Mapping[str, Feature]
    action: Feature
    cameras: tuple[str, ...]
    """Keys of ``observation`` that are pictures, uint8 (height, width, 3), RGB."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise DemoError(f"The rate must be above 0 Hz, got {self.rate_hz:g}.")
        if not self.observation:
            raise DemoError("A demonstration needs at least one observation.")
        for key in self.observation:
            if not key or "/" in key:
                raise DemoError(f"{key!r} cannot be the name of an observation.", "Names are not empty and have no /.")
        for key in self.cameras:
            if key not in self.observation:
                raise DemoError(f"The camera {key!r} is no observation.", f"There are: {', '.join(self.observation)}.")
            if not self.observation[key].is_picture:
                raise DemoError(f"The camera {key!r} must be uint8 of shape (height, width, 3).")
        if len(self.action.shape) != 1:
            raise DemoError(f"Actions must be vectors, got the shape {self.action.shape}.")

    @property
    def vectors(self) -> dict[str, Feature]:
        """The observations that are no pictures."""
        return {key: feature for key, feature in self.observation.items() if key not in self.cameras}

    def to_json(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_json` reads it."""
        return {
            "env_id": self.env_id,
            "env_settings": _plain(self.env_settings),
            "rate_hz": self.rate_hz,
            "observation": {key: feature.to_json() for key, feature in self.observation.items()},
            "action": self.action.to_json(),
            "cameras": list(self.cameras),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Schema:
        """What :meth:`to_json` wrote."""
        return cls(
            env_id=str(data["env_id"]),
            env_settings=dict(data["env_settings"]),
            rate_hz=float(data["rate_hz"]),
            observation={key: Feature.from_json(feature) for key, feature in data["observation"].items()},
            action=Feature.from_json(data["action"]),
            cameras=tuple(data["cameras"]),
        )

    def differences(self, other: Schema, *, task: bool = True) -> list[str]:
        """In words, what the two do not share; empty where their episodes may stand in one set.

        Args:
            other: to compare with; named second.
            task: whether environment and its settings count too. Without, only what a learner sees is compared:
                rate, dimensions, names, cameras.
        """
        found = []
        if task and self.env_id != other.env_id:
            found.append(f"environment: {self.env_id} against {other.env_id}")
        if task and _plain(self.env_settings) != _plain(other.env_settings):
            found.append(f"settings: {_plain(self.env_settings)} against {_plain(other.env_settings)}")
        if not math.isclose(self.rate_hz, other.rate_hz, rel_tol=1e-6):
            found.append(f"rate: {self.rate_hz:g} Hz against {other.rate_hz:g} Hz")
        if self.cameras != other.cameras:
            found.append(f"cameras: {_list(self.cameras)} against {_list(other.cameras)}")
        for key in dict.fromkeys([*self.observation, *other.observation]):
            mine, theirs = self.observation.get(key), other.observation.get(key)
            if mine is None or theirs is None:
                found.append(f"observation {key!r}: {_words(mine)} against {_words(theirs)}")
            else:
                found += _unlike(f"observation {key!r}", mine, theirs)
        if list(self.observation) != list(other.observation) and set(self.observation) == set(other.observation):
            found.append(f"order of the observations: {_list(self.observation)} against {_list(other.observation)}")
        return found + _unlike("action", self.action, other.action)


def _unlike(what: str, mine: Feature, theirs: Feature) -> list[str]:
    if (mine.dtype, mine.shape) != (theirs.dtype, theirs.shape):
        return [f"{what}: {_words(mine)} against {_words(theirs)}"]
    if mine.names and theirs.names and mine.names != theirs.names:
        pair = next(pair for pair in zip(mine.names, theirs.names, strict=True) if pair[0] != pair[1])
        return [f"{what}: entries are named differently ({pair[0]} against {pair[1]})"]
    return []


def _words(feature: Feature | None) -> str:
    return "none" if feature is None else f"{feature.dtype} {feature.shape}"


def _list(names: Any) -> str:
    return ", ".join(names) or "none"


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return value.item() if isinstance(value, np.generic) else value
