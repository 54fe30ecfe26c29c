"""``cadenza train``: a run from scratch, or the rest of one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse, settings_from

if TYPE_CHECKING:
    from cadenza.agents.runs.settings import RunSettings
    from cadenza.agents.runs.training import TrainResult


@dataclass(frozen=True)
class Train:
    """Train an agent from scratch in a new run folder, or continue a run.

    cadenza train symphony cadenza/Humanoid-v0 --preset cpu --steps 100000 --run runs/first
    cadenza train sac Humanoid-v5 --steps 50000 --set learning_starts=5000
    cadenza train slim cadenza/PandaPlay-v0
    cadenza train --resume runs/first
    """

    agent: Annotated[str | None, tyro.conf.Positional] = None
    """symphony, slim (skills), multi_critic_ppo, or for comparison sac, td3, ppo, tqc, crossq"""
    env: Annotated[str | None, tyro.conf.Positional] = None
    """environment id; `cadenza list envs` shows them"""
    preset: str | None = None
    """Symphony's or SLIM's preset (default cpu and slim); `cadenza list presets` shows them"""
    steps: int | None = None
    """environment steps in all (default 100000; slim 1000000)"""
    seed: int = 0
    """seed of every generator"""
    run: Path | None = None
    """run folder (default runs/<agent>-<env>-<preset>-s<seed>-<time>)"""
    resume: Path | None = None
    """continue this run from its last checkpoint; --steps moves its end"""
    minutes: float | None = None
    """end in order after this much wall-clock, even before --steps (a later --resume goes on)"""
    checkpoint_every: int = 10_000
    """environment steps between checkpoints; 0 = only at the end"""
    evaluate_every: int = 10_000
    """environment steps between evaluations; 0 = none"""
    evaluate_episodes: int = 5
    """episodes of each evaluation during training"""
    n_envs: int | None = None
    """environments (default 1; slim 16): those of legged robots and arms are stepped together, others in turn"""
    randomised: bool = False
    """train with domain randomisation and pushes (legged robots); evaluations stay nominal"""
    teacher: str | None = None
    """who chooses the parameters of each episode (legged robots): random or alp-gmm, see docs/curriculum.md"""
    env_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of the environment, e.g. --env-set terrain=rough history=3"""
    train_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of the training environments alone, e.g. --train-set push_every_s=[1,3]: harder than what evaluations
    and the policy's bundle see"""
    device: str = "cpu"
    """torch device: cpu, cuda, ..."""
    torch_threads: int | Literal["auto"] = "auto"
    """threads of torch. auto: what updates fastest, measured when the run begins and kept by --resume; 1 if other
    programs take the cores later. A number: always this many, so that the run can be repeated bit for bit"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of the algorithm to change, e.g. --set batch_size=64 learning_rate=1e-4"""


def main(arguments: list[str]) -> int:
    """Parse and train; 130 after Ctrl-C."""
    options = parse(Train, "train", arguments)
    limit = None if options.minutes is None else 60 * options.minutes
    if options.resume is not None:
        if (options.agent, options.run, options.preset, options.set) != (None, None, None, ()):
            raise CadenzaError(
                "--resume takes agent, environment and settings from the run; give it alone.",
                f"cadenza train --resume {options.resume}",
            )
        from cadenza.agents.runs.training import resume
        from cadenza.scripts.progress import TrainingProgress

        out.print(f"continuing [bold]{escape(str(options.resume))}[/]")
        with TrainingProgress(str(options.resume)) as watcher:
            return conclude(resume(options.resume, watcher, total_steps=options.steps, time_limit_s=limit))
    if options.agent is None or options.env is None:
        raise CadenzaError(
            "train needs an agent and an environment.", "cadenza train symphony cadenza/Humanoid-v0 --steps 100000"
        )
    return _train(options, options.agent, options.env, limit)


def _train(options: Train, agent: str, env_id: str, limit: float | None) -> int:
    from cadenza.agents.runs.training import train
    from cadenza.scripts.progress import TrainingProgress

    settings = run_settings(options, agent, env_id)
    preset = settings.preset
    name = "-".join([agent, env_id.rsplit("/", 1)[-1], *([preset] if preset else []), f"s{options.seed}"])
    run = options.run or Path("runs") / f"{name}-{time.strftime('%m%d-%H%M%S')}"
    with_preset = f" ({escape(preset)})" if preset else ""
    out.print(
        f"training [bold]{escape(agent)}[/]{with_preset} on [bold]{escape(env_id)}[/] in [bold]{escape(str(run))}[/]"
    )
    with TrainingProgress(name) as watcher:
        return conclude(train(settings, run, watcher, time_limit_s=limit))


def run_settings(options: Train, agent: str, env_id: str) -> RunSettings:
    """What the options ask for, with what an agent has by default."""
    from cadenza.agents.runs.catalogue import DEFAULT_ENVS, DEFAULT_PRESETS, DEFAULT_STEPS
    from cadenza.agents.runs.settings import RunSettings

    return RunSettings(
        agent=agent,
        env_id=env_id,
        preset=options.preset or DEFAULT_PRESETS.get(agent),
        total_steps=options.steps if options.steps is not None else DEFAULT_STEPS.get(agent, 100_000),
        seed=options.seed,
        n_envs=options.n_envs if options.n_envs is not None else DEFAULT_ENVS.get(agent, 1),
        device=options.device,
        torch_threads=options.torch_threads,
        evaluate_every=options.evaluate_every,
        evaluate_episodes=options.evaluate_episodes,
        checkpoint_every=options.checkpoint_every,
        overrides=settings_from(options.set),
        env_kwargs=settings_from(options.env_set),
        teacher=options.teacher,
        training_kwargs=training_settings(options),
    )


def training_settings(options: Train) -> dict[str, object]:
    """What the training environments have beside those of evaluations."""
    return {**({"randomised": True} if options.randomised else {}), **settings_from(options.train_set)}


def conclude(result: TrainResult) -> int:
    """Say how the training ended and what can be done next; the exit code."""
    from cadenza.agents.runs.settings import RunFolder

    run = escape(str(result.folder))
    if result.interrupted:
        out.print(f"interrupted at step {result.step:,}; everything is stored. Continue:  cadenza train --resume {run}")
        return 130
    best = "" if result.best_return is None else f", best return {result.best_return:,.0f}"
    out.print(f"[bold green]done[/]: {result.step:,} steps in {result.elapsed_s / 60:.1f} min{best}")
    out.print(f"  cadenza evaluate {run}\n  cadenza record {run} --out {run}/rollout.mp4\n  cadenza plot {run}")
    if RunFolder(result.folder).read_settings().agent == "slim":
        out.print(f"  cadenza skills map {run}\n  cadenza skills evaluate {run}")
    return 0
