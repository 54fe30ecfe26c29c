"""The picture of ``cadenza bench growth``: four log-log panels with the fitted exponents written in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadenza.scripts.bench.timing import Record

# Okabe and Ito's palette, told apart by colour-blind readers too.
_BLUE, _RED, _GREEN, _BLACK = "#0072B2", "#D55E00", "#009E73", "#000000"


@dataclass(frozen=True)
class _Panel:
    series: str
    size: str
    """column of the record on the x axis"""
    sign: str
    """its letter"""
    title: str
    x: str
    left: str
    right: str
    """labels of the axes; an empty one leaves the right-hand axis out"""
    curves: tuple[tuple[str, str, str], ...]
    """(column, label, colour)"""


_PANELS = (
    _Panel(
        "width", "width", "h", "Hidden width", "hidden width h", "ms per update", "MB",
        (("cpu_ms", "time", _BLUE), ("memory_mb", "parameters and optimiser", _RED)),
    ),
    _Panel(
        "batch", "batch", "B", "Batch", "batch B [transitions per update]", "ms per update", "",
        (("cpu_ms", "time", _BLUE),),
    ),
    _Panel(
        "replay", "capacity", "N", "Replay buffer, full, float16", "capacity N [transitions]", "ms", "MB",
        (
            ("cold_draw_cpu_ms", "draw a batch, caches cold", _GREEN), ("draw_cpu_ms", "draw a batch", _BLUE),
            ("add_cpu_ms", "add", _BLACK), ("memory_mb", "memory", _RED),
        ),
    ),
    _Panel(
        "envs", "envs", "n", "Environments in one process", "number of environments n", "ms",
        "environment steps per s",
        (
            ("train_cpu_ms", "training step", _BLUE),
            ("step_cpu_ms", "step all environments", _BLACK),
            ("env_steps_per_cpu_s", "environment steps per s", _RED),
        ),
    ),
)  # fmt: skip
_ON_THE_RIGHT = ("memory_mb", "env_steps_per_cpu_s")


def draw_growth(record: Record, destination: Path) -> None:
    """Draw a record of ``measure_growth``; what belongs to a right-hand axis is dashed and of the axis' colour.

    Raises:
        OSError: the picture cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
    for axis, panel in zip(axes.flat, _PANELS, strict=True):
        _draw(axis, panel, [_with_memory(row) for row in record[panel.series]])
    figure.suptitle(
        f"Growth: preset {record['preset']}, one thread, processor time, medians of {record['repeats']} rounds"
    )
    try:
        figure.savefig(destination, dpi=120)
    finally:
        pyplot.close(figure)


def _with_memory(row: dict[str, Any]) -> dict[str, Any]:
    if "optimizer_mb" in row:
        return {**row, "memory_mb": row["parameter_mb"] + row["optimizer_mb"]}
    if "array_mb" in row:
        return {**row, "memory_mb": row["resident_mb"] or row["array_mb"]}
    return row


def _draw(axis: Any, panel: _Panel, rows: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    from cadenza.scripts.bench.growth import exponent

    x = [row[panel.size] for row in rows]
    right = axis.twinx() if panel.right else None
    handles = []
    for column, label, colour in panel.curves:
        y = [row[column] for row in rows]
        on_right = right is not None and column in _ON_THE_RIGHT
        target: Any = right if on_right else axis
        style = "s--" if on_right else "o-"
        fit, end = exponent(x, y), exponent(x[-3:], y[-3:])
        fit = round(fit, 2) + 0.0  # no -0.00
        text = f"{label}: $\\propto {panel.sign}^{{{fit:.2f}}}$"
        if abs(end - fit) > 0.2:  # no power law over the whole range
            text += f", at the end ${panel.sign}^{{{end:.2f}}}$"
        handles += target.loglog(x, y, style, color=colour, markersize=5, linewidth=1.6, label=text)
    for each, label in ((axis, panel.left), (right, panel.right)):
        if each is None:
            continue
        low, high = each.get_ylim()
        # At least two decades high: noise must not look like growth. Room on top for the legend.
        middle, half = (low * high) ** 0.5, max((high / low) ** 0.5, 10.0)
        each.set_ylim(middle / half, middle * half * 6)
        each.set_ylabel(label)
        each.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        each.yaxis.set_minor_formatter(NullFormatter())
        each.spines[["top"]].set_visible(False)
    if right is not None:
        right.yaxis.label.set_color(_RED)
        right.tick_params(axis="y", colors=_RED)
    axis.set_xticks(x)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.set_xlabel(panel.x)
    axis.set_title(panel.title, loc="left", fontweight="bold")
    axis.grid(alpha=0.25)
    axis.legend(handles=handles, fontsize=9, frameon=False, loc="upper left")


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"
