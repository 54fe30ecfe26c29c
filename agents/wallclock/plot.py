"""The benchmark's picture: return over wall-clock and over steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.agents.wallclock.plan import is_symphony
from cadenza.agents.wallclock.results import Curve

# Okabe and Ito's palette, told apart by colour-blind readers too; the dark ones first, for Symphony.
_COLOURS = ["#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
_LINES = ["-", "--"]
"""A second style where there are more agents than colours."""
_LABEL_SPACING = 0.055
"""Least distance of two labels, in heights of the panel."""
_LABEL_WIDTH = 0.3
"""Share of the panel's width that a label takes."""


Label = tuple[float, float, str, str]
"""x and y of the point it names, text, colour."""


def plot_curves(curves: list[Curve], destination: Path, title: str) -> None:
    """Draw the interquartile mean of each agent with its 95 % band, named at the end of its line.

    Args:
        curves: one an agent; Symphony's are drawn thicker and on top.
        destination: a PNG.
        title: above both panels.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5.2), sharey=True, constrained_layout=True)
    labels: dict[Any, list[Label]] = {left: [], right: []}
    for index, curve in enumerate(curves):
        if not len(curve.iqm):
            continue
        colour, style = _COLOURS[index % len(_COLOURS)], _LINES[index // len(_COLOURS) % len(_LINES)]
        ours = is_symphony(curve.agent)
        for axis, x in ((left, curve.train_s / 60), (right, curve.steps)):
            axis.fill_between(x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
            axis.plot(
                x, curve.iqm, color=colour, linestyle=style, linewidth=2.6 if ours else 1.5, zorder=3 if ours else 2
            )
            axis.plot(x[-1:], curve.iqm[-1:], color=colour, marker="o", markersize=5, zorder=4)
            labels[axis].append((float(x[-1]), float(curve.iqm[-1]), f"{curve.agent} ({curve.seeds})", colour))
    right.set_xscale("log")
    right.xaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))  # labels of every tick would run into each other
    right.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: _short(x)))
    right.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short(x)))
    left.set_xlim(left=0)
    left.set_xlabel("training wall-clock [min]")
    right.set_xlabel("environment steps (logarithmic)")
    left.set_ylabel("noise-free return: interquartile mean, 95 % band")
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(y=0.06)
    # Room for the names of the left panel, whose lines all end at the budget.
    end = left.get_xlim()[1]
    left.set_xticks([tick for tick in left.get_xticks() if tick <= end])
    left.set_xlim(right=end * 1.35)
    low, high = right.get_xlim()
    right.set_xlim(right=high * (high / low) ** 0.2)
    figure.suptitle(f"{title}\n(seeds in brackets; with one seed the band is over episodes only)", fontsize=11)
    figure.draw_without_rendering()  # the panels get their size, in which labels are set apart
    bottom, top = left.get_ylim()
    _name(left, labels[left], _LABEL_SPACING * (top - bottom), lambda x: 0.0)
    span = np.log(right.get_xlim()[1] / right.get_xlim()[0])
    _name(right, labels[right], _LABEL_SPACING * (top - bottom), lambda x: float(np.log(x) / span))
    try:
        figure.savefig(destination, dpi=130)
    finally:
        pyplot.close(figure)


def _short(steps: float) -> str:
    """5k, 200k, 2M: over three decades longer labels would run into each other."""
    return f"{steps / 1e6:g}M" if steps >= 1e6 else f"{steps / 1e3:g}k" if steps >= 1e3 else f"{steps:g}"


def _name(axis: Any, labels: list[Label], spacing: float, place: Callable[[float], float]) -> None:
    """Write the labels beside their points, moved up or down until they are clear of each other and of the axis.

    ``place`` maps x to a share of the panel's width, by which labels far apart do not push each other.
    """
    from matplotlib import patheffects

    labels = sorted(labels, key=lambda label: label[1])
    heights = [y for _, y, _, _ in labels]
    lowest = axis.get_ylim()[0] + spacing / 2  # below are the ticks
    for _ in range(200):
        for upper in range(len(labels)):
            for lower in range(upper):
                gap = heights[upper] - heights[lower]
                if abs(place(labels[upper][0]) - place(labels[lower][0])) < _LABEL_WIDTH and gap < spacing:
                    heights[upper] += (spacing - gap) / 2
                    heights[lower] -= (spacing - gap) / 2
        heights = [max(height, lowest) for height in heights]
    for (x, y, text, colour), height in zip(labels, heights, strict=True):
        axis.annotate(
            text,
            (x, y),
            (12, _points(axis, height - y)),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            fontweight="bold",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
            path_effects=[patheffects.withStroke(linewidth=2.5, foreground="white")],
        )


def _points(axis: Any, height: float) -> float:
    """A height in data units as printer's points of this panel."""
    bottom, top = axis.get_ylim()
    panel = axis.get_window_extent().height * 72.0 / axis.figure.dpi
    return float(height / (top - bottom) * panel)
