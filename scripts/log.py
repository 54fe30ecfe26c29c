"""``cadenza log``: read the log of a deployed policy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from cadenza.controllers.log_summary import LogSummary, RunLog


@dataclass(frozen=True)
class Summary:
    """Tables and pictures of a run: tracking, limits, timing, temperatures, faults, events."""

    file: Annotated[Path, tyro.conf.Positional]
    """a .mcap of `cadenza deploy --log`; one whose program was killed is read as far as it goes"""
    plot: Path | None = None
    """write PLOT-joints.png, PLOT-timing.png and PLOT-temperatures.png"""
    window: float | None = None
    """show only the last seconds in the picture of the joints"""
    joints: bool = False
    """one row for every joint, not only for those that stand out"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Log:
    """Read the log of a deployed policy.

    cadenza log summary walk.mcap
    cadenza log summary walk.mcap --plot walk --window 3
    cadenza log summary walk.mcap --joints --json walk.json

    Logs are MCAP files with JSON messages: Foxglove and the `mcap` command open them too.
    """

    what: Annotated[Summary, tyro.conf.subcommand("summary")]
    """what to do"""


def main(arguments: list[str]) -> int:
    """Parse, read, print."""
    if arguments[:1] == ["summary"]:
        options = parse(Summary, "log summary", arguments[1:])
    else:
        parse(Log, "log", arguments)  # its help, or what is wrong
        raise CadenzaError("`cadenza log` needs to be told what to do.", "cadenza log summary FILE.mcap")
    if options.window is not None and not options.window > 0:
        raise CadenzaError(f"--window must be above 0, got {options.window:g}.")
    from cadenza.controllers.log_summary import read_log, summarise

    log = read_log(options.file)
    summary = summarise(log)
    _head(log, summary)
    _timing(summary)
    _joints(summary, everyone=options.joints)
    _events(summary)
    if options.plot is not None:
        from cadenza.controllers.log_plot import plot_log

        for path in plot_log(log, options.plot, window_s=options.window):
            out.print(f"written: {escape(str(path))}")
    write_result(
        options.json, {"file": str(options.file), "metadata": _parsed(log.metadata), **_plain(asdict(summary))}
    )
    return 0


def _head(log: RunLog, summary: LogSummary) -> None:
    known = log.metadata
    title = " on ".join(known[name] for name in ("bundle", "bus") if known.get(name)) or log.path.name
    out.print(f"[bold]{escape(title)}[/], {summary.seconds:.1f} s, {summary.ticks} ticks at {summary.rate_hz:.2f} Hz")
    facts = [f"{name} {known[name]}" for name in ("robot", "calibration", "command", "git_commit") if known.get(name)]
    if known.get("bundle_sha256"):
        facts.append(f"policy {known['bundle_sha256'][:12]}")
    out.print("  " + escape(", ".join(facts)))
    if not summary.complete:
        out.print("  [yellow]The log has no end: its program was killed. At most half a second is missing.[/]")
    states = ", ".join(f"{state} at {at_s:.2f} s" for state, at_s in summary.states)
    out.print(f"  {escape(states)}")
    out.print(
        f"  the policy drove {summary.active_ticks} ticks; {summary.missed_ticks} missed; largest tilt "
        f"{_number(summary.tilt_deg, 1)} deg; {summary.odd_ticks} observations unlike training"
    )


def _timing(summary: LogSummary) -> None:
    from rich.table import Table

    table = Table(title="timing, ms", title_justify="left")
    for heading in ("", "p50", "p99", "max"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in summary.timings_ms.items():
        table.add_row(name.removesuffix("_ms"), *(_number(value, 3) for value in values))
    out.print(table)


def _joints(summary: LogSummary, *, everyone: bool) -> None:
    from rich.table import Table

    ranked = sorted(summary.joints, key=lambda joint: -(joint.tracking_rms_rad or 0.0))
    shown = [joint for joint in ranked if joint.limited or joint.faults or joint.saturated or joint in ranked[:6]]
    rows = list(summary.joints) if everyone else shown
    title = (
        "joints" if everyone else f"joints that stand out ({len(rows)} of {len(summary.joints)}; --joints shows all)"
    )
    table = Table(title=title, title_justify="left")
    for heading in ("", "RMS deg", "N m", "sat.", "degC", "V"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for heading in ("limited by, ticks", "faults, ticks"):
        table.add_column(heading)
    for joint in rows:
        start, peak = joint.temperature_c
        table.add_row(
            escape(joint.name),
            _number(joint.tracking_rms_rad * 180 / 3.141592653589793, 2),
            _number(joint.peak_torque_nm, 2),
            str(joint.saturated),
            f"{_number(start, 0)}-{_number(peak, 0)}",
            _number(joint.least_voltage, 1),
            _counts(joint.limited),
            _counts(joint.faults),
        )
    out.print(table)
    out.print(
        "  RMS: measured minus sent a tick before; N m: largest; sat.: ticks at 95 % of the torque limit; V: lowest"
    )


def _events(summary: LogSummary) -> None:
    for at_s, level, text in summary.events:
        colour = {"warning": "yellow", "error": "red"}.get(level, "default")
        out.print(f"  {at_s:8.2f} s  [{colour}]{level:7}[/]  {escape(text)}")


def _counts(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "-"


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"


def _parsed(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in metadata.items():
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
