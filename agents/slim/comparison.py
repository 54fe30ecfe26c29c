"""SLIM against its baselines: every preset with several seeds for the same steps, one run at a time.

An interrupted comparison goes on with the same command; more seeds, presets or steps extend what is there. What a run
gave is measured by :mod:`skill_metrics` after its last step and stored in the run as ``skills.json``.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.agents.runs.catalogue import check_settings
from cadenza.agents.runs.checkpoint import CheckpointStore
from cadenza.agents.runs.lock import alone_in
from cadenza.agents.runs.settings import RunFolder, RunSettings, provenance, write_bytes, write_json
from cadenza.agents.runs.training import Watcher, resume, train
from cadenza.agents.slim.opening import open_skills, skill_envs
from cadenza.agents.slim.presets import PRESETS
from cadenza.agents.slim.skill_metrics import FIGURES, Figure, evaluate_skills
from cadenza.envs.errors import CadenzaError
from cadenza.envs.registration import make_env

RESULT = "skills.json"
SEED = 30_000
"""First seed of the final evaluation; those of training begin at 10,000."""
_DRAWS = 2_000

Tell = Callable[["PlannedRun", str], None]


@dataclass(frozen=True)
class PlannedRun:
    """One preset with one seed."""

    preset: str
    seed: int
    settings: RunSettings
    folder: Path

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.preset}, seed {self.seed}"


@dataclass(frozen=True)
class SkillPlan:
    """The whole comparison. Raises CadenzaError for settings that cannot be run, before anything is written."""

    out: Path
    env_id: str = "cadenza/PandaPlay-v0"
    presets: tuple[str, ...] = tuple(PRESETS)
    seeds: int = 3
    steps: int = 1_000_000
    """Environment steps of each run."""
    n_envs: int = 16
    skills: int = 200
    """Random skills of the evaluation."""
    repeated_skills: int = 16
    repeats: int = 10
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    """Settings of every preset that differ from its own."""

    def __post_init__(self) -> None:
        for name in ("seeds", "steps", "n_envs"):
            if getattr(self, name) < 1:
                raise CadenzaError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}.")
        if not self.presets:
            raise CadenzaError("Name at least one preset.", f"There are: {', '.join(PRESETS)}.")
        twice = {name for name in self.presets if self.presets.count(name) > 1}
        if twice:
            raise CadenzaError(f"--presets names {', '.join(sorted(twice))} twice.")
        for run in self.runs():
            check_settings(run.settings)
        make_env(self.env_id, pictures=False, **self.env_kwargs).close()

    def runs(self) -> list[PlannedRun]:
        """Seed by seed, so that an interrupted comparison has something of everybody."""
        return [self._run(preset, seed) for seed in range(self.seeds) for preset in self.presets]

    def _run(self, preset: str, seed: int) -> PlannedRun:
        settings = RunSettings(
            agent="slim",
            env_id=self.env_id,
            preset=preset,
            total_steps=self.steps,
            seed=seed,
            n_envs=self.n_envs,
            evaluate_every=max(1, self.steps // 10),
            evaluate_episodes=5,
            checkpoint_every=100_000,
            env_kwargs=self.env_kwargs,
            overrides=self.overrides,
        )
        return PlannedRun(preset, seed, settings, self.out / "runs" / f"{preset}-s{seed}")

    def evaluation(self) -> dict[str, int]:
        """How the end of a run is evaluated."""
        return {"skills": self.skills, "repeated_skills": self.repeated_skills, "repeats": self.repeats}


# ------------------------------------------------------------------ running


def run_plan(
    plan: SkillPlan, watcher: Callable[[PlannedRun], Watcher], tell: Tell, after_each: Callable[[], object]
) -> None:
    """Do what is left of ``plan``, one run at a time.

    Args:
        plan: what to run.
        watcher: makes who is told how a run's training goes.
        tell: called with a run and what happens to it: ``done before``, ``training``, ``evaluating``, ``finished``.
        after_each: called when a run has finished, e.g. to write the report of what there is.

    Raises:
        CadenzaError: a folder with another run, or where another program is at work (nothing has been started then).
        KeyboardInterrupt: Ctrl-C; the run at work is stored.
    """
    for run in plan.runs():
        _check_same(run)
    with alone_in(plan.out):
        _run_plan(plan, watcher, tell, after_each)


def _run_plan(
    plan: SkillPlan, watcher: Callable[[PlannedRun], Watcher], tell: Tell, after_each: Callable[[], object]
) -> None:
    for run in plan.runs():
        if result_of(run, plan) is not None:
            tell(run, "done before")
            continue
        tell(run, "training")
        if _train(run, watcher(run)):
            raise KeyboardInterrupt
        tell(run, "evaluating")
        _evaluate(run, plan)
        tell(run, "finished")
        after_each()


def result_of(run: PlannedRun, plan: SkillPlan) -> dict[str, Any] | None:
    """What the end of a run gave; None where it is still to come, or has grown since.

    Raises:
        CadenzaError: the file is damaged.
    """
    path = run.folder / RESULT
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        done = found["asked"] == {"steps": plan.steps, **plan.evaluation()}
    except (ValueError, KeyError, TypeError) as error:
        raise CadenzaError(f"{path} is damaged: {error}.", "Remove it; the run is evaluated again.") from error
    return found if done else None


def _check_same(run: PlannedRun) -> None:
    if not run.folder.is_dir() or not any(run.folder.iterdir()):
        return
    there, wanted = dataclasses.asdict(RunFolder(run.folder).read_settings()), dataclasses.asdict(run.settings)
    if there["total_steps"] > wanted["total_steps"]:
        raise CadenzaError(
            f"{run.folder} is a run of {there['total_steps']:,} steps, more than --steps {wanted['total_steps']}.",
            "Give at least as many steps, or another --out.",
        )
    # These follow the number of steps.
    different = [
        name for name in wanted if wanted[name] != there[name] and name not in ("total_steps", "evaluate_every")
    ]
    if different:
        lines = [f"{name}: there {there[name]!r}, asked {wanted[name]!r}" for name in different]
        raise CadenzaError(
            f"{run.folder} is a run with other settings; nothing was changed.",
            "\n".join([*lines, "Repeat the command that began it, or choose another --out."]),
        )


def _train(run: PlannedRun, watcher: Watcher) -> bool:
    """Train to the end; whether it was interrupted."""
    checkpoints = RunFolder(run.folder).checkpoints
    if checkpoints.is_dir() and any(checkpoints.glob("checkpoint-*.json")):
        return resume(run.folder, watcher, total_steps=run.settings.total_steps).interrupted
    if run.folder.is_dir():
        shutil.rmtree(run.folder)  # ours, with the same settings, and killed before its first checkpoint
    return train(run.settings, run.folder, watcher).interrupted


def _evaluate(run: PlannedRun, plan: SkillPlan) -> None:
    model, opened = open_skills(run.folder)
    env = skill_envs(opened.env_id, plan.n_envs, **opened.env_kwargs)
    try:
        report = evaluate_skills(
            model, env, skills=plan.skills, repeated_skills=plan.repeated_skills, repeats=plan.repeats, seed=SEED
        )
    finally:
        env.close()
    extra = CheckpointStore(RunFolder(run.folder).checkpoints).latest()["extra"]
    record = {
        "asked": {"steps": plan.steps, **plan.evaluation()},
        "preset": run.preset,
        "seed": run.seed,
        "step": opened.step,
        "train_s": round(float(extra["train_s"]), 1),
        **report.to_dict(),
        **provenance(),
    }
    write_json(run.folder / RESULT, record)


# ------------------------------------------------------------------ what came of it


@dataclass(frozen=True)
class Group:
    """The finished runs of one preset."""

    preset: str
    results: list[dict[str, Any]]

    def figure(self, name: str) -> Figure | None:
        """Mean over seeds with a 95 % interval; None where no run has it.

        The interval draws seeds anew and each seed's value anew from its own interval, taken as normal: with one seed
        it knows nothing of what another would do.
        """
        found = np.array([r["figures"][name] for r in self.results if name in r["figures"]], dtype=np.float64)
        if not len(found):
            return None
        generator = np.random.default_rng(0)
        error = (found[:, 2] - found[:, 1]) / (2 * 1.96)
        which = generator.integers(len(found), size=(_DRAWS, len(found)))
        drawn = found[which, 0] + error[which] * generator.standard_normal(which.shape)
        low, high = np.percentile(drawn.mean(1), (2.5, 97.5))
        # No figure here can be below 0.
        return Figure(float(found[:, 0].mean()), max(0.0, float(low)), max(0.0, float(high)))

    def values(self, name: str) -> list[float]:
        """One number a seed."""
        return [float(result["figures"][name][0]) for result in self.results if name in result["figures"]]


def groups_of(plan: SkillPlan) -> list[Group]:
    """The presets of which a run has finished, in the plan's order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in plan.runs():
        result = result_of(run, plan)
        if result is not None:
            found.setdefault(run.preset, []).append(result)
    return [Group(preset, found[preset]) for preset in plan.presets if preset in found]


