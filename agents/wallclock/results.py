"""What the runs of the benchmark gave: one row per evaluation, curves and figures per agent, and who beats whom."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.runs.metrics import read_table
from cadenza.agents.runs.motors import training_totals
from cadenza.agents.runs.settings import RunFolder, write_bytes
from cadenza.agents.wallclock.child import RETURNS
from cadenza.agents.wallclock.plan import Plan, PlannedRun, is_symphony, progress_of
from cadenza.agents.wallclock.statistics import iqm, iqm_interval, mean_interval
from cadenza.envs.motor_metrics import METRICS

THRESHOLDS = (1_000, 3_000, 5_000)
"""Returns whose first reaching is timed."""
COLUMNS = (
    "agent", "seed", "phase", "step", "train_s", "return_mean", "return_std", "n", "length_mean", "survived",
    "forward_velocity_mean", *METRICS, "returns",
)  # fmt: skip
"""Of wallclock.csv. ``phase`` is ``training`` or ``final``; motor columns are of the evaluation's own episodes."""


@dataclass(frozen=True)
class Finished:
    """A run whose budget is used."""

    run: PlannedRun
    final: dict[str, Any]
    rows: list[dict[str, Any]]
    """Its evaluations in the columns of :data:`COLUMNS`, the final one last; a figure that is not there is None."""
    motors: dict[str, float] | None
    """What training did to the motors; None where the environment has none."""
    preset_settings: dict[str, Any] | None = None
    """What the run's preset said; None for an agent without presets, and where it was not recorded."""


def finished_runs(plan: Plan) -> list[Finished]:
    """The runs of ``plan`` that are done, in its order."""
    found = []
    for run in plan.runs():
        final = progress_of(run, plan).final
        if final is not None:
            rows = [*_training_rows(run), _final_row(run, final)]
            folder = RunFolder(run.folder)
            settings = folder.read_record().get("preset_settings")
            found.append(Finished(run, final, rows, training_totals(folder.motors), settings))
    return found


def _training_rows(run: PlannedRun) -> list[dict[str, Any]]:
    returns = {int(row["step"]): row["returns"] for row in read_table(run.folder / RETURNS)}
    names = ("train_s", "return_mean", "return_std", "length_mean", "forward_velocity_mean", *METRICS)
    rows = []
    for row in read_table(RunFolder(run.folder).evaluations):
        step = int(row["step"])
        numbers = {name: float(row[name]) if row.get(name) else None for name in names}
        counts = {"n": int(row["n"]), "survived": int(row["survived"])}
        identity = {"agent": run.agent, "seed": run.seed, "phase": "training", "step": step}
        rows.append({**identity, **numbers, **counts, "returns": [float(value) for value in returns[step].split()]})
    return rows


def _final_row(run: PlannedRun, final: dict[str, Any]) -> dict[str, Any]:
    evaluation = final["evaluation"]
    names = ("return_mean", "return_std", "n", "length_mean", "survived", "forward_velocity_mean", "returns")
    motors = evaluation.get("motors") or {}
    return {
        "agent": run.agent,
        "seed": run.seed,
        "phase": "final",
        "step": final["step"],
        "train_s": final["train_s"],
        **{name: evaluation[name] for name in names},
        **{name: motors.get(name) for name in METRICS},
    }


def write_rows(path: Path, runs: list[Finished]) -> None:
    """The rows of all runs as CSV; the returns of the episodes stand in one field, separated by blanks."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in (row for finished in runs for row in finished.rows):
        shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        writer.writerow({**shown, "returns": " ".join(f"{value:.6g}" for value in row["returns"])})
    write_bytes(path, text.getvalue().encode())


# ------------------------------------------------------------------ curves


@dataclass(frozen=True)
class Curve:
    """Return of one agent over its evaluations, all seeds together."""

    agent: str
    seeds: int
    train_s: NDArray[np.float64]
    """Training clock, mean over seeds [s]."""
    steps: NDArray[np.float64]
    """Environment steps, mean over seeds."""
    iqm: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curve_of(runs: list[Finished], every_s: float) -> Curve:
    """The training evaluations of one agent's ``runs``, put together by their number on the clock.

    An evaluation comes with the first rollout after its mark, so that the seeds' clocks differ by less than one.
    """
    marks = [_by_mark(run.rows, every_s) for run in runs]
    common = sorted(set.intersection(*(set(found) for found in marks)))
    points = []
    for mark in common:
        rows = [found[mark] for found in marks]
        returns = np.array([row["returns"] for row in rows])
        clock, steps = mean(row["train_s"] for row in rows), mean(row["step"] for row in rows)
        points.append((clock, steps, float(iqm(returns.ravel())), *iqm_interval(returns, draws=500)))
    columns = np.array(points, dtype=np.float64).reshape(len(points), 5).T
    return Curve(runs[0].run.agent, len(runs), *columns)


def _by_mark(rows: list[dict[str, Any]], every_s: float) -> dict[int, dict[str, Any]]:
    return {round(row["train_s"] / every_s): row for row in rows if row["phase"] == "training"}


# ------------------------------------------------------------------ figures


@dataclass(frozen=True)
class Figure:
    """One column of the comparison for one agent."""

    value: float | None
    """None: never reached, or not measured."""
    text: str
    """As the table shows it."""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Column:
    """What is compared, and which way is better."""

    name: str
    higher_is_better: bool
    missing_is_worst: bool = False
    """A threshold never reached loses to one that was."""

    def better(self, a: Figure, b: Figure) -> bool:
        """Whether ``a`` is better than ``b`` by more than the table's rounding."""
        if a.value is None or a.text == b.text:
            return False
        if b.value is None:
            return self.missing_is_worst
        return a.value > b.value if self.higher_is_better else a.value < b.value


