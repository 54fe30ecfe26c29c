"""``cadenza imitate``: policies from demonstrations."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.imitate_demos import load, tell_damaged, transitions
from cadenza.scripts.imitate_tasks import INTERRUPTED, measure
from cadenza.scripts.imitate_tasks import dagger as _dagger
from cadenza.scripts.imitate_tasks import evaluate as _evaluate
from cadenza.scripts.parse import options_of, parse, settings_from
from cadenza.scripts.updates_bar import updates_bar

if TYPE_CHECKING:
    from cadenza.agents.imitation.cloning import CloneResult
    from cadenza.agents.imitation.inverse_dynamics import Comparison

Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")]


@dataclass(frozen=True)
class Bc:
    """Behaviour cloning: a policy from demonstrations, validated on layouts that it does not learn from.

    --set takes the settings of agents/imitation/config.py: primitive=route features=cable numbers=clip_frame, or
    cameras="('wrist_left', 'wrist_right')", steps=5000, ...
    """

    demos: Annotated[Path | None, tyro.conf.Positional] = None
    """folder of demonstrations (`cadenza demos collect` makes one)"""
    run: Path | None = None
    """folder to make (default: runs/imitation-DEMOS-TIME)"""
    set: Pairs = ()
    """settings of cloning"""
    inverse_dynamics: int = 0
    """updates of inverse-dynamics pre-training first, on all steps of all episodes but those of held-out layouts;
    0 = none"""
    start: Path | None = None
    """begin with this policy: 1,000 updates at 3e-5, unless --set says otherwise"""
    resume: Path | None = None
    """continue this run; the demonstrations are those it was begun with"""


@dataclass(frozen=True)
class Pretraining:
    """Compare cloning from scratch with cloning after inverse dynamics, at 10, 30 and 100 demonstrations."""

    demos: Annotated[Path, tyro.conf.Positional]
    """folder of demonstrations"""
    counts: tuple[int, ...] = (10, 30, 100)
    """demonstrations to learn from"""
    seeds: int = 1
    """0, 1, ...: weights, batches, choice of demonstrations"""
    pretrain_steps: int = 5_000
    """updates of inverse dynamics, on all steps of the training layouts, whichever --set learns from"""
    set: Pairs = ()
    """settings of cloning"""
    task: str | None = None
    """measure success too: a task of `cadenza sequence`, whose primitive (--set primitive=NAME) the policy does"""
    task_set: Pairs = ()
    """settings of that task"""
    episodes: int = 20
    """of each measurement"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Dagger:
    """DAgger: the policy drives, the expert corrects, both are learned from; the gain of each round is measured."""

    policy: Annotated[Path | None, tyro.conf.Positional] = None
    """run of `cadenza imitate bc`, made from --demos"""
    demos: Path | None = None
    """the demonstrations it was made from"""
    run: Path | None = None
    """folder to make: corrections/ (demonstrations), policy/, dagger.json"""
    task: str = "cable"
    """a task of `cadenza sequence`"""
    stages: int | None = None
    """of the task"""
    rounds: int = 3
    """of driving and learning"""
    episodes: int = 20
    """in each round"""
    seed: int = 50_000
    """of the first episode; no demonstration and no measurement may have its layouts"""
    beta: float = 0.5
    """share of steps in which the expert drives in round 1; squared in round 2, ..."""
    steps: int = 1_000
    """updates after each round"""
    learning_rate: float = 3e-5
    """where their cosine begins"""
    evaluation_episodes: int = 30
    """before, and after each round"""
    task_set: Pairs = ()
    """settings of the task; observe, cameras and camera_size are the demonstrations' unless they are given"""
    resume: Path | None = None
    """continue this run after its last finished round; give it alone"""


