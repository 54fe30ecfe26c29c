"""``cadenza imitate``: policies from demonstrations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.parse import parse, settings_from

if TYPE_CHECKING:
    from cadenza.agents.imitation.cloning import CloneResult
    from cadenza.agents.imitation.config import CloningConfig
    from cadenza.agents.imitation.optimisation import Progress
    from cadenza.agents.imitation.policy import Inputs
    from cadenza.agents.imitation.samples import Samples

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
    """updates of inverse-dynamics pre-training on all steps first; 0 = none"""
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
    """updates of inverse dynamics, on all training layouts"""
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

    policy: Annotated[Path, tyro.conf.Positional]
    """run of `cadenza imitate bc`, made from --demos"""
    demos: Path
    """the demonstrations it was made from"""
    run: Path
    """folder to make: corrections/ (demonstrations), policy/, dagger.json"""
    task: str = "cable"
    """a task of `cadenza sequence`"""
    stages: int | None = None
    """of the task"""
    rounds: int = 3
    """of driving and learning"""
    episodes: int = 20
    """in each round"""
    beta: float = 0.5
    """share of steps in which the expert drives in round 1; squared in round 2, ..."""
    steps: int = 1_000
    """updates after each round"""
    learning_rate: float = 3e-5
    """where their cosine begins"""
    evaluation_episodes: int = 30
    """before, and after each round"""
    task_set: Pairs = ()
    """settings of the task"""


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
    """settings of the task"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Imitate:
    """Policies from demonstrations.

    cadenza imitate bc demos --run runs/route --set primitive=route features=cable numbers=clip_frame
    cadenza imitate bc --resume runs/route
    cadenza imitate evaluate runs/route
    cadenza imitate dagger runs/route --demos demos --run runs/route-dagger
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
    import torch

    torch.set_num_threads(1)  # small networks: more threads would only wait for each other, and sum in another order
    if isinstance(what, Bc):
        return _bc(what)
    if isinstance(what, Pretraining):
        return _pretraining(what)
    return _dagger(what) if isinstance(what, Dagger) else _evaluate(what)


def _bc(options: Bc) -> int:
    from cadenza.agents.imitation.cloning import CHECKPOINT, clone, read_run
    from cadenza.agents.imitation.config import FINE_TUNING, CloningConfig, config_from, resolve_config
    from cadenza.agents.imitation.inverse_dynamics import pretrain
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
        start = record["facts"].get("start")
        if not (run / CHECKPOINT).is_file():
            raise CadenzaError(f"{run} has no checkpoint.", "It ended before its first one; start anew.")
    elif options.demos is None:
        raise CadenzaError("imitate bc needs demonstrations.", "cadenza imitate bc DEMOS --run RUN")
    else:
        demos, start = options.demos, None if options.start is None else str(options.start)
        base = None if start is None else dataclasses.replace(ImitationPolicy.load(start).config, **FINE_TUNING)
        config = resolve_config(settings_from(options.set), base)
        run = options.run or Path("runs") / f"imitation-{demos.name}-{time.strftime('%m%d-%H%M%S')}"
    samples, inputs = _samples(demos, config)
    facts = {"demos": str(demos), "start": start}
    out.print(
        f"{len(samples):,} steps of {len(samples.episodes()):,} stretches, {inputs.number_count} numbers"
        f"{''.join(f', camera {name}' for name in inputs.cameras)} -> {inputs.actions} actions, in {escape(str(run))}"
    )
    with _bar() as progress:
        initial = None if start is None else ImitationPolicy.load(start)
        if initial is None and options.inverse_dynamics:
            whole, _ = _samples(demos, dataclasses.replace(config, successes_only=False))
            training, _ = whole.split(config.held_out, config.seed)
            initial = pretrain(training, inputs, config, options.inverse_dynamics, progress)
        result = clone(
            samples, inputs, config, run, initial=initial, facts=facts, resume=options.resume is not None,
            progress=progress,
        )  # fmt: skip
    return _conclude(result, run)


def _conclude(result: CloneResult, run: Path) -> int:
    if result.interrupted:
        out.print(
            f"interrupted at update {result.step:,}; everything is stored. Continue:  cadenza imitate bc --resume {run}"
        )
        return 130
    last = result.rows[-1] if result.rows else {}
    words = f"loss {last['loss']:.2f}" if last else "nothing was left to do"
    if "held_out_loss" in last:
        words += f"; on held-out layouts {last['held_out_loss']:.2f}, actions off by {last['held_out_error']:.3f} (rms)"
    out.print(f"[bold green]done[/]: {result.step:,} updates, {words}")
    out.print(f"policy: {escape(str(run / 'policy'))}")
    return 0


def _samples(demos: Path, config: CloningConfig) -> tuple[Samples, Inputs]:
    from cadenza.agents.demos import DemoSet
    from cadenza.agents.imitation.samples import load_samples
    from cadenza.agents.sequences import primitive_names

    made = DemoSet(demos, verify=False)
    return load_samples(made, config, primitive_names(made.schema.env_id))


def _pretraining(options: Pretraining) -> int:
    from cadenza.agents.imitation.config import resolve_config
    from cadenza.agents.imitation.inverse_dynamics import compare
    from cadenza.agents.runs.settings import provenance

    config = resolve_config(settings_from(options.set))
    samples, inputs = _samples(options.demos, config)
    evaluate = None
    if options.task is not None:
        if config.primitive is None:
            raise CadenzaError("--task measures a primitive; say which: --set primitive=NAME.")
        evaluate = _measure(options, config.primitive)
    out.print(f"  {'demos':>6}{'':22}{'held-out loss':>15}{'actions off by':>16}{'first try':>12}")
    rows = []
    with _bar() as progress:
        for row in compare(
            samples, inputs, config, counts=options.counts, seeds=range(options.seeds),
            pretrain_steps=options.pretrain_steps, evaluate=evaluate, progress=progress,
        ):  # fmt: skip
            rows.append(dataclasses.asdict(row))
            kind = "inverse dynamics" if row.pretrained else "from scratch"
            tried = "" if row.success is None else f"{row.success['first_tries']} of {row.success['n_tries']}"
            out.print(
                f"  {row.demonstrations:>6}  {kind:20}{row.held_out_loss:15.3f}{row.held_out_error:16.4f}{tried:>12}"
            )
    command = f"cadenza imitate pretraining {options.demos.name}"
    write_result(options.json, {"command": command, "config": config.to_dict(), "rows": rows, **provenance()})
    return 0


def _measure(options: Pretraining, primitive: str) -> Any:
    from cadenza.agents.imitation.dagger import DaggerConfig, primitive_success
    from cadenza.agents.sequencer.choosers import ScriptedOrder
    from cadenza.agents.sequences import learner_for, make_task

    def evaluate(policy: Any) -> dict[str, Any]:
        task = make_task(str(options.task), 1, **settings_from(options.task_set))
        try:
            task.primitives = {**task.primitives, primitive: learner_for(str(options.task), primitive)(policy)}
            seed = DaggerConfig().evaluation_seed
            return primitive_success(task, ScriptedOrder(), primitive, options.episodes, seed).to_dict()
        finally:
            task.close()

    return evaluate


def _dagger(options: Dagger) -> int:
    from cadenza.agents.demos import DemoSet
    from cadenza.agents.imitation.dagger import DaggerConfig, dagger
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.sequencer.choosers import OracleRetry
    from cadenza.agents.sequences import learner_for, make_task

    policy = ImitationPolicy.load(options.policy)
    primitive = policy.config.primitive
    if primitive is None:
        raise CadenzaError(f"{options.policy} was not made for one primitive.", "Train it with --set primitive=NAME.")
    samples, _ = _samples(options.demos, policy.config)
    config = DaggerConfig(
        rounds=options.rounds, episodes=options.episodes, beta=options.beta, steps=options.steps,
        learning_rate=options.learning_rate, evaluation_episodes=options.evaluation_episodes,
    )  # fmt: skip
    task = make_task(options.task, options.stages, **settings_from(options.task_set))
    try:
        with _bar() as progress:
            dagger(
                policy, samples, task, OracleRetry(), primitive, learner_for(options.task, primitive),
                DemoSet(options.demos, verify=False).schema, options.run, config,
                facts={"policy": str(options.policy), "demos": str(options.demos), "task": options.task},
                tell=_tell_round, progress=progress,
            )  # fmt: skip
    finally:
        task.close()
    out.print(f"written: {escape(str(options.run))}")
    return 0


def _tell_round(row: dict[str, Any]) -> None:
    share = "-" if row["first_try"]["share"] is None else f"{row['first_try']['share']:.0%}"
    gain = "" if row["gain"] is None else f", gain {100 * row['gain']:+.0f} points"
    out.print(
        f"round {row['round']}: first tries {row['first_tries']} of {row['n_tries']} ({share}){gain}; "
        f"whole task {row['tasks']} of {row['n']}; {row['labels']:,} corrections so far"
    )


def _evaluate(options: Evaluate) -> int:
    from cadenza.agents.imitation.dagger import primitive_success
    from cadenza.agents.imitation.policy import ImitationPolicy
    from cadenza.agents.runs.settings import provenance
    from cadenza.agents.sequencer.choosers import OracleRetry
    from cadenza.agents.sequences import learner_for, make_task

    policy = ImitationPolicy.load(options.policy)
    settings = settings_from(options.task_set)
    task = make_task(options.task, options.stages, **settings)
    try:
        learner = learner_for(options.task, options.primitive)(policy)
        task.primitives = {**task.primitives, options.primitive: learner}
        with _bar() as progress:
            found = primitive_success(
                task, OracleRetry(), options.primitive, options.episodes, options.seed,
                progress=lambda done: progress(done, options.episodes, "playing"),
            ).to_dict()  # fmt: skip
    finally:
        task.close()
    record = {
        "command": f"cadenza imitate evaluate {options.policy.name}", "task": options.task, "settings": settings,
        "seed": options.seed, "primitive": options.primitive, **found, **provenance(),
    }  # fmt: skip
    write_result(options.json, record)
    for words, name, count, n in (
        (f"first tries of {options.primitive}", "first_try", "first_tries", "n_tries"),
        ("whole tasks, retried by the oracle", "task", "tasks", "n"),
    ):
        interval = found[name]["ci95"]
        spread = "" if interval is None else f" (95 %: {interval[0]:.0%} to {interval[1]:.0%})"
        out.print(f"{words}: {found[count]} of {found[n]}{spread}")
    return 0


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on a terminal; in a log a line now and then."""
    from cadenza.scripts.updates_bar import updates_bar

    with updates_bar() as progress:
        yield progress
