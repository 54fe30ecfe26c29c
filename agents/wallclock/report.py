"""The benchmark's page, table, picture and record, from whatever runs are done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cadenza.agents.runs.settings import preset_changes, provenance, write_bytes, write_json
from cadenza.agents.wallclock.child import load_average
from cadenza.agents.wallclock.earlier import earlier_runs
from cadenza.agents.wallclock.plan import Plan, is_symphony
from cadenza.agents.wallclock.plot import plot_curves
from cadenza.agents.wallclock.results import (
    MAIN,
    MOTOR_TITLES,
    MOTORS,
    REACHED,
    Column,
    Figure,
    Finished,
    curve_of,
    figures_of,
    finished_runs,
    losses,
    write_rows,
)
from cadenza.agents.wallclock.tuned import PEERS
from cadenza.envs.errors import CadenzaError

Groups = dict[str, list[Finished]]
"""Agent -> its runs."""
Figures = dict[str, dict[str, Figure]]
"""Agent -> column -> figure."""


def write_report(plan: Plan, command: str, beside: Path | None = None) -> list[Path]:
    """Write wallclock.csv, .png, .md and .json of the finished runs into ``plan.out``; nothing without one.

    Args:
        plan: the benchmark.
        command: the command line that makes it, for the record.
        beside: folder of an earlier report, whose runs are shown too; where both have a run, this one's counts.

    Raises:
        CadenzaError: the folder cannot be written, or the earlier report cannot be read or compared.
    """
    runs = finished_runs(plan)
    missing = len(plan.runs()) - len(runs)
    if beside is not None:
        earlier, before = earlier_runs(beside, plan)
        here = {(run.agent, run.seed) for run in plan.runs()}
        runs = _in_order([*(run for run in earlier if (run.run.agent, run.run.seed) not in here), *runs])
        command = f"{before}\n{command}"
    if not runs:
        return []
    groups = _groups(runs)
    curves = [curve_of(group, 60 * plan.evaluate_every_minutes) for group in groups.values()]
    record = _record(plan, command, runs, missing)
    paths = [plan.out / f"wallclock.{suffix}" for suffix in ("csv", "png", "md", "json")]
    try:
        write_rows(paths[0], runs)
        plot_curves(curves, paths[1], f"{plan.env_id}: {plan.minutes:g} minutes of training on {_machine(record)}")
        write_bytes(paths[2], _page(plan, record, groups).encode())
        write_json(paths[3], record)
    except OSError as error:
        raise CadenzaError(f"Cannot write into {plan.out}: {error.strerror}.", "Choose another --out.") from error
    return paths


def page_of(folder: Path) -> str:
    """The page of the report in ``folder``, made anew from its wallclock.json and wallclock.csv alone.

    Raises:
        CadenzaError: no report there, or a damaged one.
    """
    try:
        record = json.loads((folder / "wallclock.json").read_text())
        planned: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record["plan"].items()
        }
        plan = Plan(out=folder, **planned)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CadenzaError(f"{folder} holds no report of a wall-clock benchmark: {error!r}.") from error
    return _page(plan, record, _groups(earlier_runs(folder, plan)[0]))


def _groups(runs: list[Finished]) -> Groups:
    agents = dict.fromkeys(run.run.agent for run in runs)
    return {agent: [run for run in runs if run.run.agent == agent] for agent in agents}


def _in_order(runs: list[Finished]) -> list[Finished]:
    """Symphony first, then the peers as they come, each by seed."""
    agents = list(dict.fromkeys(run.run.agent for run in runs))
    place = {agent: (not is_symphony(agent), agents.index(agent)) for agent in agents}
    return sorted(runs, key=lambda run: (*place[run.run.agent], run.run.seed))


def _record(plan: Plan, command: str, runs: list[Finished], missing: int) -> dict[str, Any]:
    kept = (
        "budget_s", "step", "train_s", "elapsed_s", "stalled_s", "torch_threads", "cpu_seconds_per_second",
        "load_average_before", "load_average_after", "versions", "git_commit", "machine",
    )  # fmt: skip
    return {
        "command": command,
        "plan": plan.record(),
        "finished": len(runs),
        "planned": len(runs) + missing,
        "runs": [
            {
                "agent": run.run.agent,
                "seed": run.run.seed,
                **{name: run.final[name] for name in kept},
                **{name: run.final.get(name) for name in ("threads", "threads_changed")},  # not in runs of before
                "preset_settings": run.preset_settings,
                "overrides": run.run.settings.overrides,
                "normalize": run.run.settings.normalize,
                "training_motors": run.motors,
            }
            for run in runs
        ],
        "load_average_at_report": load_average(),
        **provenance(),
    }


def _machine(record: dict[str, Any]) -> str:
    machines = {json.dumps(run["machine"]): run["machine"] for run in record["runs"]}
    return " and ".join(
        f"{found['cores']} core{'s' * (found['cores'] != 1)} of {found['processor']}" for found in machines.values()
    )


# ------------------------------------------------------------------ the page


def _page(plan: Plan, record: dict[str, Any], groups: Groups) -> str:
    figures = {agent: figures_of(group) for agent, group in groups.items()}
    missing = record["planned"] - record["finished"]
    unfinished = f"**Not finished: {missing} of {record['planned']} runs are still to come.**" if missing else ""
    versions = " and ".join(dict.fromkeys(_versions(run) for run in record["runs"]))
    commits = ", ".join(dict.fromkeys(run["git_commit"] or "not recorded" for run in record["runs"]))
    parts = [
        f"# {plan.env_id}, {plan.minutes:g} minutes each",
        unfinished,
        f"Same machine ({_machine(record)}), one run at a time, {plan.minutes:g} minutes of training clock each, "
        "evaluations and checkpoints not counted. Every return is of noise-free episodes of the policy as it was at "
        f"that time ({plan.episodes} during training, {plan.final_episodes} of the last policy). {versions}; "
        f"commit {commits}.",
        f"```sh\n{record['command']}\n```",
        _other_presets(groups),
        "![Return over wall-clock and over steps](wallclock.png)",
        _losses(figures),
        "## Return and speed",
        _table(groups, figures, MAIN),
        "Return at the budget: mean and interquartile mean (of the middle half) over the episodes of all seeds, each "
        "with its 95 % bootstrap interval (seeds drawn anew, then their episodes), n episodes. **With one seed the "
        "interval is over episodes only** and says nothing of other seeds. Best evaluation: the highest mean of an "
        "evaluation during training, mean over seeds: the luckiest moment, not a policy one would get. Forward "
        "velocity: mean over the last policy's steps and seeds.",
        "## When a return was first reached",
        _table(groups, figures, REACHED),
        "By the mean of an evaluation during training; median over the seeds that got there, with their number where "
        "it was not all; - is never.",
        _motor_part(groups, figures),
        "## Settings",
        _settings(groups),
        "## Runs",
        _runs(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _versions(run: dict[str, Any]) -> str:
    names = ("python", "torch", "stable_baselines3", "sb3_contrib", "mujoco", "gymnasium", "numpy")
    return ", ".join(f"{name} {run['versions'][name]}" for name in names if name in run["versions"])


def _losses(figures: Figures) -> str:
    if not any(is_symphony(agent) for agent in figures) or all(is_symphony(agent) for agent in figures):
        return "**Where Symphony loses:** nothing to compare yet; Symphony and a peer must both have finished."
    lines = ["**Where Symphony loses** (every column in which a peer is better, with the best peer; from the data):"]
    lines.append("")
    for ours, lost in losses(figures).items():
        lines.append(f"- `{ours}`:" if lost else f"- `{ours}`: in no column.")
        lines += [f"    - {one}" for one in lost]
    return "\n".join(lines)


def _table(groups: Groups, figures: Figures, columns: tuple[Column, ...], titles: tuple[str, ...] | None = None) -> str:
    names = [column.name for column in columns]
    lines = [f"| Agent | Seeds | {' | '.join(titles or names)} |", "|---" * (len(names) + 2) + "|"]
    for agent, group in groups.items():
        seeds = ", ".join(str(run.run.seed) for run in group)
        lines.append(f"| {agent} | {seeds} | {' | '.join(figures[agent][name].text for name in names)} |")
    return "\n".join(lines)


def _motor_part(groups: Groups, figures: Figures) -> str:
    parts = []
    for phase, columns in MOTORS.items():
        there = {
            column: title
            for column, title in zip(columns, MOTOR_TITLES.values(), strict=True)
            if any(found[column.name].value is not None for found in figures.values())
        }
        if there:
            parts += [f"### {phase.capitalize()}", _table(groups, figures, tuple(there), tuple(there.values()))]
    if not parts:
        return ""
    told = (
        "Mean over seeds; less is gentler. An agent that falls at once, or stands still, is gentle too: read with the "
        "return. The hottest winding and the seconds over its limit grow with the time that was looked at; the "
        "temperature at which it settles does not: compare by that. Definitions: `envs/motor_metrics.py`."
    )
    return "\n\n".join(["## What the motors would have borne", *parts, told])


def _changes(runs: list[Finished]) -> str:
    """Which settings of a Symphony's runs its preset has changed since; empty where none."""
    return "; ".join(filter(None, dict.fromkeys(map(_changes_of, runs))))


