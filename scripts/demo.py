"""``cadenza demo``: a humanoid learns from scratch, filmed before and after."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.scripts.console import out
from cadenza.scripts.parse import options_of, parse

if TYPE_CHECKING:
    from cadenza.agents.runs.evaluation import Evaluation
    from cadenza.agents.runs.settings import RunSettings

_EVALUATION_SEED = 0
_RECORD = "demo.json"


@dataclass(frozen=True)
class Demo:
    """Train Symphony on a humanoid for a few minutes, evaluate it, and film it before and after side by side.

    make demo
    cadenza demo --steps 100000 --minutes 20
    """

    env: str = "cadenza/Humanoid-v0"
    """environment id"""
    preset: str = "demo"
    """Symphony's preset"""
    steps: int = 40_000
    """environment steps"""
    minutes: float = 4.0
    """training ends after this much wall-clock even before --steps"""
    seed: int = 0
    """seed of every generator"""
    run: Path = Path("runs/demo")
    """run folder; the demo replaces what an earlier demo left there"""
    episodes: int = 10
    """noise-free episodes of each of the two evaluations"""


def main(arguments: list[str]) -> int:
    """Parse, train, measure, film."""
    options = parse(Demo, "demo", arguments)
    graphics = _graphics()  # before anything imports MuJoCo
    from cadenza.agents.runs.settings import RunSettings, provenance, write_json
    from cadenza.agents.runs.training import train
    from cadenza.scripts.progress import TrainingProgress

    settings = RunSettings(
        agent="symphony", env_id=options.env, preset=options.preset, total_steps=options.steps, seed=options.seed,
        evaluate_every=5_000, evaluate_episodes=3, checkpoint_every=20_000,
    )  # fmt: skip
    _clear(options.run)
    out.print(f"[bold]1/4[/] measuring {options.env} before training")
    untrained = _untrained(settings)
    before = _measure(untrained, options)
    out.print(f"      return {before.return_mean:,.0f}, falls after {before.length_mean:,.0f} steps")
    out.print(f"[bold]2/4[/] training Symphony from scratch, {options.minutes:g} minutes at most")
    with TrainingProgress("learning") as watcher:
        result = train(settings, options.run, watcher, time_limit_s=60 * options.minutes)
    write_json(options.run / _RECORD, {"before": before.to_dict()})
    if result.interrupted:
        out.print(f"interrupted; continue:  cadenza train --resume {options.run}")
        return 130
    out.print("[bold]3/4[/] measuring what it learned")
    from cadenza.agents.runs.plotting import plot_runs
    from cadenza.agents.runs.policies import open_policy

    trained = open_policy(options.run)
    after = _measure(trained.act, options)
    curve = options.run / "learning_curve.png"
    plot_runs([options.run], curve, title=f"Symphony on {options.env}, {result.elapsed_s / 60:.1f} minutes")
    film = options.run / "before_after.mp4"
    if graphics:
        out.print("[bold]4/4[/] filming before and after")
        _film(film, options, untrained, trained.act, trained.step)
    record = {
        "command": "cadenza demo",
        "settings": options_of(options),
        "step": trained.step,
        "training_s": round(result.elapsed_s, 1),
        "before": before.to_dict(),
        "after": after.to_dict(),
        **provenance(),
    }
    write_json(options.run / _RECORD, record)
    _conclude(before, after, [curve, *([film] if graphics else []), options.run])
    return 0


def _graphics() -> bool:
    """Whether films can be made; if not, say what is missing now rather than after minutes of training."""
    from cadenza.envs.rendering.gl import NoGraphicsLibraryError, ensure_gl_backend

    try:
        ensure_gl_backend()
    except NoGraphicsLibraryError as error:
        out.print(f"[yellow]note:[/] no film today: {error}\n  {error.advice}\n  Training goes on without it.")
        return False
    return True


def _clear(run: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    from cadenza.agents.runs.settings import RunFolder
    from cadenza.envs.errors import CadenzaError

    if not run.exists() or (run.is_dir() and not any(run.iterdir())):
        return
    if not (run / _RECORD).is_file() and run != Demo.run:
        raise CadenzaError(f"{run} exists and was not made by the demo; nothing was changed.", "Choose another --run.")
    RunFolder(run).read_record()
    shutil.rmtree(run)


def _untrained(settings: RunSettings) -> Any:
    """The policy that training starts from: same seed, same weights."""
    import torch

    from cadenza.agents.runs.catalogue import build_model
    from cadenza.agents.runs.policies import act_of
    from cadenza.envs.registration import make_env

    torch.set_num_threads(int(settings.torch_threads))
    return act_of(build_model(settings, make_env(settings.env_id)))


def _measure(act: Any, options: Demo) -> Evaluation:
    from cadenza.agents.runs.evaluation import evaluate
    from cadenza.envs.registration import make_env

    env = make_env(options.env)
    try:
        return evaluate(act, env, episodes=options.episodes, seed=_EVALUATION_SEED)
    finally:
        env.close()


def _film(path: Path, options: Demo, before: Any, after: Any, step: int) -> None:
    from cadenza.envs.registration import make_env
    from cadenza.envs.rendering.filming import Panel, film_side_by_side

    envs = [make_env(options.env), make_env(options.env)]
    try:
        panels = [Panel("before training", envs[0], before), Panel(f"after {step:,} steps", envs[1], after)]
        film_side_by_side(panels, path, seed=_EVALUATION_SEED, strip=True)
    finally:
        for env in envs:
            env.close()


def _conclude(before: Evaluation, after: Evaluation, files: list[Path]) -> None:
    from rich.table import Table

    table = Table(title=f"{before.n} noise-free episodes each")
    for column in ("", "return", "steps until it falls", "forward velocity"):
        table.add_column(column, justify="right")
    for name, result in (("before", before), ("after", after)):
        velocity = "-" if result.forward_velocity_mean is None else f"{result.forward_velocity_mean:.2f} m/s"
        table.add_row(
            name, f"{result.return_mean:,.0f} ± {result.return_std:,.0f}", f"{result.length_mean:,.0f}", velocity
        )
    out.print(table)
    out.print("Look at:")
    for file in files:
        out.print(f"  {file}")
    out.print("Next: a longer training.  cadenza train symphony cadenza/Humanoid-v0 --steps 200000 --run runs/first")
