"""What runs would have done to the motors, side by side, as a PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.runs.metrics import read_table
from cadenza.agents.runs.plotting import COLOURS, run_label, save_figure
from cadenza.agents.runs.settings import RunFolder
from cadenza.envs.errors import CadenzaError
from cadenza.robots.motor_thermal import XM430_W350

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Panel:
    """One axis: a metric of :mod:`cadenza.envs.motor_metrics` and how it is shown."""

    metric: str
    title: str
    unit: str
    factor: float = 1.0
    per_time: bool = False
    """Shown as a share of the time that the row covers."""
    line: float | None = None
    """Where the limit is drawn."""
    line_text: str = ""
    log: bool = False


PANELS = (
    Panel("saturated_share", "Commands beyond 95 % of the range", "%", 100.0),
    Panel("action_change_mean", "Change of a command, mean", "half ranges per step"),
    Panel("action_change_p99", "Change of a command, 99th percentile", "half ranges per step"),
    Panel("jerk_rms", "Jerk of a command, RMS", "half ranges per step³"),
    Panel("high_frequency_power_share", "Command power above 1/4 Nyquist", "%", 100.0),
    Panel("torque_rms_over_rated", "Torque, RMS", "times the rated torque", line=1.0, line_text="rated"),
    Panel("winding_peak_c", "Hottest winding so far", "°C", line=XM430_W350.limit_c, line_text="limit", log=True),
    Panel(
        "winding_settled_c", "Hottest winding if this went on", "°C", line=XM430_W350.limit_c, line_text="limit",
        log=True,
    ),
    Panel("winding_over_limit_s", "Time with a winding above the limit", "%", 100.0, per_time=True),
    Panel("gearbox_shocks_per_min", "Gearbox shocks, all joints", "per minute"),
)  # fmt: skip
"""Upper row: the commands; lower row: torque, heat and gears."""


def plot_motors(runs: list[Path], destination: Path, *, over: str = "step", title: str = "") -> None:
    """The motor metrics over steps or wall-clock, one colour a run: training (line) and noise-free evaluations (dots).

    Args:
        runs: run folders.
        destination: the picture; its suffix chooses the format.
        over: ``step`` or ``elapsed_s``.
        title: above the panels.

    Raises:
        CadenzaError: a folder that is no run, no figures of motors in any, or an unwritable destination.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    told = [
        (run_label(folder.read_settings()), _read(folder.motors), _read(folder.evaluations))
        for folder in map(RunFolder, runs)
    ]
    if not any(panel.metric in columns for _, *tables in told for columns in tables for panel in PANELS):
        raise CadenzaError(
            "There is nothing to plot yet: no run has figures of its motors.",
            "They are written at each evaluation; runs of before the motors were watched have none.",
        )
    figure, axes = pyplot.subplots(2, 5, figsize=(20, 7.4), sharex=True, constrained_layout=True)
    scale = 60.0 if over == "elapsed_s" else 1_000.0
    for panel, axis in zip(PANELS, axes.flat, strict=True):
        for index, (_, *tables) in enumerate(told):
            for columns, style in zip(tables, (_TRAINING, _EVALUATION), strict=True):
                if panel.metric in columns:
                    axis.plot(
                        columns[over] / scale, _shown(panel, columns), color=COLOURS[index % len(COLOURS)], **style
                    )
        _finish(panel, axis)
    for axis in axes[-1]:
        axis.set_xlabel("wall-clock [min]" if over == "elapsed_s" else "environment steps [thousands]")
    handles = [
        Line2D([], [], color=COLOURS[index % len(COLOURS)], linewidth=2, label=label)
        for index, (label, *_) in enumerate(told)
    ]
    handles.append(Line2D([], [], color="0.4", label="while training, since the last point", **_TRAINING))
    handles.append(Line2D([], [], color="0.4", label="noise-free evaluation, motors cold at its start", **_EVALUATION))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False, fontsize=10)
    figure.suptitle(title or "What these runs would have done to the motors", fontsize=14)
    save_figure(figure, destination)


_TRAINING: dict[str, Any] = {"linestyle": "-", "linewidth": 1.6, "marker": ".", "markersize": 3}
_EVALUATION: dict[str, Any] = {"linestyle": ":", "linewidth": 1.0, "marker": "o", "markersize": 4}


def _read(path: Path) -> Columns:
    """The numeric columns that the panels need."""
    rows = read_table(path) if path.is_file() else []
    wanted = ["step", "elapsed_s", "seconds", *(panel.metric for panel in PANELS)]
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in wanted if rows and name in rows[0]}


def _shown(panel: Panel, columns: Columns) -> NDArray[np.float64]:
    values = columns[panel.metric] * panel.factor
    return values / columns["seconds"] if panel.per_time else values


def _finish(panel: Panel, axis: Any) -> None:
    axis.set_title(f"{panel.title}\n[{panel.unit}]", fontsize=10)
    if panel.unit == "%":
        axis.set_ylim(-2, 102)
    elif panel.log:
        # A policy that holds its motors at full torque ends beyond 1000 degrees; one that does not stays near 40.
        axis.set_yscale("log")
        ticks = [25, 50, 100, 200, 400, 800, 1600]
        axis.set_yticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.set_ylim(20, 1600)
    else:
        top = axis.get_ylim()[1]
        axis.set_ylim(-0.02 * top, top)  # a line along 0 must be seen
    if not axis.lines:
        axis.text(
            0.5,
            0.5,
            "not known:\nno MuJoCo motors with a limit",
            ha="center",
            va="center",
            transform=axis.transAxes,
            color="0.4",
        )
    if panel.line is not None:
        axis.axhline(panel.line, color="0.35", linewidth=1, linestyle="--", zorder=0)
        axis.annotate(
            panel.line_text,
            (0.0, panel.line),
            xycoords=("axes fraction", "data"),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=8,
            color="0.35",
        )
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
