"""The motors of a training run: one row of ``motors.csv`` at each evaluation, and the same figures to TensorBoard.

Each row tells of the steps since the row before, in which the policy explores, and, with ``total_`` before the name, of
the whole run up to there. Several environments are several robots: their times add up.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.agents.runs.metrics import Table, read_table
from cadenza.envs.motor_metrics import METRICS, merge, summarize
from cadenza.envs.motor_watch import motor_watches

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from cadenza.agents.runs.evaluation import Evaluation

TOTAL = "total_"
MOTOR_ROWS = (
    ("saturated_share", "commands beyond 95 % of the range [%]", 100.0, 1),
    ("action_change_mean", "change per step, mean [half ranges]", 1.0, 3),
    ("action_change_p99", "change per step, 99th percentile", 1.0, 3),
    ("jerk_rms", "jerk per step³, RMS [half ranges]", 1.0, 3),
    ("high_frequency_power_share", "command power above 1/4 Nyquist [%]", 100.0, 1),
    ("torque_rms_over_rated", "torque, RMS [times rated]", 1.0, 2),
    ("winding_peak_c", "hottest winding, from cold [°C]", 1.0, 1),
    ("winding_settled_c", "  if this went on for ever [°C]", 1.0, 0),
    ("winding_over_limit_s", "time with a winding above the limit [s]", 1.0, 1),
    ("gearbox_shocks_per_min", "gearbox shocks [per min]", 1.0, 1),
)
"""How evaluations are printed: metric, what it is called, factor, decimals."""


class MotorBook:
    """Writes ``motors.csv``; what it counts lives in the environments, whose state checkpoints hold.

    Args:
        path: the file.
        keep_until: step of the checkpoint that is continued; later rows are cut.
    """

    def __init__(self, path: Path, keep_until: int):
        self.table = Table(path, keep_until)

    def read(self, model: BaseAlgorithm, **clocks: float) -> dict[str, Any] | None:
        """The next row, also recorded in the model's logger as ``motors/...``; None without motors to watch.

        Args:
            model: whose environments are asked, and whose step it is.
            clocks: columns that stand beside the step, such as ``elapsed_s``.
        """
        venv = model.get_env()
        base = getattr(venv, "unwrapped", None)
        record = getattr(base, "motor_record", None)  # of all copies of a vectorised environment
        watches = [record] if record is not None else motor_watches(getattr(base, "envs", []))
        if not watches:
            return None
        first, marks = watches[0], [watch.mark() for watch in watches]
        total, since = (summarize(reduce(merge, part), first.names, first.dt_s) for part in zip(*marks, strict=True))
        row: dict[str, Any] = {"step": model.num_timesteps, **clocks, **_numbers(since)}
        row |= {TOTAL + name: value for name, value in _numbers(total).items()}
        if "winding_peak_c" in total["worst_joint"]:
            row["hottest_joint"] = total["worst_joint"]["winding_peak_c"]
        for name, value in row.items():
            if name not in ("step", "hottest_joint", *clocks):
                model.logger.record(f"motors/{name}", value)
        return row


def _numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures of the whole robot that there are."""
    return {name: summary[name] for name in ("seconds", *METRICS) if summary[name] is not None}


def evaluation_columns(result: Evaluation) -> dict[str, Any]:
    """What ``evaluations.csv`` tells of the motors."""
    return {} if result.motors is None else _numbers(result.motors)


def training_totals(path: Path) -> dict[str, float] | None:
    """What a training run would have done to the motors up to its last row: the metrics by name, without ``total_``.

    Args:
        path: the run's ``motors.csv``.

    Returns:
        ``seconds`` and what there is of :data:`cadenza.envs.motor_metrics.METRICS`; None without a row.
    """
    rows = read_table(path) if path.is_file() else []
    if not rows:
        return None
    return {
        name.removeprefix(TOTAL): float(value) for name, value in rows[-1].items() if name.startswith(TOTAL) and value
    }
