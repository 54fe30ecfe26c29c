"""``cadenza bench critics``: multi-critic Symphony against one critic on the weighted sum."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.bench.timing import Record
from cadenza.scripts.console import out
from cadenza.scripts.parse import settings_from


@dataclass(frozen=True)
class Critics:
    """Train Symphony with a critic triple for each reward group, and with one on the weighted sum, on the same seeds.

    cadenza bench critics cadenza/PandaPlay-v0 --steps 20000 --seeds 0 1 2 --n-envs 16 --json critics.json
    """

    env: Annotated[str, tyro.conf.Positional] = "cadenza/PandaPlay-v0"
    """a task with reward groups"""
    weights: str | None = None
    """group -> weight, all together 1, as in '{"reach": 0.5, "safety": 0.5}'; the environment's own if not given"""
    ways: tuple[str, ...] = ("per_group", "summed")
    """of per_group, summed, summed_scaled"""
    steps: int = 20_000
    """environment steps of each training"""
    seeds: tuple[int, ...] = (0,)
    """one training of each way for each"""
    n_envs: int = 1
    """environments"""
    skills: bool = False
    """draw a skill for each episode and add the group diversity"""
    episodes: int = 20
    """noise-free episodes that are counted after each training"""
    preset: str = "cpu"
    """of Symphony"""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """settings of Symphony, the same for all"""
    json: Path | None = None
    """write the figures to this file"""


def measure_critics(options: Critics) -> Record:
    """Train one after the other; print a line for each and the means."""
    import torch

    from cadenza.agents.symphony.comparison import Plan, compare

    torch.set_num_threads(1)
    plan = Plan(
        options.env, _weights(options.weights), options.ways, options.steps, options.seeds, options.n_envs,
        options.skills, options.episodes, options.preset, settings_from(options.set),
    )  # fmt: skip

    rows: list[dict[str, Any]] = []

    def told(row: dict[str, Any]) -> None:
        rows.append(row)
        out.print(f"{row['critics']:14} seed {row['seed']}  {_figures(row)}  ({row['elapsed_s']:.0f} s)")

    out.print(f"[bold]critics[/] {options.env}, {options.steps:,} steps; mean reward per noise-free step")
    try:
        compare(plan, told)
    except KeyboardInterrupt:
        if not rows:
            raise
        asked = len(options.ways) * len(options.seeds)
        out.print(f"interrupted after {len(rows)} of {asked} trainings; what follows is of them")
    means: dict[str, dict[str, float]] = {}
    for way in options.ways:
        own = [row for row in rows if row["critics"] == way]
        if not own:
            continue
        names = [*own[0]["weights"], "episode_steps"]
        means[way] = {name: sum(row[name] for row in own) / len(own) for name in names}
        out.print(
            f"[bold]{way:14} mean[/]    " + "  ".join(f"{name} {value:.4f}" for name, value in means[way].items())
        )
    return {"env": options.env, "preset": options.preset, "settings": list(options.set), "rows": rows, "means": means}


def _figures(row: dict[str, Any]) -> str:
    return "  ".join(f"{name} {row[name]:.4f}" for name in (*row["weights"], "episode_steps"))


def _weights(text: str | None) -> dict[str, float] | None:
    if text is None:
        return None
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, dict):
        raise CadenzaError(f"--weights maps groups to numbers, got {text!r}.", "For example: '{\"reach\": 1.0}'")
    return {str(name): float(value) for name, value in found.items()}
