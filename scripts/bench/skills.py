"""``cadenza bench skills``: SLIM against its baselines, same environment, same steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import settings_from

if TYPE_CHECKING:
    from cadenza.agents.slim.comparison import PlannedRun


@dataclass(frozen=True)
class Skills:
    """Train SLIM and its baselines for the same steps, and measure their skills.

    cadenza bench skills --presets slim lsd single_raw --seeds 3 --steps 1000000

    One run at a time, seed by seed. Ctrl-C loses nothing: the same command goes on, and with more --seeds, --presets or
    --steps it extends what is there. Writes slim.md, .csv, .png and .json into --out after every run.
    """

    presets: tuple[str, ...] = ()
    """presets of slim, with blanks or commas between them; none: all (`cadenza list presets`)"""
    seeds: int = 3
    """0, 1, ..."""
    steps: int = 1_000_000
    """environment steps of each run"""
    env: str = "cadenza/PandaPlay-v0"
    """environment id"""
    n_envs: int = 16
    """environments of each run"""
    out: Path = Path("runs/skills")
    """folder of the runs and the report"""
    skills: int = 200
    """random skills of the evaluation"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of slim that differ from every preset's"""
    env_set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of the environment"""


def run_skills(options: Skills, command: str) -> None:
    """Do what is left to do, and write the report after every run.

    Raises:
        CadenzaError: bad arguments, or a folder with other runs; nothing has been started then.
        KeyboardInterrupt: Ctrl-C; the run at work is stored.
    """
    import torch

    torch.set_num_threads(1)
    from cadenza.agents.slim.comparison import SkillPlan, run_plan, write_report
    from cadenza.agents.slim.presets import PRESETS
    from cadenza.scripts.progress import TrainingProgress

    named = tuple(name for text in options.presets for name in text.split(",") if name)
    plan = SkillPlan(
        options.out, options.env, named or tuple(PRESETS), options.seeds, options.steps, options.n_envs, options.skills,
        env_kwargs=settings_from(options.env_set), overrides=settings_from(options.set),
    )  # fmt: skip
    runs = plan.runs()
    out.print(f"{len(runs)} runs of {plan.steps:,} steps in {escape(str(plan.out))}")

    def tell(run: PlannedRun, what: str) -> None:
        out.print(f"[{runs.index(run) + 1}/{len(runs)}] [bold]{escape(run.label)}[/]: {what}")

    def watcher(run: PlannedRun) -> TrainingProgress:
        return TrainingProgress(run.label)

    try:
        run_plan(plan, watcher, tell, partial(write_report, plan, command))
    except KeyboardInterrupt:
        out.print("everything is stored. The same command goes on:")
        out.print(f"  {escape(command)}")
        raise
    for path in write_report(plan, command):
        out.print(f"written: {escape(str(path))}")
