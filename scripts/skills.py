"""``cadenza skills``: look at the skills of a run, measure them, and use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cadenza.envs.errors import CadenzaError
from cadenza.scripts.console import escape, out, write_result
from cadenza.scripts.parse import parse

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from cadenza.agents.runs.policies import OpenedPolicy
    from cadenza.agents.slim.hierarchy import TaskResult
    from cadenza.agents.slim.player import SkillPlayer
    from cadenza.agents.slim.skill_metrics import Figure

Run = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Evaluate:
    """Coverage, displacement, consistency, grasps and safety of a run's skills, noise-free, with 95 % intervals."""

    run: Run
    """run folder of `cadenza train slim`, a bundle of one, or a shipped policy with skills"""
    skills: int = 200
    """random skills, an episode each"""
    repeated: int = 16
    """skills that are repeated, for the consistency"""
    repeats: int = 10
    """resets of each"""
    n_envs: int = 16
    """environments at a time"""
    seed: int = 0
    """of skills and environments"""
    json: Path | None = None
    """write the figures, and every displacement, to this file"""


@dataclass(frozen=True)
class Map:
    """Draw where each skill takes the object: from start to end, as displacement, and the cells it covers."""

    run: Run
    """run folder or bundle"""
    out: Path | None = None
    """the picture (default: skills.png in the run; of a bundle NAME-skills.png here)"""
    skills: int = 48
    """skills, spread evenly over the prior"""
    repeats: int = 2
    """episodes of each"""
    n_envs: int = 16
    """environments at a time"""
    seed: int = 0
    """of the environments"""


@dataclass(frozen=True)
class Record:
    """Film several skills at once, in a grid, all from the same start; each with its z."""

    run: Run
    """run folder or bundle"""
    out: Path | None = None
    """the .mp4 (default: skills.mp4 in the run; of a bundle NAME-skills.mp4 here)"""
    skills: int = 9
    """how many, spread evenly over the prior"""
    columns: int = 3
    """skills side by side"""
    steps: int = 1000
    """most steps"""
    seed: int = 0
    """reset seed of all"""
    width: int = 320
    """pixels of one skill's picture"""
    height: int = 240
    """likewise"""
    camera: str | None = None
    """a camera of the model"""
    quality: Literal["fast", "nice"] = "fast"
    """nice adds shadows, reflections and anti-aliasing, at a tenth of the speed"""
    gif: bool = False
    """also write it as a GIF of the same name"""


