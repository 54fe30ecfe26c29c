"""``cadenza sequence``: a high level that chooses among primitives, retries, and is compared with what does not."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.parse import parse, settings_from
from cadenza.scripts.updates_bar import updates_bar

_INTERRUPTED = 130

if TYPE_CHECKING:
    from cadenza.agents.sequencer.decisions import Decisions
    from cadenza.agents.sequencer.machine import EpisodeResult

Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")]
Task = Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True)
class Collect:
    """Play episodes and ask the expert at every decision; some decisions stray, so that ways back are learned.

    Every complete episode is kept; the same command goes on where it was cut, and more --episodes extend it.
    """

    task: Task
    """what to sequence: cable, op3, latches"""
    out: Path
    """the .npz to write, or to go on with"""
    episodes: int = 150
    """in the file, those that are there already included"""
    seed: int = 10_000
    """episode i is reset with seed + i"""
    stages: tuple[int, ...] = ()
    """lengths that take turns, e.g. 1 2 3 (default: the task's own)"""
    stray: float = 0.2
    """share of decisions in which any primitive is taken"""
    selector: Path | None = None
    """let this sequencer play instead of the expert (DAgger of the high level)"""
    add_to: Path | None = None
    """decisions to put in front"""
    set: Pairs = ()
    """settings of the task, e.g. layout=train drop=0.2 misroute=0.2"""


@dataclass(frozen=True)
class Train:
    """Learn to choose as the expert did."""

    decisions: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """.npz of `cadenza sequence collect`, or folders of whole demonstrations; several are joined"""
    run: Path
    """folder to make"""
    embedding: Path | None = None
    """see through the encoders of this imitation policy, frozen; without, the observation's numbers"""
    set: Pairs = ()
    """settings of agents/sequencer/config.py: steps=5000 signals=True features=cable ..."""
    resume: bool = False
    """go on from the checkpoint in --run, with the settings it was begun with"""


@dataclass(frozen=True)
class Run:
    """Play episodes and print every attempt."""

    task: Task
    """what to sequence: cable, op3, latches"""
    chooser: Literal["script", "oracle", "learned"] = "oracle"
    """who chooses"""
    selector: Path | None = None
    """folder of the learned one"""
    stages: int | None = None
    """how long"""
    episodes: int = 1
    """how many"""
    seed: int = 0
    """episode i is reset with seed + i"""
    set: Pairs = ()
    """settings of the task"""
    json: Path | None = None
    """write every attempt to this file"""


@dataclass(frozen=True)
class Compare:
    """The experiment: script, oracle, learned sequencer and flat policy on the same episodes; resumable.

    The same command goes on where it was cut; more --episodes, --stages or --methods extend it. Pairs of method and
    length may be shared out among processes with one --out.
    """

    task: Task
    """what to sequence: cable, latches"""
    out: Path = Path("runs/comparison")
    """folder of episodes and report"""
    methods: tuple[str, ...] = ("script", "oracle", "learned", "flat")
    """who competes"""
    stages: tuple[int, ...] = (1, 2, 3)
    """lengths"""
    episodes: int = 50
    """of each method at each length"""
    seed: int = 90_000
    """episode i is reset with seed + i, for everybody"""
    selector: Path | None = None
    """folder of the learned sequencer"""
    flat: Path | None = None
    """folder of the flat policy"""
    attempts: int = 8
    """most primitives at a stage"""
    flat_seconds: float = 24.0
    """of the flat policy, for each stage"""
    set: Pairs = ()
    """settings of the task, e.g. layout=held_out drop=0.2 misroute=0.2 disturbances=pushes route=runs/route"""


@dataclass(frozen=True)
class Sequence:
    """Sequence primitives of a long task.

    cadenza sequence run cable --stages 1 --set drop=0.2 misroute=0.2
    cadenza sequence collect cable --out decisions.npz --set layout=train drop=0.2 misroute=0.2
    cadenza sequence train decisions.npz --run runs/selector --set features=cable
    cadenza sequence compare cable --selector runs/selector --methods script oracle learned --set drop=0.2 misroute=0.2
    cadenza sequence run op3 --episodes 1
    """

    what: (
        Annotated[Collect, tyro.conf.subcommand("collect")]
        | Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Run, tyro.conf.subcommand("run")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
    )
    """what to do"""


def main(arguments: list[str]) -> int:
    """Parse, play, report."""
    what = parse(
        tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)(Sequence),
        "sequence",
        arguments,
    ).what
    import torch

    torch.set_num_threads(1)
    if isinstance(what, Collect):
        return _collect(what)
    if isinstance(what, Train):
        return _train(what)
    if isinstance(what, Run):
        return _run(what)
    return _compare(what, shlex.join(["cadenza", "sequence", *arguments]))


