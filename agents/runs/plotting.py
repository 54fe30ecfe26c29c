"""Learning curves of runs as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.runs.metrics import read_table
from cadenza.agents.runs.settings import RunFolder, RunSettings
from cadenza.envs.errors import CadenzaError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def plot_runs(runs: list[Path], destination: Path, *, over: str = "step", title: str = "") -> None:
    """Return over steps or wall-clock, one colour a run: training episodes (thin, smoothed) and evaluations (dots).

    Args:
        runs: run folders.
        destination: the picture; its suffix chooses the format.
        over: ``step`` or ``elapsed_s``.
        title: above the axis.

    Raises:
        CadenzaError: a folder that is no run, no finished episode yet, or an unwritable destination.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (axis, lower) = pyplot.subplots(
        2, 1, figsize=(8, 6), height_ratios=(3, 1), sharex=True, constrained_layout=True
    )
    scale = 60.0 if over == "elapsed_s" else 1_000.0
    drawn = False
    for index, path in enumerate(runs):
        folder = RunFolder(path)
        settings = folder.read_settings()
        colour = COLOURS[index % len(COLOURS)]
        label = run_label(settings)
        episodes = _columns(folder.episodes)
        if episodes:
            x, y = episodes[over] / scale, episodes["return"]
            axis.plot(x, y, color=colour, alpha=0.12, linewidth=0.6)
            axis.plot(x, _smooth(y), color=colour, alpha=0.7, linewidth=1.2, label=f"{label}: training episodes")
            lower.plot(x, _smooth(episodes["length"]), color=colour, linewidth=1.2)
            drawn = True
        evaluations = _columns(folder.evaluations)
        if evaluations:
            x, y = evaluations[over] / scale, evaluations["return_mean"]
            axis.errorbar(
                x, y, evaluations["return_std"], color=colour, marker="o", markersize=4, capsize=2, linewidth=1.4,
                label=f"{label}: noise-free (n={int(evaluations['n'][-1])}, ± std)",
            )  # fmt: skip
            drawn = True
    if not drawn:
        raise CadenzaError("There is nothing to plot yet: no episode has ended.", "Wait for the run's first episodes.")
    axis.set_ylabel("return")
    axis.set_title(title or "Learning curves")
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    lower.set_ylabel("episode length")
    lower.set_xlabel("wall-clock [min]" if over == "elapsed_s" else "environment steps [thousands]")
    for ax in (axis, lower):
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    save_figure(figure, destination)


def run_label(settings: RunSettings) -> str:
    """What a run is called in a legend."""
    name = settings.agent if settings.preset is None else f"{settings.agent} {settings.preset}"
    return f"{name} · {settings.env_id} · seed {settings.seed}"


def save_figure(figure: Figure, destination: Path) -> None:
    """Write and close a figure.

    Raises:
        CadenzaError: the place cannot be written, or matplotlib does not know the suffix.
    """
    from matplotlib import pyplot

    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(destination, dpi=130)
    except (OSError, ValueError) as error:  # ValueError: the suffix
        raise CadenzaError(
            f"Cannot write {destination}: {getattr(error, 'strerror', None) or error}.",
            "Choose another place with --out.",
        ) from error
    finally:
        pyplot.close(figure)


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    rows = read_table(path) if path.is_file() else []
    if not rows:
        return {}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def _smooth(values: NDArray[np.float64], window: int = 25) -> NDArray[np.float64]:
    """Mean over the last ``window`` episodes (fewer at the start)."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    first = np.maximum(np.arange(len(values)) + 1 - window, 0)
    ends = np.arange(1, len(values) + 1)
    return np.asarray((total[ends] - total[first]) / (ends - first))