@dataclass(frozen=True)
class Evaluate:
    """How often a policy's first try as a primitive does its stage, and how often the whole task is done."""

    policy: Annotated[Path, tyro.conf.Positional]
    """run of `cadenza imitate bc`"""
    task: str = "cable"
    """a task of `cadenza sequence`"""
    primitive: str = "route"
    """which one the policy does"""
    stages: int | None = None
    """of the task"""
    episodes: int = 50
    """how many"""
    seed: int = 70_000
    """episode i is reset with seed + i"""
    task_set: Pairs = ()
    """settings of the task; observe, cameras and camera_size are the demonstrations' unless they are given"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Imitate:
    """Policies from demonstrations.

    cadenza imitate bc demos --run runs/route --set primitive=route features=cable numbers=clip_frame
    cadenza imitate bc --resume runs/route
    cadenza imitate evaluate runs/route
    cadenza imitate dagger runs/route --demos demos --run runs/route-dagger
    cadenza imitate dagger --resume runs/route-dagger
    cadenza imitate pretraining demos --set primitive=route --json pretraining.json
    """

    what: (
        Annotated[Bc, tyro.conf.subcommand("bc")]
        | Annotated[Pretraining, tyro.conf.subcommand("pretraining")]
        | Annotated[Dagger, tyro.conf.subcommand("dagger")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    )
    """what to do"""


def main(arguments: list[str]) -> int:
    """Parse, learn, report."""
    what = parse(
        tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)(Imitate), "imitate", arguments
    ).what
    _check(what)
    import torch

    torch.set_num_threads(1)  # small networks: more threads would only wait for each other, and sum in another order
    if isinstance(what, Bc):
        return _bc(what)
    if isinstance(what, Pretraining):
        return _pretraining(what)
    return _dagger(what) if isinstance(what, Dagger) else _evaluate(what)


def _check(what: Bc | Pretraining | Dagger | Evaluate) -> None:
    """Raise CadenzaError at a number that cannot be."""
    for name in ("episodes", "rounds", "evaluation_episodes", "steps", "seeds", "pretrain_steps", "stages"):
        value = getattr(what, name, None)
        if value is not None and value < 1:
            raise CadenzaError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    for name in ("seed", "inverse_dynamics"):
        if (value := getattr(what, name, 0)) < 0:
            raise CadenzaError(f"--{name.replace('_', '-')} must not be negative, got {value}.")
    if isinstance(what, Pretraining) and (not what.counts or min(what.counts) < 1):
        raise CadenzaError("--counts are numbers of demonstrations, each at least 1.")


def _bc(options: Bc) -> int:
    from cadenza.agents.imitation.cloning import clone, read_run
    from cadenza.agents.imitation.config import FINE_TUNING, CloningConfig, config_from, resolve_config
    from cadenza.agents.imitation.inverse_dynamics import pretrain
    from cadenza.agents.imitation.optimisation import CHECKPOINT
    from cadenza.agents.imitation.policy import ImitationPolicy

    if options.resume is not None:
        if options.demos or options.set or options.run or options.start or options.inverse_dynamics:
            raise CadenzaError("--resume takes everything from the run; give it alone.")
        record = read_run(options.resume)
        demos, config, run = (
            Path(record["facts"]["demos"]),
            config_from(CloningConfig, record["config"]),
            options.resume,
        )
        facts = record["facts"]
        start = facts.get("start")
        if not (run / CHECKPOINT).is_file():
            raise CadenzaError(f"{run} has no checkpoint.", "It ended before its first one; start anew.")
    elif options.demos is None:
        raise CadenzaError("imitate bc needs demonstrations.", "cadenza imitate bc DEMOS --run RUN")
    else:
        demos, start = options.demos, None if options.start is None else str(options.start)
        if start is not None and options.inverse_dynamics:
            raise CadenzaError(
                "A policy that is given with --start has learned already.",
                "Leave out --inverse-dynamics, which is for policies that begin from nothing.",
            )
        base = None if start is None else dataclasses.replace(ImitationPolicy.load(start).config, **FINE_TUNING)
        config = resolve_config(settings_from(options.set), base)
        run = options.run or Path("runs") / f"imitation-{demos.name}-{time.strftime('%m%d-%H%M%S')}"
        facts = {"demos": str(demos), "start": start}
    samples, inputs, made = load(demos, config)
    tell_damaged(made)
    training, held_out = samples.split(config.held_out, config.seed)
    out.print(
        f"{len(samples):,} steps of {len(samples.episodes()):,} stretches, {inputs.number_count} numbers"
        f"{''.join(f', camera {name}' for name in inputs.cameras)} -> {inputs.actions} actions, in {escape(str(run))}"
    )
    with updates_bar() as progress:
        initial = None if start is None else ImitationPolicy.load(start)
        if options.inverse_dynamics:
            seen = transitions(demos, config).without(held_out.layout)
            initial = pretrain(seen, inputs, config, options.inverse_dynamics, progress)
            facts |= {"inverse_dynamics": initial.facts["inverse_dynamics"]}
        result = clone(
            training, inputs, config, run, held_out=held_out, initial=initial, facts=facts,
            resume=options.resume is not None, progress=progress,
        )  # fmt: skip
    return _conclude(result, run)


def _conclude(result: CloneResult, run: Path) -> int:
    if result.interrupted:
        out.print(
            f"interrupted at update {result.step:,}; everything is stored. Continue:  cadenza imitate bc --resume {run}"
        )
        return INTERRUPTED
    last = result.rows[-1] if result.rows else {}
    words = f"loss {last['loss']:.2f}" if last else "nothing was left to do"
    if "held_out_loss" in last:
        words += f"; on held-out layouts {last['held_out_loss']:.2f}, actions off by {last['held_out_error']:.3f} (rms)"
    out.print(f"[bold green]done[/]: {result.step:,} updates, {words}")
    out.print(f"policy: {escape(str(run / 'policy'))}")
    return 0


def _pretraining(options: Pretraining) -> int:
    from cadenza.agents.imitation.config import resolve_config
    from cadenza.agents.imitation.inverse_dynamics import compare
    from cadenza.agents.runs.settings import provenance

    config = resolve_config(settings_from(options.set))
    samples, inputs, made = load(options.demos, config)
    tell_damaged(made)
    evaluate = None
    if options.task is not None:
        if config.primitive is None:
            raise CadenzaError("--task measures a primitive; say which: --set primitive=NAME.")
        evaluate = measure(options, config.primitive)
    out.print(f"  {'demos':>6}{'':22}{'held-out loss':>15}{'actions off by':>16}{'first try':>12}")
    with updates_bar() as progress:
        rows = compare(
            samples, inputs, config, everything=transitions(options.demos, config), counts=options.counts,
            seeds=range(options.seeds), pretrain_steps=options.pretrain_steps, evaluate=evaluate, tell=_tell_row,
            progress=progress,
        )  # fmt: skip
    record = {"command": "cadenza imitate pretraining", "options": options_of(options), "config": config.to_dict()}
    write_result(options.json, {**record, "rows": [dataclasses.asdict(row) for row in rows], **provenance()})
    return 0


def _tell_row(row: Comparison) -> None:
    kind = "inverse dynamics" if row.pretrained else "from scratch"
    tried = "" if row.success is None else f"{row.success['first_tries']} of {row.success['n_tries']}"
    out.print(f"  {row.demonstrations:>6}  {kind:20}{row.held_out_loss:15.3f}{row.held_out_error:16.4f}{tried:>12}")