def _collect(options: Collect) -> int:
    from cadenza.agents.sequencer.collecting import CollectionPlan, collect_into
    from cadenza.agents.sequencer.comparison import make_chooser
    from cadenza.agents.sequences import make_task

    _check_numbers(options.episodes, options.seed)
    plan = CollectionPlan(
        task=options.task, episodes=options.episodes, seed=options.seed, stages=options.stages, stray=options.stray,
        settings=settings_from(options.set), selector=options.selector, add_to=options.add_to,
    )  # fmt: skip
    chooser = None if options.selector is None else make_chooser("learned", options.selector)
    with updates_bar() as progress:
        found = collect_into(
            options.out, plan, make_task, chooser,
            lambda done, successes: progress(done, options.episodes, f"{successes} done"),
        )  # fmt: skip
    decisions = found.decisions
    if decisions is not None:
        out.print(
            f"{len(decisions):,} decisions; {found.successes} of {found.episodes} episodes done in spite of straying"
        )
        for index, name in enumerate(decisions.names):
            out.print(f"  {name:16}{int((decisions.label == index).sum()):6,}")
    if found.interrupted:
        out.print(
            f"interrupted: {found.episodes} of {options.episodes} episodes are stored in {escape(str(options.out))}; "
            "the same command goes on"
        )
        return _INTERRUPTED
    out.print(f"written: {escape(str(options.out))}")
    return 0


def _check_numbers(episodes: int, seed: int) -> None:
    if episodes < 1:
        raise CadenzaError(f"--episodes must be at least 1, got {episodes}.")
    if seed < 0:
        raise CadenzaError(f"--seed must not be negative, got {seed}.")


def _train(options: Train) -> int:
    from cadenza.agents.imitation.config import config_from
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.sequencer.config import SelectorConfig, resolve_selector_config
    from cadenza.agents.sequencer.training import read_selector_run, train_selector

    base, eyes = None, options.embedding
    if options.resume:  # what is not said again is as it was
        begun = read_selector_run(options.run)
        base = config_from(SelectorConfig, begun["config"])
        if eyes is None and begun["facts"].get("embedding_from"):
            eyes = Path(begun["facts"]["embedding_from"])
    config = resolve_selector_config(settings_from(options.set), base)
    if not options.decisions:
        raise CadenzaError("sequence train needs decisions.", "cadenza sequence train DECISIONS.npz --run RUN")
    parts = [_decisions_in(path) for path in options.decisions]
    decisions = parts[0].joined(*parts[1:])
    embedding = None if eyes is None else ImitationPolicy.load(eyes)
    facts = {"decisions_from": " ".join(map(str, options.decisions)), "embedding_from": str(eyes or "")}
    with updates_bar() as progress:
        result = train_selector(
            decisions, config, embedding=embedding, run=options.run, facts=facts, resume=options.resume,
            progress=progress,
        )  # fmt: skip
    if result.interrupted:
        out.print(f"interrupted at update {result.step:,}; everything is stored. Continue with --resume.")
        return _INTERRUPTED
    last = result.rows[-1] if result.rows else {}
    words = "".join(
        f", {name.replace('_', ' ')} {last[name]:.1%}" for name in ("accuracy", "held_out_accuracy") if name in last
    )
    out.print(f"[bold green]done[/]: {result.step:,} updates on {len(decisions):,} decisions{words}")
    out.print(f"sequencer: {escape(str(options.run))}")
    return 0


