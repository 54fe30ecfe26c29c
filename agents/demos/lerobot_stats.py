"""Statistics as LeRobotDataset v3 keeps them: min, max, mean, std, count and five quantiles, by episode and of the set.

Those of pictures are by channel, of values in [0, 1], over at most 20 pictures an episode. Quantiles of the set are the
episodes' quantiles averaged by count, as LeRobot's own aggregation has it; the others are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PICTURES = 20
Stats = dict[str, NDArray[Any]]


def stats_of(values: NDArray[Any]) -> Stats:
    """Of a feature over an episode.

    Args:
        values: (T,) or (T, n); pictures uint8 (T, height, width, 3).

    Returns:
        Arrays of shape (n,), of pictures (3, 1, 1); ``count`` has the shape (1,).
    """
    if values.ndim == 4:
        chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), PICTURES)).round().astype(int))
        rows = values[chosen].reshape(-1, 3).astype(np.float64) / 255.0
        found = _of_rows(rows)
        return {name: array.reshape(3, 1, 1) for name, array in found.items()} | {"count": np.array([len(chosen)])}
    rows = values.reshape(len(values), -1).astype(np.float64)
    return _of_rows(rows) | {"count": np.array([len(rows)])}


def _of_rows(rows: NDArray[np.float64]) -> Stats:
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0), "max": rows.max(axis=0), "mean": rows.mean(axis=0), "std": rows.std(axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }  # fmt: skip


def together(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Stats:
    """Of one feature over all episodes."""
    counts = np.array([float(part["count"][0]) for part in parts])
    weights = counts / counts.sum()

    def mean(name: str) -> NDArray[np.float64]:
        return np.tensordot(weights, np.stack([part[name] for part in parts]), axes=1)

    centre = mean("mean")
    spread = np.stack([part["std"] ** 2 + (part["mean"] - centre) ** 2 for part in parts])
    return {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": centre,
        "std": np.sqrt(np.tensordot(weights, spread, axes=1)),
        **{name: mean(name) for name in QUANTILES},
        "count": np.array([int(counts.sum())]),
    }
