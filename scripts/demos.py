"""``cadenza demos``: collect, inspect and export demonstrations."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.parse import parse, settings_from

if TYPE_CHECKING:
    from cadenza.agents.demos.collecting import Collected
    from cadenza.agents.demos.inspection import Inspection

_PLAIN_EVERY_S = 30.0
_INTERRUPTED = 130


@dataclass(frozen=True)
class Collect:
    """Record episodes of a scripted expert. The same command goes on with a set that was interrupted."""

    env: str
    """environment id, e.g. cadenza/CableRouting-v0"""
    out: Path
    """folder of the set"""
    episodes: int = 100
    """in the set, those that are there already included"""
    seed: int = 0
    """episode i is reset with seed + i"""
    workers: int = 1
    """processes, at most one a core"""
    expert: str | None = None
    """who demonstrates, where the environment has several"""
    set: tuple[str, ...] = ()
    """settings of the environment, NAME=VALUE"""
    expert_set: tuple[str, ...] = ()
    """settings of the expert, NAME=VALUE"""
    task: str | None = None
    """the task in words, if not the expert's"""
    pictures: Literal["raw", "png", "jpeg"] = "raw"
    """how cameras are stored: raw and png without loss, jpeg with"""
    description: str = ""
    """for whoever finds the set"""


@dataclass(frozen=True)
class Inspect:
    """A set in a table: episodes, success, rate, ranges, damaged files."""

    folder: Annotated[Path, tyro.conf.Positional]
    """a set"""
    ranges: bool = False
    """a row for every entry of observations and action, not only for those that stand out"""
    plot: Path | None = None
    """write a picture"""
    episode: int = 0
    """which episode --video shows"""
    video: Path | None = None
    """write an .mp4 of that episode's cameras"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Export:
    """Write a set in the format of LeRobot (LeRobotDataset v3) or Minari (HDF5)."""

    folder: Annotated[Path, tyro.conf.Positional]
    """a set"""
    format: Literal["lerobot", "minari"]
    """the format"""
    out: Path
    """a new folder; of Minari the one in which it looks for data sets (MINARI_DATASETS_PATH)"""
    successes_only: bool = False
    """leave out episodes that failed"""
    images: bool = False
    """of LeRobot: pictures as PNG, without loss, instead of H.264 videos"""
    fps: float | None = None
    """of LeRobot: rate to be written, if not the set's"""
    name: str = "cadenza/demos-v0"
    """of Minari: the data set's id"""