def _decisions_in(path: Path) -> Decisions:
    """Of a file of decisions, or of a folder of demonstrations."""
    from cadenza.agents.sequencer.decisions import Decisions, from_demonstrations

    if not path.is_dir():
        return Decisions.load(path)
    from cadenza.agents.demos import DemoSet
    from cadenza.agents.sequences import primitive_names

    demos = DemoSet(path, verify=False)  # what is damaged is found on reading
    try:
        return from_demonstrations(demos, primitive_names(demos.schema.env_id))
    finally:
        for damaged, reason in demos.corrupt:
            out.print(f"  [red]left out:[/] {escape(damaged.name)}: {escape(reason)}")


def _run(options: Run) -> int:
    from cadenza.agents.runs.settings import provenance
    from cadenza.agents.sequencer.comparison import make_chooser
    from cadenza.agents.sequencer.machine import run_episode
    from cadenza.agents.sequencer.primitive import Outcome, PrimitiveStatistics
    from cadenza.agents.sequences import make_task

    _check_numbers(options.episodes, options.seed)
    chooser = make_chooser(options.chooser, options.selector)
    task = make_task(options.task, options.stages, **settings_from(options.set))
    statistics = PrimitiveStatistics(task.primitives)
    results = []
    try:
        for index in range(options.episodes):
            result = run_episode(task, chooser, options.seed + index)
            results.append(result)
            _print_episode(result)
            for attempt in result.attempts:
                if attempt.outcome != "cut":
                    statistics.record(attempt.name, Outcome(attempt.outcome))
    finally:
        task.close()
    if options.episodes > 1:
        out.print(f"{sum(result.success for result in results)} of {len(results)} episodes done")
    for name, counts in statistics.as_dict().items():
        if counts["attempts"]:
            out.print(f"  {name:16}{counts['success']} of {counts['attempts']} attempts succeeded")
    record = {
        "command": f"cadenza sequence run {options.task} --chooser {options.chooser} --episodes {options.episodes} "
        f"--seed {options.seed}",
        "settings": settings_from(options.set),
        "episodes": [dataclasses.asdict(result) for result in results],
        "statistics": statistics.as_dict(),
        **provenance(),
    }
    write_result(options.json, record)
    return 0


def _print_episode(result: EpisodeResult) -> None:
    colour, word = ("green", "done") if result.success else ("red", "not done")
    out.print(
        f"seed {result.seed}: [bold {colour}]{word}[/], stages {sum(result.finished)} of {result.stages}, "
        f"{result.duration_s:.1f} s, ended by: {escape(result.reason)}"
    )
    out.print(
        f"  {'stage':>5}  {'primitive':16}{'outcome':10}{'s':>6}{'no progress':>13}{'oscillation':>13}{'repeated':>10}"
    )
    for attempt in result.attempts:
        out.print(
            f"  {attempt.stage + 1:>5}  {attempt.name:16}{attempt.outcome:10}{attempt.duration_s:6.1f}"
            f"{attempt.no_progress:13.2f}{attempt.oscillation:13.2f}{attempt.repeated_failure:10.2f}"
        )


def _compare(options: Compare, command: str) -> int:
    from cadenza.agents.sequencer.comparison import Plan, run_plan
    from cadenza.agents.sequencer.config import MachineLimits
    from cadenza.agents.sequencer.report import markdown_of, write_report
    from cadenza.agents.sequences import first_primitive, make_task

    _check_numbers(options.episodes, options.seed)
    plan = Plan(
        task=options.task, out=options.out, methods=options.methods, stages=options.stages, episodes=options.episodes,
        seed=options.seed, settings=settings_from(options.set),
        selector=None if options.selector is None else str(options.selector),
        flat=None if options.flat is None else str(options.flat),
        limits=MachineLimits(attempts_per_stage=options.attempts, flat_s_per_stage=options.flat_seconds),
    )  # fmt: skip
    cells = plan.cells()
    with updates_bar() as progress:

        def tell(method: str, stages: int, done: int, result: EpisodeResult | None) -> None:
            place = cells.index((method, stages)) * plan.episodes + done
            progress(place, len(cells) * plan.episodes, f"{method}, {stages} stages: {done} of {plan.episodes}")

        run_plan(plan, make_task, tell)
    paths = write_report(plan, first_primitive(options.task), command)
    out.print(escape(markdown_of(paths)))
    for path in paths:
        out.print(f"written: {escape(str(path))}")
    return 0