MEAN, MIDDLE = "mean return at the budget", "interquartile mean at the budget"
MOTOR_TITLES = {
    "saturated_share": "commands saturated",
    "action_change_mean": "change of command per step",
    "action_change_p99": "change of command, 99th percentile",
    "jerk_rms": "jerk of command, RMS",
    "high_frequency_power_share": "power of command above 1/4 Nyquist",
    "torque_rms_over_rated": "torque over rated, RMS",
    "winding_peak_c": "hottest winding [°C]",
    "winding_settled_c": "winding settles at [°C]",
    "winding_over_limit_s": "winding over its limit [s]",
    "gearbox_shocks_per_min": "gear shocks per min",
}
"""All of :data:`METRICS` but the count of shocks, which grows with the time that is looked at."""
PHASES = ("training", "final policy")
MAIN = (
    Column("steps", True),
    Column("steps/s", True),
    Column(MEAN, True),
    Column(MIDDLE, True),
    Column("best evaluation", True),
    Column("forward velocity [m/s]", True),
)
REACHED = tuple(
    Column(f"{what} to {threshold:,}", False, missing_is_worst=True)
    for threshold in THRESHOLDS
    for what in ("min", "steps")
)
MOTORS = {phase: tuple(Column(f"{title}, {phase}", False) for title in MOTOR_TITLES.values()) for phase in PHASES}
"""By phase, in the order of the titles."""


def figures_of(runs: list[Finished]) -> dict[str, Figure]:
    """All columns for one agent's ``runs``; those that need a motor only where there is one."""
    finals = [run.rows[-1] for run in runs]
    returns = np.array([row["returns"] for row in finals])
    steps = mean(row["step"] for row in finals)
    rate = mean(row["step"] / row["train_s"] if row["train_s"] else 0.0 for row in finals)
    best = mean(max((row["return_mean"] for row in run.rows[:-1]), default=run.rows[-1]["return_mean"]) for run in runs)
    figures = {
        "steps": Figure(steps, f"{steps:,.0f}"),
        "steps/s": Figure(rate, f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}"),
        MEAN: _return_figure(float(returns.mean()), mean_interval(returns), returns.size),
        MIDDLE: _return_figure(float(iqm(returns.ravel())), iqm_interval(returns), returns.size),
        "best evaluation": Figure(best, f"{best:,.0f}"),
    }
    velocities = [row["forward_velocity_mean"] for row in finals]
    figures["forward velocity [m/s]"] = _mean_figure(velocities, 2)
    for threshold in THRESHOLDS:
        reached = [row for row in (_first_reaching(run.rows, threshold) for run in runs) if row is not None]
        among = "" if len(reached) == len(runs) else f" ({len(reached)} of {len(runs)})"
        minutes = median(row["train_s"] for row in reached) / 60 if reached else None
        count = median(row["step"] for row in reached) if reached else None
        figures[f"min to {threshold:,}"] = Figure(minutes, "-" if minutes is None else f"{minutes:.1f}{among}")
        figures[f"steps to {threshold:,}"] = Figure(count, "-" if count is None else f"{count:,.0f}{among}")
    for key, title in MOTOR_TITLES.items():
        training, final = (f"{title}, {phase}" for phase in PHASES)
        figures[training] = _mean_figure([(run.motors or {}).get(key) for run in runs], 3)
        figures[final] = _mean_figure([row[key] for row in finals], 3)
    return figures


def _return_figure(value: float, interval: tuple[float, float], count: int) -> Figure:
    low, high = interval
    return Figure(value, f"**{value:,.0f}** ({low:,.0f} to {high:,.0f}), n = {count}", interval)


def _mean_figure(values: list[float | None], digits: int) -> Figure:
    there = [value for value in values if value is not None]
    if not there:
        return Figure(None, "-")
    value = mean(there)
    return Figure(value, f"{value:,.{digits if abs(value) < 10 else 0}f}")


def _first_reaching(rows: list[dict[str, Any]], threshold: float) -> dict[str, Any] | None:
    training = (row for row in rows if row["phase"] == "training")
    return next((row for row in training if row["return_mean"] >= threshold), None)


def losses(figures: dict[str, dict[str, Figure]]) -> dict[str, list[str]]:
    """For every Symphony in ``figures`` (agent -> column -> figure): each column in which a peer is better.

    A loss is told with the best peer's figure and ours; where the intervals overlap, it says so.
    """
    told: dict[str, list[str]] = {}
    peers = {agent: columns for agent, columns in figures.items() if not is_symphony(agent)}
    for ours, columns in ((agent, columns) for agent, columns in figures.items() if is_symphony(agent)):
        told[ours] = []
        for column in (*MAIN, *REACHED, *chain.from_iterable(MOTORS.values())):
            ahead: tuple[str, Figure] | None = None
            for peer, theirs in peers.items():
                figure = theirs[column.name]
                if column.better(figure, columns[column.name]) and (not ahead or column.better(figure, ahead[1])):
                    ahead = peer, figure
            if ahead:
                told[ours].append(_loss(column, ahead, columns[column.name]))
    return told


def _loss(column: Column, ahead: tuple[str, Figure], ours: Figure) -> str:
    peer, figure = ahead
    overlap = ""
    if figure.interval and ours.interval and figure.interval[0] <= ours.interval[1]:
        overlap = ", though the intervals overlap"
    return f"{column.name}: {peer} {_bare(figure)} against {_bare(ours)}{overlap}"


def _bare(figure: Figure) -> str:
    return "never" if figure.value is None else figure.text.split(", n = ")[0].replace("**", "")
