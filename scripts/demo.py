"""``cadenza demo``: a humanoid learns from scratch, filmed before and after, and beside a trained one that ships."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import options_of, parse

if TYPE_CHECKING:
    from cadenza.agents.runs.evaluation import Evaluation
    from cadenza.agents.runs.policies import OpenedPolicy
    from cadenza.agents.runs.settings import RunSettings
    from cadenza.scripts.beside import Star

_EVALUATION_SEED = 0
_RECORD = "demo.json"


@dataclass(frozen=True)
class Demo:
    """Train Symphony on a humanoid for a few minutes, evaluate it, and film it before and after side by side.

    Where a trained policy of the same robot ships (`cadenza list policies`), it is shown beside the new one.

    make demo
    cadenza demo --minutes 20 --steps 400000
    """

    env: str = "cadenza/Humanoid-v0"
    """environment id"""
    preset: str = "demo"
    """Symphony's preset"""
    steps: int = 150_000
    """environment steps"""
    minutes: float = 4.0
    """training ends after this much wall-clock even before --steps"""
    seed: int = 0
    """seed of every generator"""
    run: Path = Path("runs/demo")
    """run folder; the demo replaces what an earlier demo left there"""
    episodes: int = 10
    """noise-free episodes of each evaluation"""


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
    star = _star(options)
    curve = options.run / "learning_curve.png"
    plot_runs([options.run], curve, title=f"Symphony on {options.env}, {result.elapsed_s / 60:.1f} minutes")
    films = []
    if graphics:
        out.print("[bold]4/4[/] filming before and after" + (f", and beside {star.policy.name}" if star else ""))
        films.append(options.run / "before_after.mp4")
        _film(films[0], options, untrained, trained.act, trained.step)
        films += _film_beside(options, trained, result.elapsed_s, after, star) if star else []
    record = {
        "command": "cadenza demo",
        "settings": options_of(options),
        "step": trained.step,
        "training_s": round(result.elapsed_s, 1),
        "before": before.to_dict(),
        "after": after.to_dict(),
        "shipped": None if star is None else star.to_dict(),
        **provenance(),
    }
    write_json(options.run / _RECORD, record)
    _conclude(before, after, star, result.elapsed_s, [curve, *films, options.run])
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


def _star(options: Demo) -> Star | None:
    """The shipped policy to compare with. The demo needs none: one that cannot be used is told of and left out."""
    from cadenza.envs.errors import CadenzaError
    from cadenza.scripts.beside import invite

    try:
        return invite(options.env, options.episodes, _EVALUATION_SEED)
    except CadenzaError as error:
        out.print(f"[yellow]note:[/] no shipped policy to compare with: {escape(str(error))}")
        return None


def _film_beside(options: Demo, trained: OpenedPolicy, elapsed_s: float, after: Evaluation, star: Star) -> list[Path]:
    """The film with the shipped policy; none, with a note, if it cannot be made."""
    from cadenza.agents.runs.evaluation import duration
    from cadenza.envs.errors import CadenzaError
    from cadenza.scripts.beside import film_beside

    path = options.run / f"beside_{star.policy.name}.mp4"
    try:
        film_beside(path, options.env, trained.act, duration(elapsed_s), after, star, _EVALUATION_SEED)
    except CadenzaError as error:
        out.print(f"[yellow]note:[/] no film beside {escape(star.policy.name)}: {escape(str(error))}")
        return []
    return [path]


def _conclude(before: Evaluation, after: Evaluation, star: Star | None, elapsed_s: float, files: list[Path]) -> None:
    from rich.table import Table

    from cadenza.agents.runs.evaluation import duration
    from cadenza.scripts.beside import velocity_of

    table = Table(title=f"{before.n} noise-free episodes each")
    for column in ("", "trained", "return", "steps until it falls", "forward velocity"):
        table.add_column(column, justify="right")
    rows = [("before", "-", before), ("after", duration(elapsed_s), after)]
    if star is not None:
        rows.append((f"{star.policy.name} (ships)", star.trained, star.evaluation))
    for name, lasted, result in rows:
        spread = f"{result.return_mean:,.0f} ± {result.return_std:,.0f}"
        table.add_row(name, lasted, spread, f"{result.length_mean:,.0f}", velocity_of(result))
    out.print(table)
    if star is not None:
        out.print(f"{star.policy.name} plays {star.policy.manifest.env_id}; its card: {star.policy.path / 'card.md'}")
    out.print("Look at:")
    for file in files:
        out.print(f"  {file}")
    out.print("Next: a longer training.  cadenza train symphony cadenza/Humanoid-v0 --steps 200000 --run runs/first")
