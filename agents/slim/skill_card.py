"""What the card of a bundle tells of its skills: the figures of ``cadenza skills evaluate``, of the bundle itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from cadenza.agents.slim.opening import open_skills, skill_envs
from cadenza.agents.slim.skill_metrics import FIGURES, REPEATED_SKILLS, REPEATS, SKILLS, evaluate_skills

_ENVIRONMENTS = 16
_FIGURES = ("skills", "repeated_skills", "repeated_episodes", "environment_steps", "figures")


def skill_figures(
    folder: Path, name: str, seed: int, *, skills: int = SKILLS, repeated: int = REPEATED_SKILLS, repeats: int = REPEATS
) -> dict[str, Any]:
    """The figures of the skills of the bundle in ``folder``, with the command that measures them again.

    Args:
        folder: the bundle.
        name: how it will be called.
        seed: of skills and environments.
        skills: random skills, an episode each.
        repeated: skills that are played several times.
        repeats: how often.
    """
    player, opened = open_skills(folder)
    env = skill_envs(opened.env_id, _ENVIRONMENTS, **opened.env_kwargs)
    try:
        report = evaluate_skills(player, env, skills=skills, repeated_skills=repeated, repeats=repeats, seed=seed)
    finally:
        env.close()
    counts = {"--skills": (skills, SKILLS), "--repeated": (repeated, REPEATED_SKILLS), "--repeats": (repeats, REPEATS)}
    words = [f"{option} {value}" for option, (value, default) in counts.items() if value != default]
    told = report.to_dict()
    return {
        "command": " ".join([f"cadenza skills evaluate {shlex.quote(name)} --seed {seed}", *words]),
        "seed": seed,
        **{key: told[key] for key in _FIGURES},
    }


def skill_lines(told: dict[str, Any], name: str) -> list[str]:
    """The part of ``card.md`` on the skills, from what :func:`skill_figures` found."""
    lines = [
        "",
        "## Skills",
        "",
        "```sh",
        told["command"],
        f"cadenza skills map {shlex.quote(name)}",
        "```",
        "",
        f"{told['skills']} random skills, an episode each; for the consistency {told['repeated_skills']} skills in "
        f"{told['repeated_episodes']} episodes. `docs/slim.md` has the definitions.",
        "",
        "| Figure | Value | 95 % interval | What it is |",
        "|---|---|---|---|",
    ]
    for figure, (value, low, high) in told["figures"].items():
        between = "-" if low == high else f"{low:,.3f} to {high:,.3f}"
        lines.append(f"| `{figure}` | {value:,.3f} | {between} | {_meaning(figure)} |")
    return lines


def _meaning(figure: str) -> str:
    kind = figure.removeprefix("violations_per_1000_")
    text = FIGURES.get(figure, f"of them by {kind.replace('_', ' ')}")
    return text.replace("|", "\\|")