@dataclass(frozen=True)
class Goals:
    """Reach goals without learning: z = (phi(goal) - phi(object))/|.| every 10 steps, beside random skills."""

    run: Run
    """run folder or bundle of an agent with LSD or METRA"""
    episodes: int = 100
    """how many, a goal each"""
    n_envs: int = 16
    """environments at a time"""
    seed: int = 0
    """of goals and environments"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Hierarchy:
    """Train a high level that chooses a frozen skill every 10 steps; measured beside random and zero-shot choices.

    cadenza skills hierarchy runs/play --task position --steps 500000
    """

    run: Run
    """run folder or bundle"""
    task: Literal["position", "circle", "lemniscate"] = "position"
    """bring the object to a goal (3 cm), or lead it along a curve"""
    steps: int = 500_000
    """environment steps; a choice takes --hold of them"""
    algorithm: Literal["ppo", "sac"] = "ppo"
    """of the high level"""
    hold: int = 10
    """steps for which a skill is held"""
    episodes: int = 100
    """of the evaluation"""
    n_envs: int = 16
    """environments at a time"""
    seed: int = 0
    """of everything"""
    out: Path | None = None
    """the high level as a .zip of Stable-Baselines3 (default: hierarchy-TASK.zip in the run; of a
    bundle NAME-hierarchy-TASK.zip here)"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Plan:
    """Plan sequences of skills to goals in the simulator (cross-entropy method), and carry the best ones out."""

    run: Run
    """run folder or bundle"""
    goals: int = 5
    """how many, each from another start"""
    length: int = 4
    """skills in a plan"""
    hold: int = 10
    """steps of each"""
    samples: int = 64
    """plans tried in each iteration, and environments"""
    elites: int = 8
    """best plans that the next iteration is drawn around"""
    iterations: int = 4
    """of the method"""
    seed: int = 0
    """of starts, goals and plans"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass(frozen=True)
class Skills:
    """Look at skills that `cadenza train slim` has learned, measure them, and use them.

    cadenza skills evaluate runs/play --json skills.json
    cadenza skills map runs/play --out map.png
    cadenza skills record runs/play --out skills.mp4
    cadenza skills goals runs/play
    cadenza skills hierarchy runs/play --task circle --steps 500000
    cadenza skills plan runs/play --goals 5

    RUN is a run folder, of which they take the last checkpoint, a bundle (`cadenza export`), or a shipped policy with
    skills. docs/slim.md says what the figures are.
    """

    what: (
        Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
        | Annotated[Map, tyro.conf.subcommand("map")]
        | Annotated[Record, tyro.conf.subcommand("record")]
        | Annotated[Goals, tyro.conf.subcommand("goals")]
        | Annotated[Hierarchy, tyro.conf.subcommand("hierarchy")]
        | Annotated[Plan, tyro.conf.subcommand("plan")]
    )
    """what to do"""


def main(arguments: list[str]) -> int:
    """Parse and do it; 130 after Ctrl-C in a film."""
    if not arguments:
        arguments = ["--help"]
    what = parse(
        tyro.conf.configure(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)(Skills), "skills", arguments
    ).what
    for name in ("skills", "columns", "steps", "goals", "width", "height"):
        if getattr(what, name, 1) < 1:
            raise CadenzaError(f"--{name} must be at least 1, got {getattr(what, name)}.")
    if what.seed < 0:
        raise CadenzaError(f"--seed must not be negative, got {what.seed}.")
    doing: dict[type, Any] = {
        Evaluate: _evaluate, Map: _map, Record: _record, Goals: _goals, Hierarchy: _hierarchy, Plan: _plan,
    }  # fmt: skip
    return int(doing[type(what)](what, ["cadenza", "skills", *arguments]) or 0)


# ------------------------------------------------------------------ what all need


def _open(run: Path, n_envs: int) -> tuple[SkillPlayer, OpenedPolicy, VecEnv]:
    import torch

    torch.set_num_threads(1)
    from cadenza.agents.slim.opening import open_skills, skill_envs

    model, opened = open_skills(run)
    return model, opened, skill_envs(opened.env_id, n_envs, **opened.env_kwargs)


def _beside(source: Path, name: str) -> Path:
    """In the run; for a bundle here, with its name: what is exported stays as it is."""
    from cadenza.agents.runs.settings import CONFIG

    return source / name if (source / CONFIG).is_file() else Path(f"{source.name}-{name}")


@contextmanager
def _bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.progress import Progress

    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.update(task, completed=done)


def _record_of(command: list[str], run: Path, opened: OpenedPolicy, **more: Any) -> dict[str, Any]:
    from cadenza.agents.runs.settings import provenance

    words = [run.name if word == str(run) and run.is_absolute() else word for word in command]
    about = {"policy": opened.label, "env": opened.env_id, "env_kwargs": opened.env_kwargs, "step": opened.step}
    return {"command": " ".join(words), **about, **more, **provenance()}


def _row(name: str, figure: Figure, note: str = "") -> None:
    out.print(f"  {name:34} {figure.value:9.3f}   {figure.low:9.3f} to {figure.high:9.3f}   {escape(note)}".rstrip())


# ------------------------------------------------------------------ looking


def _evaluate(options: Evaluate, command: list[str]) -> None:
    from cadenza.agents.slim.skill_metrics import FIGURES, evaluate_skills

    model, opened, env = _open(options.run, options.n_envs)
    began = time.perf_counter()
    try:
        with _bar("playing", options.skills + options.repeated * options.repeats) as told:
            report = evaluate_skills(
                model, env, skills=options.skills, repeated_skills=options.repeated, repeats=options.repeats,
                seed=options.seed, progress=told,
            )  # fmt: skip
    finally:
        env.close()
    seconds = round(time.perf_counter() - began, 2)
    more = {"seed": options.seed, **report.to_dict(), "wall_clock_s": seconds}
    write_result(options.json, _record_of(command, options.run, opened, **more))
    out.print(
        f"[bold]{escape(opened.label)}[/] on {escape(opened.env_id)}, {options.skills} random skills, 95 % intervals"
    )
    for name, figure in report.figures.items():
        _row(name, figure, FIGURES.get(name, ""))


def _map(options: Map, command: list[str]) -> None:
    import numpy as np

    from cadenza.agents.slim.skill_map import draw_map
    from cadenza.agents.slim.skill_metrics import object_entries, play_skills, spread_skills

    if options.repeats < 1:
        raise CadenzaError(f"--repeats must be at least 1, got {options.repeats}.")
    model, opened, env = _open(options.run, options.n_envs)
    skills = np.repeat(spread_skills(model, options.skills), options.repeats, 0)
    try:
        with _bar("playing", len(skills)) as told:
            episodes = play_skills(model, env, skills, seed=options.seed, progress=told)
        entries = object_entries(env)
    finally:
        env.close()
    destination = options.out or _beside(options.run, "skills.png")
    draw_map(episodes, entries, model.prior, destination, title=f"{opened.label}, {opened.env_id}")
    out.print(f"written: {escape(str(destination))}")


def _record(options: Record, command: list[str]) -> int:
    return film_skills(
        options.run, options.out or _beside(options.run, "skills.mp4"), skills=options.skills, columns=options.columns,
        steps=options.steps, seed=options.seed, width=options.width, height=options.height, camera=options.camera,
        quality=options.quality, gif=options.gif,
    )  # fmt: skip


def film_skills(
    run: Path,
    destination: Path,
    *,
    skills: int = 9,
    columns: int = 3,
    steps: int = 1000,
    seed: int = 0,
    width: int = 320,
    height: int = 240,
    camera: str | None = None,
    quality: Literal["fast", "nice"] = "fast",
    gif: bool = False,
) -> int:
    """Film ``skills`` skills of a run in a grid; 130 after Ctrl-C, with a playable film of what was seen."""
    from cadenza.envs.rendering.gl import ensure_gl_backend

    ensure_gl_backend()  # before anything imports MuJoCo
    import torch

    torch.set_num_threads(1)
    from cadenza.agents.runs.policies import act_on
    from cadenza.agents.slim.opening import open_skills
    from cadenza.agents.slim.skill_metrics import spread_skills
    from cadenza.envs.rendering.filming import FilmInterruptedError, Panel, film_side_by_side
    from cadenza.scripts.record import stage

    model, opened = open_skills(run)
    chosen = spread_skills(model, skills)
    panels = []
    for z in chosen:
        played = model.stage(stage(opened.env_id, opened.env_kwargs))
        played.choose(z)
        panels.append(Panel(f"z = ({', '.join(f'{entry:.2f}' for entry in z)})", played, act_on(opened, played)))
    try:
        with _bar("filming", steps) as told:
            result = film_side_by_side(
                panels, destination, seed=seed, max_steps=steps, width=width, height=height, quality=quality,
                camera=camera, columns=min(columns, skills), progress=lambda done, total: told(done),
            )  # fmt: skip
    except FilmInterruptedError as error:
        out.print(escape(str(error)))
        return 130
    finally:
        for panel in panels:
            panel.env.close()
    out.print(f"written: {escape(str(result.path))} ({skills} skills)")
    if gif:
        from cadenza.envs.rendering.gif import write_gif

        out.print(f"written: {escape(str(write_gif(result.path)))}")
    return 0


# ------------------------------------------------------------------ using


def _task_rows(results: dict[str, TaskResult], task: str) -> None:
    for name, result in results.items():
        out.print(f"[bold]{name}[/], {result.n} episodes, 95 % intervals")
        if task == "position":
            _row("success (within 3 cm)", result.success)
            _row("error at the end, m", result.final_error_m)
        _row("mean error, m", result.mean_error_m)
        _row("object fell", result.fell)


def _tasks(model: SkillPlayer, env: VecEnv, task: str, seed: int, hold: int = 10) -> Any:
    from cadenza.agents.slim.hierarchy import SkillTasks

    limit = getattr(env.get_attr("spec", 0)[0], "max_episode_steps", None)
    if limit is None:
        raise CadenzaError("These environments have no time limit, which a task on skills needs.")
    return SkillTasks(model, env, task, hold_steps=hold, episode_steps=int(limit), seed=seed)


def _goals(options: Goals, command: list[str]) -> None:
    from cadenza.agents.slim.hierarchy import choose_randomly, choose_zero_shot, evaluate_task

    model, opened, env = _open(options.run, options.n_envs)
    tasks = _tasks(model, env, "position", options.seed)
    try:
        results = {
            name: evaluate_task(tasks, choose, episodes=options.episodes, seed=options.seed)
            for name, choose in (("zero-shot", choose_zero_shot), ("random skills", choose_randomly(options.seed)))
        }
    finally:
        tasks.close()
    more = {"seed": options.seed, "results": {name: result.to_dict() for name, result in results.items()}}
    write_result(options.json, _record_of(command, options.run, opened, **more))
    _task_rows(results, "position")


def _hierarchy(options: Hierarchy, command: list[str]) -> None:
    from cadenza.agents.slim.diversity import LSD
    from cadenza.agents.slim.hierarchy import (
        choose_randomly,
        choose_zero_shot,
        chosen_by,
        evaluate_task,
        train_high_level,
    )

    model, opened, env = _open(options.run, options.n_envs)
    tasks = _tasks(model, env, options.task, options.seed, options.hold)
    began = time.perf_counter()
    try:
        with _bar("training the high level", options.steps) as told:
            high_level = train_high_level(
                tasks, steps=options.steps, algorithm=options.algorithm, seed=options.seed, progress=told
            )
        trained_s = time.perf_counter() - began
        choices = {f"high level ({options.algorithm})": chosen_by(high_level)}
        if isinstance(model.diversity, LSD) and model.config.features == "object":
            choices["zero-shot"] = choose_zero_shot
        choices["random skills"] = choose_randomly(options.seed)
        seed = 10_000 + options.seed
        results = {
            name: evaluate_task(tasks, choose, episodes=options.episodes, seed=seed) for name, choose in choices.items()
        }
    finally:
        tasks.close()
    destination = options.out or _beside(options.run, f"hierarchy-{options.task}.zip")
    high_level.save(destination)
    asked = {"task": options.task, "steps": options.steps, "algorithm": options.algorithm, "hold_steps": options.hold}
    more = {"seed": options.seed, **asked, "trained_s": round(trained_s, 1)}
    told_results = {name: result.to_dict() for name, result in results.items()}
    write_result(options.json, _record_of(command, options.run, opened, **more, results=told_results))
    _task_rows(results, options.task)
    out.print(f"written: {escape(str(destination))}")


def _plan(options: Plan, command: list[str]) -> None:
    import numpy as np

    from cadenza.agents.slim.hierarchy import SUCCESS_M
    from cadenza.agents.slim.planning import PlanSettings, SkillPlanner, distance_to

    settings = PlanSettings(options.length, options.hold, options.samples, options.elites, options.iterations)
    model, opened, env = _open(options.run, options.samples)
    tasks = _tasks(model, env, "position", options.seed)
    rows = []
    try:
        planner = SkillPlanner(model, env, settings, seed=options.seed)
        for index in range(options.goals):
            which = index % env.num_envs
            if which == 0:  # every copy begins somewhere else, and anew when all have had their turn
                tasks.reset()
                states, places, goals = planner.env.get_states(), tasks.places.copy(), tasks.goals.copy()
            began = time.perf_counter()
            cost = distance_to(env, goals[which])
            plan = planner.plan(states[which], cost)
            seconds = time.perf_counter() - began
            # Carried out once more from the same state: the simulator repeats itself to the last bit.
            carried_out = float(planner.try_out(states[which], plan.skills[None], cost)[0])
            before = float(np.linalg.norm(places[which] - goals[which]))
            rows.append(
                {"before_m": before, "planned_m": plan.cost, "after_m": carried_out, "seconds": round(seconds, 2)}
            )
            out.print(
                f"goal {index + 1}: {100 * before:.1f} cm away, planned {100 * plan.cost:.1f} cm, carried out "
                f"{100 * carried_out:.1f} cm, in {seconds:.1f} s"
            )
    finally:
        env.close()
    reached = sum(row["after_m"] < SUCCESS_M for row in rows)
    out.print(f"{reached} of {len(rows)} goals reached within {100 * SUCCESS_M:.0f} cm")
    more = {"seed": options.seed, "settings": vars(settings), "goals": rows, "reached": reached}
    write_result(options.json, _record_of(command, options.run, opened, **more))
