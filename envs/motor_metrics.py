"""What a stretch of commands and torques does to motors and gears: pure functions over blocks of steps.

Two things are looked at, per actuator and step:

- the **command**: ``ctrl`` as the actuator obeys it, clipped to its range, which is mapped to [-1, 1]. An action beyond
  the range (``cadenza/HumanoidPaper-v0`` takes [-1, 1], its motors obey [-0.4, 0.4]) counts as 1: what matters is what
  the motor is told, not what the policy said;
- the **load**: the actuator's force over the largest it can give, a number in [-1, 1].

============================  ======================================================================================
Metric                        Definition, over all steps and actuators
============================  ======================================================================================
``saturated_share``           share of commands with |command| > 0.95
``action_change_mean, _p99``  of |command[t] - command[t-1]|, in half ranges; from -1 to 1 is 2; the 99th percentile
                              comes from a histogram with bins of 0.01, in which a change of exactly 0 stays 0
``jerk_rms``                  root mean square of the third difference of the command, half ranges per step^3
``high_frequency_power_share``share of the command's power (mean removed, Hann window) above 1/4 of the Nyquist
                              frequency; over stretches within an episode of 16 to 512 steps
``torque_rms_over_rated``     root mean square of the load over the rated one
``winding_peak_c``            hottest winding (:mod:`cadenza.robots.motor_thermal`); heat stays from episode to episode
``winding_settled_c``         where the hottest winding would settle if this went on for ever; needs no long recording
``winding_over_limit_s``      time in which at least one winding was above its limit
``gearbox_shocks``            times a load changed its sign within one step by more than 0.5: the teeth cross their
                              backlash and meet again under load
============================  ======================================================================================

Nothing is compared across a reset. :func:`measure` gives sums, counts and maxima of a block, which :func:`merge` adds
up exactly as far as counts go; :func:`summarize` makes the metrics of them.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.robots.motor_thermal import XM430_W350, Winding

SATURATED = 0.95
CHANGE_BINS = 200
"""Of the histogram of changes over [0, 2]."""
SHOCK_LOAD = 0.5
SHORTEST_SPECTRUM = 16
LOOKBACK = 3
"""Steps before a block that its first differences need."""
COMMAND_METRICS = (
    "saturated_share", "action_change_mean", "action_change_p99", "jerk_rms", "high_frequency_power_share",
)  # fmt: skip
TORQUE_METRICS = (
    "torque_rms_over_rated", "winding_peak_c", "winding_settled_c", "winding_over_limit_s", "gearbox_shocks",
    "gearbox_shocks_per_min",
)  # fmt: skip
METRICS = (*COMMAND_METRICS, *TORQUE_METRICS)
"""Names of the figures that :func:`summarize` gives for a whole robot."""

Totals = dict[str, Any]
"""Plain numbers and arrays by name, so that a checkpoint holds them as they are."""
_MAXIMA = ("peak_rise_k",)


def empty_totals(motors: int) -> Totals:
    """Nothing seen yet."""
    counts = ("saturated", "shocks", "over_limit")
    sums = ("change_sum", "jerk_square_sum", "power", "high_power", "load_square_sum", "peak_rise_k")
    return {
        "steps": 0,
        "changes": 0,
        "jerks": 0,
        "spectrum_steps": 0,
        "load_steps": 0,
        "any_over_limit": 0,
        "change_histogram": np.zeros(CHANGE_BINS, np.int64),
        "unchanged": 0,
        **{name: np.zeros(motors, np.int64) for name in counts},
        **{name: np.zeros(motors) for name in sums},
    }


def merge(a: Totals, b: Totals) -> Totals:
    """The totals of both; either may be of another robot of the same build, or of a checkpoint that counted less."""
    names = dict.fromkeys((*a, *b))
    return {
        name: np.maximum(a[name], b[name]) if name in _MAXIMA else a.get(name, 0) + b.get(name, 0) for name in names
    }


def difference(after: Totals, before: Totals) -> Totals:
    """What was added since ``before``; maxima cannot be taken back and stay those of the whole."""
    return {name: after[name] if name in _MAXIMA else after[name] - before.get(name, 0) for name in after}


def measure(
    commands: NDArray[np.float64],
    loads: NDArray[np.float64] | None,
    starts: NDArray[np.bool_],
    before: int,
    rise_k: NDArray[np.float64],
    dt_s: float,
    winding: Winding = XM430_W350,
) -> tuple[Totals, NDArray[np.float64]]:
    """Totals of a block of steps.

    Args:
        commands: in [-1, 1]; :data:`LOOKBACK` rows of the steps before the block, then the block's:
            shape (LOOKBACK + steps, motors).
        loads: torque over stall torque, same shape; None where torques are not known.
        starts: whether the step is the first of an episode, shape (steps,).
        before: how many of the lookback rows belong to the episode that the block begins in.
        rise_k: of the windings above the surroundings, before the block, shape (motors,).
        dt_s: length of a step; not used without ``loads``.
        winding: the motor.

    Returns:
        The totals, and ``rise_k`` after the block.
    """
    steps, motors = len(starts), commands.shape[1]
    totals = empty_totals(motors)
    ages = _ages(starts, before)
    block = commands[LOOKBACK:]
    totals["steps"] = steps
    totals["saturated"] += (np.abs(block) > SATURATED).sum(axis=0)

    changes = np.abs(block - commands[LOOKBACK - 1 : -1])[ages >= 1]
    totals["changes"] = len(changes)
    totals["change_sum"] += changes.sum(axis=0)
    bins = np.minimum((changes * (CHANGE_BINS / 2)).astype(np.int64), CHANGE_BINS - 1)
    totals["change_histogram"] += np.bincount(bins.ravel(), minlength=CHANGE_BINS)
    totals["unchanged"] = changes.size - int(np.count_nonzero(changes))

    jerks = np.diff(commands, n=LOOKBACK, axis=0)[ages >= LOOKBACK]
    totals["jerks"] = len(jerks)
    totals["jerk_square_sum"] += np.square(jerks).sum(axis=0)

    edges = [0, *np.flatnonzero(starts[1:]) + 1, steps]
    for first, last in pairwise(edges):
        if last - first >= SHORTEST_SPECTRUM:
            power, high = _powers(block[first:last])
            totals["spectrum_steps"] += last - first
            totals["power"] += power
            totals["high_power"] += high

    if loads is None:
        return totals, rise_k
    load, last_load = loads[LOOKBACK:], loads[LOOKBACK - 1 : -1]
    totals["load_steps"] = steps
    totals["load_square_sum"] += np.square(load).sum(axis=0)
    shocks = (load * last_load < 0) & (np.abs(load - last_load) > SHOCK_LOAD) & (ages >= 1)[:, None]
    totals["shocks"] += shocks.sum(axis=0)
    rises = winding.heat(rise_k, load, dt_s)
    over = rises > winding.limit_rise_k
    totals["over_limit"] += over.sum(axis=0)
    totals["any_over_limit"] = int(over.any(axis=1).sum())
    totals["peak_rise_k"] = np.maximum(rises.max(axis=0), rise_k)
    return totals, rises[-1].copy()


def _ages(starts: NDArray[np.bool_], before: int) -> NDArray[np.int64]:
    """For each step how many came before it in its episode."""
    steps = np.arange(len(starts))
    first = np.maximum.accumulate(np.where(starts, steps, -before))
    return np.asarray(steps - first, np.int64)


@lru_cache(maxsize=1024)
def _window(steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Hann window, the weight of each frequency bin (0 for the mean), and the first bin above 1/4 Nyquist."""
    window = np.sin(np.pi * (np.arange(steps) + 0.5) / steps) ** 2
    weights = np.full(steps // 2 + 1, 2.0)  # a real signal's negative frequencies are its positive ones
    weights[0] = 0.0
    if steps % 2 == 0:
        weights[-1] = 1.0
    first_high = steps // 8 + 1  # bin k is k / steps of the sampling rate, 1/4 Nyquist is 1/8 of it
    return window[:, None], (weights / np.square(window).sum())[:, None], first_high


def _powers(commands: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Power of each command without its mean, and of that the part above 1/4 Nyquist; sums over the steps."""
    window, weights, first_high = _window(len(commands))
    spectrum = np.fft.rfft((commands - commands.mean(axis=0)) * window, axis=0)
    density = (np.square(spectrum.real) + np.square(spectrum.imag)) * weights
    return density.sum(axis=0), density[first_high:].sum(axis=0)


def summarize(totals: Totals, names: list[str], dt_s: float | None, winding: Winding = XM430_W350) -> dict[str, Any]:
    """The metrics as JSON-able numbers; None where they cannot be told.

    Args:
        totals: of :func:`measure`, merged.
        names: of the joints, in the order of the totals.
        dt_s: length of a step; None where the environment does not say.
        winding: that the totals were measured with.

    Returns:
        :data:`METRICS`, ``steps``, ``seconds`` (of all robots together), ``joints`` with the same metrics joint by
        joint as far as they make sense, and ``worst_joint``: for each of these metrics the joint that has most of it.
    """
    motors, steps = len(names), totals["steps"]
    rated, has_loads = winding.rated_share, totals["load_steps"] > 0 and dt_s is not None
    second = dt_s or float("nan")
    minutes = totals["load_steps"] * second / 60

    def share(part: Any, whole: Any) -> NDArray[np.float64]:
        whole = np.broadcast_to(np.asarray(whole, np.float64), np.shape(part))
        return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)

    # Rounding leaves a power of 1e-15 or so in a command that never moves: no part of it is high.
    spectrum_steps = totals["spectrum_steps"]
    moving = totals["power"] > 1e-12 * spectrum_steps
    still = 0.0 if spectrum_steps else np.nan
    joints = {
        "saturated_share": share(totals["saturated"], steps),
        "action_change_mean": share(totals["change_sum"], totals["changes"]),
        "jerk_rms": np.sqrt(share(totals["jerk_square_sum"], totals["jerks"])),
        "high_frequency_power_share": np.where(moving, share(totals["high_power"], totals["power"]), still),
    }
    whole = {
        "saturated_share": joints["saturated_share"].mean(),
        "action_change_mean": joints["action_change_mean"].mean(),
        "action_change_p99": _percentile(totals["change_histogram"], totals.get("unchanged", 0), 0.99),
        "jerk_rms": np.sqrt(np.square(joints["jerk_rms"]).mean()),
        "high_frequency_power_share": (
            share(totals["high_power"].sum(), totals["power"].sum()) if moving.any() else np.float64(still)
        ),
    }
    if has_loads:
        load_square = share(totals["load_square_sum"], totals["load_steps"])
        joints |= {
            "torque_rms_over_rated": np.sqrt(load_square) / rated,
            "winding_peak_c": winding.ambient_c + totals["peak_rise_k"],
            "winding_settled_c": winding.ambient_c + winding.limit_rise_k * load_square / rated**2,
            "winding_over_limit_s": totals["over_limit"] * second,
            "gearbox_shocks": totals["shocks"],
            "gearbox_shocks_per_min": totals["shocks"] / minutes,
        }
        whole |= {
            "torque_rms_over_rated": np.sqrt(np.square(joints["torque_rms_over_rated"]).mean()),
            "winding_peak_c": joints["winding_peak_c"].max(),
            "winding_settled_c": joints["winding_settled_c"].max(),
            "winding_over_limit_s": totals["any_over_limit"] * second,
            "gearbox_shocks": totals["shocks"].sum(),
            "gearbox_shocks_per_min": totals["shocks"].sum() / minutes,
        }
    return {
        "steps": int(steps),
        "seconds": None if dt_s is None else steps * dt_s,
        **{name: _plain(whole.get(name)) for name in METRICS},
        "worst_joint": {name: names[int(np.argmax(values))] for name, values in joints.items() if _plain(values.max())},
        "joints": {
            names[motor]: {name: _plain(values[motor]) for name, values in joints.items()} for motor in range(motors)
        },
    }


def _percentile(histogram: NDArray[np.int64], zeros: int, share: float) -> float:
    """Where ``share`` of the counts lie below, linear within the bin; ``zeros`` of the first bin's are exactly 0."""
    total = int(histogram.sum())
    if total == 0:
        return float("nan")
    wanted = share * total
    if wanted <= zeros:
        return 0.0
    cumulative = np.cumsum(histogram)
    index = int(np.searchsorted(cumulative, wanted))
    below = int(cumulative[index - 1]) if index else zeros
    return (index + (wanted - below) / (int(cumulative[index]) - below)) * (2 / CHANGE_BINS)


def _plain(value: Any) -> int | float | None:
    """A Python number; None for what is missing or not a number."""
    if value is None or not np.isfinite(value):
        return None
    number: int | float = value.item() if hasattr(value, "item") else value
    return number
