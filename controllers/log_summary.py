"""Reading a run's log and boiling it down: tracking, saturation, limits, jitter, temperatures, faults, events.

A log whose program was killed has no end and no index; it is read up to its last whole chunk.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.controllers.telemetry import LOG_FORMAT, METADATA, TIMINGS, TelemetryError
from cadenza.robots.hardware.errors import MissingSdkError
from cadenza.robots.hardware.safety import Limit
from cadenza.robots.hardware.types import Fault

Array = NDArray[np.float64]
AT_LIMIT_RAD = 1e-6
SKIPPED_LIMITS = int(Limit.RAMP)
"""No limits: who decides, not by how much."""


@dataclass(eq=False)
class RunLog:
    """A log in arrays; T ticks, n joints. Numbers that are not known are NaN."""

    path: Path
    metadata: Mapping[str, str]
    joint_names: tuple[str, ...]
    period_s: float
    complete: bool
    """False where its program did not get to close it."""
    time_s: Array
    """Since the first tick, (T,)."""
    state: list[str]
    """Lifecycle state of each tick, (T)."""
    joints: Mapping[str, Array]
    """(T, n): requested_q, applied_q, sent_q, q, dq, tau, temperature, voltage, age."""
    limited_by: NDArray[np.int64]
    """Bits of :class:`cadenza.robots.hardware.safety.Limit`, (T, n)."""
    fault: NDArray[np.int64]
    """Bits of :class:`cadenza.robots.hardware.types.Fault`, (T, n)."""
    loop: Mapping[str, Array]
    """(T,): skipped and the timings, ms."""
    gravity: Array
    """(T, 3)."""
    command: Array
    """(T, 3)."""
    beyond_bounds: Array
    """How far the worst entry of the observation lay beyond what training saw, in widths, (T,)."""
    events: list[tuple[float, str, str]]
    """Seconds since the first tick, level, message."""
    gyro: Array = field(default_factory=lambda: np.zeros((0, 3)))
    """rad/s, (T, 3)."""
    action: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """What the policy said, (T, n)."""


def read_log(path: str | Path) -> RunLog:
    """Read a log.

    Raises:
        TelemetryError: no such file, no log of a run, or nothing in it.
        MissingSdkError: the package ``mcap`` is not installed.
    """
    path = Path(path)
    messages, metadata, complete = _messages(path)
    if metadata.get("format") != LOG_FORMAT:
        raise TelemetryError(
            f"{path} is no log of a run that this version reads: its format is {metadata.get('format')!r}.",
            "`cadenza deploy ... --log FILE.mcap` writes them.",
        )
    ticks = {content["tick"] for content in messages["/loop"]}
    rows = {
        topic: [content for content in messages[topic] if content["tick"] in ticks]
        for topic in ("/command/requested", "/command/applied", "/joints", "/policy", "/loop")
    }
    # Of the last tick of a log that was cut off, some messages may be missing.
    count = min(len(found) for found in rows.values())
    if not count:
        raise TelemetryError(f"There is not one tick in {path}.", "The run was over before it began.")
    rows = {topic: found[:count] for topic, found in rows.items()}
    names = tuple(json.loads(metadata["joint_names"]))
    requested, applied, state, policy, loop = rows.values()
    start = float(loop[0]["time_s"])
    joints = {"requested_q": _numbers(requested, "q"), "applied_q": _numbers(applied, "q")}
    joints |= {"sent_q": _numbers(applied, "sent_q")}
    joints |= {name: _numbers(state, name) for name in ("q", "dq", "tau", "temperature", "voltage", "age")}
    imu = {content["tick"]: content for content in messages["/imu"]}
    nowhere = {"gravity": [None, None, None], "gyro": [None, None, None]}
    return RunLog(
        path=path,
        metadata=metadata,
        joint_names=names,
        period_s=float(metadata["period_s"]),
        complete=complete,
        time_s=np.array([content["time_s"] for content in loop]) - start,
        state=[content["state"] for content in loop],
        joints=joints,
        limited_by=np.array([content["limited_by"] for content in applied], dtype=np.int64),
        fault=np.array([content["fault"] for content in state], dtype=np.int64),
        loop={name: np.array([content[name] for content in loop], dtype=np.float64) for name in ("skipped", *TIMINGS)},
        gravity=_numbers([imu.get(content["tick"], nowhere) for content in loop], "gravity"),
        command=_numbers(policy, "command"),
        beyond_bounds=np.array([content["beyond_bounds"] for content in policy], dtype=np.float64),
        events=[(content["time_s"] - start, content["level"], content["message"]) for content in messages["/events"]],
        gyro=_numbers([imu.get(content["tick"], nowhere) for content in loop], "gyro"),
        action=_numbers(policy, "action"),
    )


def _numbers(rows: list[dict[str, Any]], name: str) -> Array:
    return np.array([content[name] for content in rows], dtype=np.float64)


def _messages(path: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str], bool]:
    """Contents by topic, our metadata, and whether the file has its end."""
    try:
        from mcap.exceptions import McapError
        from mcap.records import Channel, Message, Metadata
        from mcap.stream_reader import StreamReader
    except ImportError as error:
        raise MissingSdkError("mcap", "deploy") from error
    found: dict[str, list[dict[str, Any]]] = {
        topic: []
        for topic in ("/command/requested", "/command/applied", "/joints", "/policy", "/loop", "/imu", "/events")
    }
    topics: dict[int, str] = {}
    metadata: dict[str, str] = {}
    complete = False
    try:
        with open(path, "rb") as file:
            try:
                for record in StreamReader(file, validate_crcs=True).records:
                    if isinstance(record, Channel):
                        topics[record.id] = record.topic
                    elif isinstance(record, Message):
                        if (topic := topics.get(record.channel_id)) in found:
                            found[topic].append(json.loads(record.data))
                    elif isinstance(record, Metadata) and record.name == METADATA:
                        metadata = record.metadata
                complete = True
            except (McapError, ValueError, EOFError) as error:
                if not metadata:
                    raise TelemetryError(f"{path} is no MCAP file that can be read: {error}.") from error
            except Exception as error:  # a cut-off record: struct.error, or the decompressor's own
                if not metadata:
                    raise TelemetryError(f"{path} is no MCAP file that can be read: {error}.") from error
    except OSError as error:
        raise TelemetryError(f"Cannot read {path}: {error.strerror}.") from error
    return found, metadata, complete


@dataclass(frozen=True)
class JointSummary:
    """One joint over a run."""

    name: str
    tracking_rms_rad: float
    """Measured minus what was sent the tick before."""
    limited: Mapping[str, int]
    """Ticks in which each limit changed its target."""
    saturated: int
    """Ticks in which its torque reached 95 % of the largest that the run knows of."""
    peak_torque_nm: float
    temperature_c: tuple[float, float]
    """At the start and the highest."""
    least_voltage: float
    faults: Mapping[str, int]
    """Ticks with each fault."""


@dataclass(frozen=True)
class LogSummary:
    """A run in numbers."""

    seconds: float
    ticks: int
    active_ticks: int
    """In which the policy drove."""
    rate_hz: float
    missed_ticks: int
    complete: bool
    states: tuple[tuple[str, float], ...]
    """In order, with the time at which each began, s."""
    timings_ms: Mapping[str, tuple[float, float, float]]
    """p50, p99 and largest of each section."""
    joints: tuple[JointSummary, ...]
    tilt_deg: float
    """Largest angle between the trunk and upright in ACTIVE ticks."""
    odd_ticks: int
    """Observations with an entry beyond what training saw by half its width or more."""
    events: tuple[tuple[float, str, str], ...]


def summarise(log: RunLog, torque_limits_nm: Array | None = None) -> LogSummary:
    """Numbers of a run; ticks in which the policy drove count for tracking and limits.

    Args:
        log: from :func:`read_log`.
        torque_limits_nm: (n,), for saturation; None takes it from the metadata, where it is.
    """
    active = np.array([state == "active" for state in log.state])
    if torque_limits_nm is None and "torque_nm" in log.metadata:
        torque_limits_nm = np.array(json.loads(log.metadata["torque_nm"]))
    states = [(log.state[0], 0.0)]
    for state, time_s in zip(log.state, log.time_s.tolist(), strict=True):
        if state != states[-1][0]:
            states.append((state, time_s))
    seconds = float(log.time_s[-1] + log.period_s)
    missed = int(np.nansum(log.loop["skipped"]))
    with np.errstate(invalid="ignore"):
        tilt = np.degrees(np.arccos(np.clip(-log.gravity[:, 2], -1.0, 1.0)))
    return LogSummary(
        seconds=seconds,
        ticks=len(log.time_s),
        active_ticks=int(active.sum()),
        rate_hz=(len(log.time_s) - 1) / float(log.time_s[-1]) if len(log.time_s) > 1 else 0.0,
        missed_ticks=missed,
        complete=log.complete,
        states=tuple(states),
        timings_ms={name: percentiles(log.loop[name]) for name in TIMINGS},
        joints=tuple(_joint(log, row, active, torque_limits_nm) for row in range(len(log.joint_names))),
        tilt_deg=_largest(tilt[active]),
        odd_ticks=int((log.beyond_bounds[active] > 0.5).sum()),
        events=tuple(log.events),
    )


def _joint(log: RunLog, row: int, active: NDArray[np.bool_], torque_limits_nm: Array | None) -> JointSummary:
    sent = np.where(np.isnan(log.joints["sent_q"]), log.joints["applied_q"], log.joints["sent_q"])[:, row]
    driven = active[1:] & active[:-1]
    error = (log.joints["q"][1:, row] - sent[:-1])[driven]
    torque = np.abs(log.joints["tau"][active, row])
    heat, volts = log.joints["temperature"][:, row], log.joints["voltage"][:, row]
    flags = log.limited_by[active, row] & ~SKIPPED_LIMITS
    known = heat[np.isfinite(heat)]
    saturated = 0
    if torque_limits_nm is not None:
        saturated = int((torque > 0.95 * torque_limits_nm[row]).sum())
    return JointSummary(
        name=log.joint_names[row],
        tracking_rms_rad=float(np.sqrt(np.nanmean(np.square(error)))) if np.isfinite(error).any() else float("nan"),
        limited=count_bits(flags, Limit),
        saturated=saturated,
        peak_torque_nm=_largest(torque),
        temperature_c=(float(known[0]), float(known.max())) if known.size else (float("nan"), float("nan")),
        least_voltage=-_largest(-volts),
        faults=count_bits(log.fault[:, row], Fault),
    )


def count_bits(flags: NDArray[np.int64], kind: type[Limit] | type[Fault]) -> dict[str, int]:
    """In how many entries each bit is set; those that are set at all."""
    counts: Counter[str] = Counter()
    for bit in kind:
        if bit and bit.name:
            counts[bit.name.lower()] = int(np.count_nonzero(flags & int(bit)))
    return {name: count for name, count in counts.items() if count}


def percentiles(values: Array) -> tuple[float, float, float]:
    """p50, p99 and the largest of the numbers among ``values``; NaN where there are none."""
    known = values[np.isfinite(values)]
    if not known.size:
        return math.nan, math.nan, math.nan
    p50, p99 = np.percentile(known, [50, 99]).tolist()
    return p50, p99, float(known.max())


def _largest(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else float("nan")
