"""Pictures of a run's log: commanded and measured angles, timing, temperatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cadenza.controllers.log_summary import RunLog, percentiles
from cadenza.controllers.telemetry import TelemetryError

_SENT, _MEASURED, _OFF = "#1f6fb4", "#d1495b", "#e9e9e9"
_POINTS = 4_000


def plot_log(log: RunLog, prefix: str | Path, *, window_s: float | None = None) -> list[Path]:
    """Write ``PREFIX-joints.png``, ``PREFIX-timing.png`` and, where motors report it, ``PREFIX-temperatures.png``.

    Args:
        log: from :func:`cadenza.controllers.log_summary.read_log`.
        prefix: of the files.
        window_s: of the joints' picture; None shows the whole run.

    Raises:
        TelemetryError: a file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    prefix = Path(prefix)
    made = [("joints", _joints(plt, log, window_s)), ("timing", _timing(plt, log))]
    if np.isfinite(log.joints["temperature"]).any():
        made.append(("temperatures", _temperatures(plt, log)))
    paths = []
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        for name, figure in made:
            paths.append(prefix.with_name(f"{prefix.name}-{name}.png"))
            figure.savefig(paths[-1], dpi=110)
    except OSError as error:
        raise TelemetryError(f"Cannot write {paths[-1]}: {error.strerror}.") from error
    finally:
        for _, figure in made:
            plt.close(figure)
    return paths


def _joints(plt: Any, log: RunLog, window_s: float | None) -> Any:
    """One small picture a joint, degrees over seconds, on one scale of time."""
    count = len(log.joint_names)
    columns = 4 if count > 9 else 3 if count > 4 else 2 if count > 1 else 1
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.6 * columns, 1.9 * rows + 0.8), sharex=True, squeeze=False)
    end = log.time_s[-1]
    chosen = np.ones(len(log.time_s), dtype=bool) if window_s is None else log.time_s >= end - window_s
    indices = np.flatnonzero(chosen)[:: max(1, int(chosen.sum()) // _POINTS)]
    time_s = log.time_s[indices]
    sent = np.where(np.isnan(log.joints["sent_q"]), log.joints["applied_q"], log.joints["sent_q"])
    off = np.array([state != "active" for state in log.state])[indices]
    for row, axis in enumerate(axes.flat):
        if row >= count:
            axis.set_visible(False)
            continue
        axis.plot(time_s, np.degrees(sent[indices, row]), color=_SENT, lw=0.9, label="sent")
        axis.plot(time_s, np.degrees(log.joints["q"][indices, row]), color=_MEASURED, lw=0.9, label="measured")
        low, high = axis.get_ylim()
        if off.any() and not off.all():
            axis.fill_between(time_s, low, high, where=off, color=_OFF, lw=0, zorder=0, step="post")
        axis.set_ylim(low, high)
        axis.set_title(log.joint_names[row], fontsize=9, loc="left", pad=3)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
        if row + columns >= count:
            axis.set_xlabel("s", fontsize=8)
            axis.tick_params(labelbottom=True)
    axes[0, 0].set_ylabel("deg", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if off.any() and not off.all():
        handles.append(plt.Rectangle((0, 0), 1, 1, color=_OFF))
        labels.append("policy not driving")
    figure.suptitle(_title(log, "joint angles"), fontsize=11, x=0.01, ha="left")
    figure.legend(handles, labels, loc="upper right", ncols=3, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    return figure


def _timing(plt: Any, log: RunLog) -> Any:
    """Histogram of the period on the left, sections over time on the right."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
    period = log.loop["period_ms"][1:]
    period = period[np.isfinite(period)]
    target = 1e3 * log.period_s
    if period.size:
        p50, p99, largest = percentiles(period)
        spread = max(np.abs(period - target).max(), 0.05 * target)
        left.hist(period, bins=np.linspace(target - spread, target + spread, 61), color=_SENT)
        left.axvline(target, color="black", lw=0.8, ls="--")
        left.set_title(f"p50 {p50:.2f}, p99 {p99:.2f}, max {largest:.2f} ms", fontsize=9, loc="left")
    left.set_yscale("symlog", linthresh=1)
    left.set_ylim(bottom=0)
    left.set_xlabel(f"period, ms (asked: {target:g})")
    left.set_ylabel("ticks")
    shown = (
        ("read_ms", "read", _SENT), ("policy_ms", "policy", "#2e8b57"), ("write_ms", "limits + write", _MEASURED),
        ("late_ms", "begun late", "#8a8a8a"),
    )  # fmt: skip
    for name, label, colour in shown:
        right.plot(log.time_s, log.loop[name], lw=0.7, color=colour, label=label)
    missed = log.loop["skipped"] > 0
    if missed.any():
        right.plot(log.time_s[missed], log.loop["late_ms"][missed], "kx", ms=6, label="ticks skipped")
    right.set_yscale("log")
    right.set_xlabel("s")
    right.set_ylabel("ms")
    right.grid(alpha=0.3)
    right.legend(fontsize=8, ncols=2, frameon=False)
    figure.suptitle(_title(log, "timing of the loop"), fontsize=11, x=0.01, ha="left")
    figure.tight_layout()
    return figure


def _temperatures(plt: Any, log: RunLog) -> Any:
    figure, axis = plt.subplots(figsize=(9, 4))
    heat = log.joints["temperature"]
    known = np.asarray(np.isfinite(heat).any(axis=0))
    peaks = np.where(known, np.nanmax(np.where(np.isnan(heat), -np.inf, heat), axis=0), -np.inf)
    hottest = np.argsort(-peaks)[:6]
    for row in np.flatnonzero(known):
        if row not in hottest:
            axis.plot(log.time_s, heat[:, row], color="#c4c4c4", lw=0.8)
    for row in hottest:
        if known[row]:
            axis.plot(log.time_s, heat[:, row], lw=1.3, label=f"{log.joint_names[row]}, {peaks[row]:.0f} degC")
    axis.set_xlabel("s")
    axis.set_ylabel("degC")
    axis.grid(alpha=0.3)
    axis.legend(
        fontsize=8, title="hottest", title_fontsize=8, frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left"
    )
    figure.suptitle(_title(log, "temperatures"), fontsize=11, x=0.01, ha="left")
    figure.tight_layout()
    return figure


def _title(log: RunLog, what: str) -> str:
    run = " · ".join(part for part in (log.metadata.get("bundle", ""), log.metadata.get("bus", "")) if part)
    return f"{log.path.name}: {what}" + (f" ({run})" if run else "")