def figure_names(groups: list[Group]) -> list[str]:
    """Every figure that some run has: the usual ones, then violations by kind."""
    there = {name for group in groups for result in group.results for name in result["figures"]}
    return [*(name for name in FIGURES if name in there), *sorted(there - set(FIGURES))]


def write_report(plan: SkillPlan, command: str) -> list[Path]:
    """Write slim.csv, .json, .png and .md of the finished runs into ``plan.out``; nothing without one.

    Args:
        plan: the comparison.
        command: the command line that makes it, for the record.

    Raises:
        CadenzaError: the folder cannot be written.
    """
    from cadenza.agents.slim.comparison_page import page, plot_groups

    groups = groups_of(plan)
    if not groups:
        return []
    results = [result for group in groups for result in group.results]
    asked = {name: value for name, value in dataclasses.asdict(plan).items() if name != "out"}
    record = {"command": command, "plan": asked, "planned": len(plan.runs()), "runs": results, **provenance()}
    paths = [plan.out / f"slim.{suffix}" for suffix in ("csv", "json", "png", "md")]
    try:
        write_bytes(paths[0], _csv(groups).encode())
        write_json(paths[1], record)
        plot_groups(groups, paths[2], f"{plan.env_id}, {plan.steps:,} steps a run")
        write_bytes(paths[3], page(plan, groups, record).encode())
    except OSError as error:
        raise CadenzaError(f"Cannot write into {plan.out}: {error.strerror}.", "Choose another --out.") from error
    return paths


def _csv(groups: list[Group]) -> str:
    """A row a run: preset, seed, step, then each figure with the ends of its interval."""
    names = figure_names(groups)
    text = io.StringIO()
    columns = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["preset", "seed", "step", "train_s", *columns])
    for group in groups:
        for result in group.results:
            figures = [result["figures"].get(name, ("", "", "")) for name in names]
            numbers = [f"{n:.6g}" if isinstance(n, float | int) else n for figure in figures for n in figure]
            writer.writerow([group.preset, result["seed"], result["step"], result["train_s"], *numbers])
    return text.getvalue()
