"""Demonstrations from the logs of a deployed robot (``cadenza deploy --log``).

Each stretch in which the policy drove is an episode. Its observation is what the robot measured: ``joint_position``
[rad], ``joint_velocity`` [rad/s], ``gravity`` and ``gyro`` of the inertial unit, if it has one, and the ``command`` it
was given; its action the position targets that were sent [rad]. Timestamps are those of the ticks, as the loop measured
them. A tick in which a joint or the inertial unit was not read is left out, and the time between its neighbours is what
it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos.errors import DemoError
from cadenza.agents.demos.recorder import DemoRecorder
from cadenza.agents.demos.schema import Feature, Schema
from cadenza.controllers.log_summary import RunLog, read_log

ACTIVE = "active"
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Told:
    """What a log gave."""

    episodes: int
    steps: int
    left_out: int
    """Ticks in which the policy drove and something was not measured."""


def record_log(log_file: Path, folder: Path, *, task: str | None = None) -> Told:
    """Add the episodes of a log to a set.

    Args:
        log_file: the .mcap.
        folder: of the set; one of the same robot, rate and settings is continued.
        task: in words; None for the name of the bundle.

    Raises:
        TelemetryError: no log that can be read.
        DemoError: the policy never drove, or the set is of another kind.
    """
    log = read_log(log_file)
    active = np.array([state == ACTIVE for state in log.state])
    columns = _columns(log, active)
    known = active & np.all([np.isfinite(values).all(axis=1) for values in columns.values()], axis=0)
    if not known.any():
        raise DemoError(f"In {log_file} the policy never drove.", "`cadenza log summary` tells what happened.")
    recorder = DemoRecorder(folder, _schema(log, columns), description=f"logs of {_robot(log)}")
    told = [0, 0]
    for stretch in _stretches(active):
        rows = [row for row in stretch if known[row]]
        if not rows:
            continue
        told = [told[0] + 1, told[1] + len(rows)]
        source = {"log": log_file.name, "bundle_sha256": log.metadata.get("bundle_sha256", ""), "bus": _bus(log)}
        recorder.start(None, task or log.metadata.get("bundle", log_file.stem), source)
        for row in rows:
            last = row == rows[-1]
            recorder.add(
                {name: values[row] for name, values in columns.items() if name != "action"},
                columns["action"][row],
                truncated=last,
                timestamp_s=float(log.time_s[row]),
                extras={"loop_late_ms": float(log.loop["late_ms"][row])},
            )
        recorder.finish(True, metadata={"success": "not judged: a log does not say what was wanted"})
    return Told(told[0], told[1], int((active & ~known).sum()))


def _columns(log: RunLog, active: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """name -> (T, n), what is not known NaN."""
    sent = np.where(np.isnan(log.joints["sent_q"]), log.joints["applied_q"], log.joints["sent_q"])
    columns = {"joint_position": log.joints["q"], "joint_velocity": log.joints["dq"]}
    if np.isfinite(log.gravity[active]).any():
        columns |= {"gravity": log.gravity, "gyro": log.gyro}
    return columns | {"command": log.command, "action": sent}


def _schema(log: RunLog, columns: dict[str, NDArray[np.float64]]) -> Schema:
    names = {"joint_position": log.joint_names, "joint_velocity": log.joint_names, "gravity": AXES, "gyro": AXES}
    names |= {"command": ("vx", "vy", "yaw_rate"), "action": log.joint_names}
    features = {name: Feature("float32", (values.shape[1],), names[name]) for name, values in columns.items()}
    action = features.pop("action")
    return Schema(_robot(log), {}, round(1.0 / log.period_s, 6), features, action, ())


def _stretches(active: NDArray[np.bool_]) -> list[range]:
    """Rows of each run of active ticks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(int)))
    return [range(start, stop) for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]


def _robot(log: RunLog) -> str:
    return log.metadata.get("robot") or "robot"


def _bus(log: RunLog) -> str:
    return log.metadata.get("bus", "")
