"""Features computed from an observation before a policy reads it, by name, so that a saved policy can find them again.

Of the same numbers some forms are learned from more easily than others: where a cable lies matters relative to its
clip. A feature set sees what the observation holds and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.names import unknown_name

FEATURES: dict[str, tuple[str, str]] = {
    "cable": ("cadenza.agents.sequences.cable_features", "ClipFrame"),
    "cable_view": ("cadenza.agents.sequences.cable_features", "ClipView"),
}
"""Name -> module and class."""


class FeatureSet(Protocol):
    """Adds one vector to an observation."""

    key: str
    """Its name in the observation."""
    names: tuple[str, ...]
    """Of its entries."""

    def __call__(self, observation: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """(N, entries) of a batch of N observations."""


class Described(NamedTuple):
    """Shape and names, as a schema's feature has them."""

    shape: tuple[int, ...]
    names: tuple[str, ...]


def feature_set(name: str) -> FeatureSet:
    """The feature set of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in FEATURES:
        raise unknown_name("feature set", name, FEATURES)
    module, kind = FEATURES[name]
    found: FeatureSet = getattr(import_module(module), kind)()
    return found