def _changes_of(run: Finished) -> str:
    if run.preset_settings is None:
        return "settings that were not recorded"
    try:
        changes = preset_changes(run.run.settings, run.preset_settings)
    except ValueError:
        return "a preset that is no more"
    return ", ".join(f"{name} = {then} (today {today})" for name, (then, today) in changes.items())


def _other_presets(groups: Groups) -> str:
    """A warning where a Symphony of the table is not the preset that its name stands for today."""
    lines = []
    for agent, runs in groups.items():
        if is_symphony(agent) and (changes := _changes(runs)):
            lines.append(f"**Not today's preset:** `{agent}` had {changes}.")
    return " ".join(lines)


def _settings(groups: Groups) -> str:
    lines = ["| Agent | Settings that differ from the defaults | Source | Note |", "|---|---|---|---|"]
    for agent, group in groups.items():
        settings = group[0].run.settings
        if is_symphony(agent):
            lines.append(f"| {agent} | preset `{settings.preset}` | `agents/symphony/presets.py` | {_changes(group)} |")
            continue
        tuned = PEERS[settings.agent]
        values = ", ".join(f"{name} = {value}" for name, value in settings.overrides.items())
        normalize = ", VecNormalize of observations and rewards" if settings.normalize else ""
        lines.append(f"| {agent} | {values}{normalize} | {tuned.source} | {tuned.note} |")
    return "\n".join(lines)


def _runs(record: dict[str, Any]) -> str:
    titles = (
        "Agent", "Seed", "Steps", "Training clock [min]", "With evaluations [min]", "torch threads", "CPU s per s",
        "Load before, after", "Stood still [s]",
    )  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for run in record["runs"]:
        before, after = ((run[f"load_average_{when}"] or ["?"])[0] for when in ("before", "after"))
        lines.append(
            f"| {run['agent']} | {run['seed']} | {run['step']:,} | {run['train_s'] / 60:.2f} "
            f"| {run['elapsed_s'] / 60:.2f} | {run['torch_threads']} | {run['cpu_seconds_per_second']:.2f} "
            f"| {before}, {after} | {run['stalled_s']:.1f} |"
        )
    told = (
        "CPU seconds and load are of a run's last session; a load above the run's own threads is other programs. Stood "
        "still: time in which the process got no processor at all, as in a paused virtual machine; it is not on the "
        "training clock."
    )
    return "\n".join([*lines, "", told])