@dataclass(frozen=True)
class FromLog:
    """Make a set of the logs of a deployed robot; each stretch in which the policy drove is an episode."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """.mcap files of `cadenza deploy --log`"""
    out: Path
    """folder of the set"""
    task: str | None = None
    """the task in words, if not the name of the bundle"""


@dataclass(frozen=True)
class Demos:
    """Collect, inspect and export demonstrations.

    cadenza demos collect --env cadenza/CableRouting-v0 --episodes 300 --out demos/cable --workers 2
    cadenza demos inspect demos/cable --plot cable.png
    cadenza demos export demos/cable --format lerobot --out cable-lerobot
    cadenza demos export demos/cable --format minari --out minari --name cadenza/cable-v0
    cadenza demos from-log walk.mcap --out demos/walk

    docs/demonstrations.md tells how a set looks, and how to record your own.
    """

    what: (
        Annotated[Collect, tyro.conf.subcommand("collect")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[FromLog, tyro.conf.subcommand("from-log")]
    )
    """what to do"""


def main(arguments: list[str]) -> int:
    """Parse and do."""
    doers: dict[str, tuple[type, Callable[[Any], int]]] = {
        "collect": (Collect, _collect),
        "inspect": (Inspect, _inspect),
        "export": (Export, _export),
        "from-log": (FromLog, _from_log),
    }
    if not arguments or arguments[0] not in doers:
        parse(Demos, "demos", arguments)  # its help, or what is wrong
        raise CadenzaError("`cadenza demos` needs to be told what to do.", f"There are: {', '.join(doers)}.")
    kind, do = doers[arguments[0]]
    return do(parse(kind, f"demos {arguments[0]}", arguments[1:]))


# ------------------------------------------------------------------ collect


def _collect(options: Collect) -> int:
    for name in ("episodes", "workers"):
        if getattr(options, name) < 1:
            raise CadenzaError(f"--{name} must be at least 1, got {getattr(options, name)}.")
    if options.seed < 0:
        raise CadenzaError(f"--seed must not be negative, got {options.seed}.")
    from cadenza.agents.demos.collecting import Plan, collect

    plan = Plan(
        env_id=options.env, episodes=options.episodes, seed=options.seed, env_settings=settings_from(options.set),
        expert=options.expert, expert_settings=settings_from(options.expert_set), task=options.task,
        pictures=options.pictures, description=options.description,
    )  # fmt: skip
    with _Bar("collecting", options.episodes) as bar:
        result = collect(options.out, plan, workers=options.workers, watch=bar.on_episode)
    there = options.episodes - result.missing
    if result.episodes:
        out.print(
            f"{result.episodes} episodes ({result.successes} successful, {result.steps:,} steps) in "
            f"{result.seconds:.1f} s: {60 * result.episodes / result.seconds:.1f} a minute, "
            f"{result.steps / result.seconds:,.0f} steps/s"
        )
    out.print(f"{escape(str(options.out))} has {there} of {options.episodes} episodes")
    if result.interrupted:
        out.print("interrupted: every complete episode is stored; the same command goes on")
        return _INTERRUPTED
    return 0


class _Bar:
    """A bar on a terminal; in a log file a line now and then."""

    def __init__(self, name: str, total: int):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[notes]}"), TextColumn("left"), TimeRemainingColumn(), console=out,
            disable=not out.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(name, total=total, notes="")
        self._start = self._last_plain = time.perf_counter()
        self._episodes = self._successes = self._steps = 0

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_episode(self, one: Collected, there: int, total: int) -> None:
        """An episode was stored."""
        self._episodes, self._successes = self._episodes + 1, self._successes + one.success
        self._steps += one.steps
        now = time.perf_counter()
        elapsed = max(now - self._start, 1e-9)
        notes = (
            f"{60 * self._episodes / elapsed:.1f} a minute, {self._steps / elapsed:,.0f} steps/s, "
            f"{self._successes / self._episodes:.0%} successful"
        )
        self._bar.update(self._task, completed=there, notes=notes)
        if not out.is_terminal and now - self._last_plain > _PLAIN_EVERY_S:
            self._last_plain = now
            out.print(f"{there} of {total} episodes  {notes}")

    def on_count(self, done: int, total: int) -> None:
        """So many are done."""
        self._bar.update(self._task, completed=done, total=total)


# ------------------------------------------------------------------ inspect


def _inspect(options: Inspect) -> int:
    from cadenza.agents.demos.dataset import DemoSet
    from cadenza.agents.demos.inspection import inspect_set

    demos = DemoSet(options.folder)
    found = inspect_set(demos)
    schema = demos.schema
    title = f"[bold]{escape(str(options.folder))}[/]: {escape(schema.env_id)}"
    out.print(title + (f", {escape(demos.description)}" if demos.description else ""))
    if schema.env_settings:
        settings = ", ".join(f"{name}={value}" for name, value in schema.env_settings.items())
        out.print(f"  settings: {escape(settings)}")
    cameras = [
        f"{key} {schema.observation[key].shape[1]} x {schema.observation[key].shape[0]}" for key in schema.cameras
    ]
    vectors = [f"{key} {'x'.join(map(str, feature.shape)) or 1}" for key, feature in schema.vectors.items()]
    out.print(
        f"  observation: {escape(', '.join(vectors) or '-')}; cameras: {escape(', '.join(cameras) or 'none')}; "
        f"action: {schema.action.size}"
    )
    _figures(found)
    _ranges(found, everything=options.ranges)
    for path, reason in found.corrupt:
        out.print(f"  [red]left out:[/] {escape(path.name)}: {escape(reason)}")
    if options.plot is not None:
        from cadenza.agents.demos.pictures import plot_set

        plot_set(found, demos, options.plot)
        out.print(f"written: {escape(str(options.plot))}")
    if options.video is not None:
        from cadenza.agents.demos.pictures import film_episode

        frames = film_episode(demos, options.episode, options.video)
        out.print(f"written: {escape(str(options.video))}, {frames} frames of episode {options.episode}")
    write_result(options.json, found.to_json())
    return 0


def _figures(found: Inspection) -> None:
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column()
    table.add_column()
    share = f" ({found.successes / found.episodes:.0%})" if found.episodes else ""
    table.add_row("episodes", f"{found.episodes}, {found.successes} successful{share}")
    table.add_row("damaged files", f"[red]{len(found.corrupt)}, left out[/]" if found.corrupt else "none")
    if found.episodes:
        lengths = sorted(found.lengths.tolist())
        middle = lengths[len(lengths) // 2]
        table.add_row("steps", f"{found.steps:,}; an episode {lengths[0]} to {lengths[-1]}, median {middle}")
        if found.intervals_s.size:
            measured = f"{found.measured_hz:.2f} Hz measured, {found.nominal_hz:g} Hz nominal"
            measured += f"; longest interval {1e3 * found.intervals_s.max():.1f} ms"
            table.add_row("rate", f"[red]{measured}: these differ[/]" if found.rate_is_off else measured)
        for task, count in found.tasks.items():
            table.add_row("task", f"{escape(task)} ({count})")
        shares = ((found.name_of(number), count / found.steps) for number, count in found.primitives.items())
        table.add_row("primitives, of steps", escape(", ".join(f"{name}: {share:.0%}" for name, share in shares)))
        table.add_row("size", f"{found.megabytes:.1f} MB")
    out.print(table)


def _ranges(found: Inspection, *, everything: bool) -> None:
    from rich.table import Table

    rows = (
        found.ranges if everything else [one for one in found.ranges if one.constant or one.name.startswith("action")]
    )
    if not rows:
        return
    title = "ranges" if everything else f"ranges of the action, and what never changes ({len(found.ranges)}: --ranges)"
    table = Table(title=title, title_justify="left")
    for heading in ("", "lowest", "highest", "mean", "std"):
        table.add_column(heading, justify="right" if heading else "left")
    for one in rows:
        table.add_row(escape(one.name), *(f"{value:.4g}" for value in (one.low, one.high, one.mean, one.std)))
    out.print(table)


# ------------------------------------------------------------------ export


def _export(options: Export) -> int:
    from cadenza.agents.demos.dataset import DemoSet

    demos = DemoSet(options.folder)
    with _Bar("exporting", len(demos)) as bar:
        if options.format == "lerobot":
            from cadenza.agents.demos.lerobot_export import export_lerobot

            path = export_lerobot(
                demos, options.out, videos=not options.images, successes_only=options.successes_only, fps=options.fps,
                watch=bar.on_count,
            )  # fmt: skip
            how = f'LeRobotDataset("{options.out.name}", root="{path}")'
        else:
            from cadenza.agents.demos.minari_export import ROOT, export_minari

            path = export_minari(
                demos, options.out, options.name, successes_only=options.successes_only, watch=bar.on_count
            )
            how = f'minari.load_dataset("{options.name}") with {ROOT}={options.out}'
    for damaged, reason in demos.corrupt:
        out.print(f"  [red]left out:[/] {escape(damaged.name)}: {escape(reason)}")
    out.print(f"written: {escape(str(path))}; open it with {escape(how)}")
    return 0


def _from_log(options: FromLog) -> int:
    from cadenza.agents.demos.from_log import record_log

    if not options.files:
        raise CadenzaError("There is no log to read.", "cadenza demos from-log walk.mcap --out demos/walk")
    for file in options.files:
        told = record_log(file, options.out, task=options.task)
        out.print(
            f"{escape(str(file))}: {told.episodes} episodes, {told.steps:,} steps; left out {told.left_out} ticks"
        )
    out.print(f"written: {escape(str(options.out))}; cadenza demos export turns it into a LeRobotDataset")
    return 0
