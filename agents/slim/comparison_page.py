"""The page and the picture of a comparison of presets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cadenza.agents.runs.plotting import COLOURS, save_figure
from cadenza.agents.slim.presets import PRESETS, SUMMARIES
from cadenza.agents.slim.skill_metrics import FIGURES, Figure

if TYPE_CHECKING:
    from cadenza.agents.slim.comparison import Group, SkillPlan

PANELS = (
    ("coverage", "coverage: displacement cells reached / reachable"),
    ("violations_per_1000", "steps with a violation, per 1,000 (logarithmic)"),
)
_TABLE = (
    ("coverage", "Coverage [%]", 100.0, 1),
    ("cells", "Cells anywhere", 1.0, 0),
    ("displacement_m", "Displacement [cm]", 100.0, 1),
    ("consistency", "Consistency", 1.0, 2),
    ("grasp_consistency", "Grasp consistency", 1.0, 2),
    ("lift_rate", "Lift rate", 1.0, 2),
    ("violations_per_1000", "Violations per 1,000 steps", 1.0, 1),
    ("peak_force_n", "Peak force, mean [N]", 1.0, 1),
    ("peak_force_max_n", "Peak force, largest [N]", 1.0, 1),
    ("object_force_n", "Object on table, mean of peaks [N]", 1.0, 0),
)


def plot_groups(groups: list[Group], destination: Path, title: str) -> None:
    """Coverage and violations of each preset: mean with its 95 % interval, a small dot for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    size = (11, 1.6 + 0.42 * len(groups))
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=size, sharey=True, constrained_layout=True)
    places = np.arange(len(groups))[::-1]
    for axis, (name, label) in zip(axes, PANELS, strict=True):
        for place, group in zip(places, groups, strict=True):
            colour = COLOURS[1] if group.preset == "slim" else COLOURS[0]
            found = group.figure(name)
            if found is None:
                continue
            axis.plot(
                group.values(name), [place] * len(group.values(name)), "o", color=colour, alpha=0.35, markersize=5
            )
            axis.plot([found.low, found.high], [place, place], color=colour, linewidth=2.2)
            axis.plot([found.value], [place], "D", color=colour, markersize=7)
        axis.set_xlabel(label)
        if name.startswith("violations"):
            axis.set_xscale("symlog", linthresh=1.0)  # a hundred times apart, and 0 is possible
            axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set_xlim(left=0)
        axis.grid(alpha=0.25, axis="x")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(places, [f"{group.preset} ({len(group.results)})" for group in groups])
    axes[0].set_ylim(-0.6, len(groups) - 0.4)
    figure.suptitle(f"{title}\nmean over seeds (their number in brackets), 95 % interval; a dot a seed", fontsize=11)
    save_figure(figure, destination)


def page(plan: SkillPlan, groups: list[Group], record: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    missing = record["planned"] - len(record["runs"])
    unfinished = f"**Not finished: {missing} of {record['planned']} runs are still to come.**" if missing else ""
    machine, versions = record["machine"], record["versions"]
    names = ("python", "torch", "stable_baselines3", "mujoco", "gymnasium", "numpy")
    used = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    parts = [
        f"# Skills on {plan.env_id}: SLIM and its baselines, {plan.steps:,} steps each",
        unfinished,
        f"One run at a time with {plan.n_envs} environments on {machine['processor']}; {used}; commit "
        f"{record['git_commit']}. Every figure is of noise-free episodes after the last step: {plan.skills} random "
        f"skills, and for the consistency {plan.repeated_skills} skills with {plan.repeats} resets each.",
        f"```sh\n{record['command']}\n```",
        "![Coverage and violations](slim.png)",
        verdict(groups),
        "## Figures",
        _table(groups),
        "Mean over seeds and 95 % interval: seeds are drawn anew, and each seed's value from its own interval. **With "
        "one seed it is the interval of that run's episodes** and says nothing of other seeds.",
        "## Violations by kind, per 1,000 steps",
        _kinds(groups),
        "## What the figures are",
        "\n".join(f"- `{name}`: {text}." for name, text in FIGURES.items()),
        "## Presets",
        "\n".join(f"- `{group.preset}`: {SUMMARIES[group.preset]}." for group in groups),
        "## Runs",
        _runs(groups),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict(groups: list[Group]) -> str:
    """SLIM against the single-critic baseline of the best coverage, from the data."""
    by_name = {group.preset: group for group in groups}
    single = [group for group in groups if PRESETS[group.preset].critics != "per_group"]
    if "slim" not in by_name or not single:
        return "**SLIM against one critic:** nothing to compare yet."
    best = max(single, key=lambda group: _value(group, "coverage"))
    lines = [
        f"**SLIM against the single-critic baseline with the best coverage, `{best.preset}`** (from the data):",
        "",
    ]
    for name, text in (("coverage", "coverage"), ("violations_per_1000", "violations per 1,000 steps")):
        ours, theirs = _value(by_name["slim"], name), _value(best, name)
        ratio = f"{ours / theirs:.2f} times" if theirs > 0 else "no ratio: theirs is 0"
        lines.append(f"- {text}: {ours:.3g} against {theirs:.3g}, {ratio}.")
    return "\n".join(lines)


def _value(group: Group, name: str) -> float:
    found = group.figure(name)
    return 0.0 if found is None else found.value


def _cell(found: Figure | None, scale: float, decimals: int) -> str:
    if found is None:
        return "-"
    value, low, high = (f"{scale * number:.{decimals}f}" for number in found.to_list())
    return f"{value} ({low} to {high})"


def _table(groups: list[Group]) -> str:
    lines = [f"| Preset | Seeds | {' | '.join(title for _, title, _, _ in _TABLE)} |", "|---" * (len(_TABLE) + 2) + "|"]
    for group in groups:
        cells = [_cell(group.figure(name), scale, decimals) for name, _, scale, decimals in _TABLE]
        lines.append(f"| {group.preset} | {len(group.results)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _kinds(groups: list[Group]) -> str:
    first = "violations_per_1000_"
    kinds = sorted({n for g in groups for r in g.results for n in r["figures"] if n.startswith(first)})
    if not kinds:
        return "The environment tells of none."
    lines = [f"| Preset | {' | '.join(kind.removeprefix(first) for kind in kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for group in groups:
        cells = [_cell(group.figure(kind), 1.0, 1) for kind in kinds]
        lines.append(f"| {group.preset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _runs(groups: list[Group]) -> str:
    lines = ["| Preset | Seed | Steps | Training clock [min] | Steps/s |", "|---|---|---|---|---|"]
    for group in groups:
        for result in group.results:
            rate = f"{result['step'] / result['train_s']:,.0f}" if result["train_s"] else "-"
            about = f"{result['step']:,} | {result['train_s'] / 60:.1f} | {rate}"
            lines.append(f"| {group.preset} | {result['seed']} | {about} |")
    return "\n".join(lines)
