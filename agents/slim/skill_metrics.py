"""How good skills are, without any task: do they move the object far and about, alike each time, and safely?

Displacement is where the object ends an episode minus where it began, in metres. Coverage counts the square cells of
:data:`CELL_M` that displacements fall into, as a share of the cells that a push from the middle of the workspace could
reach; the cell of "not moved" is no skill and counts on neither side. Episodes are noise-free.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cadenza.envs.errors import CadenzaError
from cadenza.envs.reward_groups import OBJECT_ATTRIBUTE, ObjectEntries, declared

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from cadenza.agents.slim.player import SkillPlayer

Array = NDArray[np.float64]

CELL_M = 0.05
"""Side of a cell of the coverage [m]."""
SKILLS, REPEATED_SKILLS, REPEATS = 200, 16, 10
"""Random skills for the coverage; skills, and resets of each, for the consistency."""
MOVED_M = 0.005
"""An object that has moved by this much has been touched [m]."""
DRAWS = 2_000
_BLOCKS = 20


@dataclass(frozen=True)
class SkillEpisodes:
    """E finished episodes, each of one skill; in the order in which they were asked for."""

    skills: NDArray[np.float32]
    """(E, size)."""
    starts: Array
    """Object position after the reset, (E, 2 or 3) [m]."""
    ends: Array
    """At the end of the episode, (E, 2 or 3) [m]."""
    steps: NDArray[np.int64]
    """Length of each episode, (E,)."""
    touched_steps: NDArray[np.int64]
    """Steps from the first touch of the object on, (E,)."""
    grasped_steps: NDArray[np.int64]
    """Steps with both fingers at the object, from the first touch on, (E,)."""
    lifted: NDArray[np.bool_]
    """Whether the object was lifted at any time, (E,)."""
    terminated: NDArray[np.bool_]
    """Whether the episode ended before its time, (E,)."""
    peak_force_n: Array
    """Largest contact force of the arm with the table and itself, (E,) [N]."""
    object_force_n: Array
    """Largest force between object and table, (E,) [N]; NaN where the environment does not tell."""
    violations: dict[str, NDArray[np.int64]]
    """Kind -> steps with that violation, (E,)."""
    unsafe_steps: NDArray[np.int64]
    """Steps with a violation of any kind, (E,)."""

    @property
    def displacements(self) -> Array:
        """(E, 2 or 3) [m]."""
        return self.ends - self.starts

    def select(self, chosen: NDArray[Any]) -> SkillEpisodes:
        """The episodes ``chosen``, by index or by mask."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        violations = {kind: counts[chosen] for kind, counts in values.pop("violations").items()}
        return SkillEpisodes(**{name: value[chosen] for name, value in values.items()}, violations=violations)


class _Running:
    """The episode under way in one environment."""

    def __init__(self, index: int, start: Array):
        self.index, self.start = index, start
        self.steps = self.touched = self.grasped = self.unsafe = 0
        self.lifted = False
        self.peak, self.pressed = 0.0, math.nan
        self.violations: dict[str, int] = {}

    def note(self, place: Array, info: Mapping[str, Any]) -> None:
        self.steps += 1
        grasped = bool(info.get("grasped", False))
        touched = bool(info.get("touched", grasped)) or float(np.linalg.norm(place - self.start)) > MOVED_M
        if self.touched or touched:
            self.touched += 1
            self.grasped += grasped
        self.lifted |= bool(info.get("lifted", False))
        self.peak = max(self.peak, float(info.get("contact_force_n", 0.0)))
        if "object_force_n" in info:
            self.pressed = max(float(info["object_force_n"]), 0.0 if math.isnan(self.pressed) else self.pressed)
        found = info.get("violations") or {}
        for kind, happened in found.items():
            self.violations[kind] = self.violations.get(kind, 0) + bool(happened)
        self.unsafe += any(found.values())


def play_skills(
    model: SkillPlayer,
    env: VecEnv,
    skills: NDArray[np.float32],
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> SkillEpisodes:
    """Play an episode of each skill, noise-free.

    Args:
        model: the agent.
        env: as many environments as shall run at a time; without skills.
        skills: (E, size).
        seed: of the environments.
        progress: told how many episodes are done.

    Raises:
        CadenzaError: skills of another size, or an environment that does not say where its object is.
    """
    entries = object_entries(env)
    skills = model.prior.check(skills)
    columns = list(entries.position)
    env.seed(seed)
    observations = np.array(env.reset(), dtype=np.float32)
    count, places = len(skills), observations[:, columns].astype(np.float64)
    running: list[_Running | None] = [_Running(i, places[i]) if i < count else None for i in range(env.num_envs)]
    waiting, done_count = min(count, env.num_envs), 0
    rows: list[tuple[_Running, Array, bool]] = []
    while done_count < count:
        playing = np.array([0 if one is None else one.index for one in running])
        actions = model.act(observations, skills[playing])
        received, _, dones, infos = env.step(actions)
        observations = np.array(received, dtype=np.float32)
        for index, one in enumerate(running):
            last = infos[index]["terminal_observation"] if dones[index] else observations[index]
            if one is not None:
                place = np.asarray(last, dtype=np.float64)[columns]
                one.note(place, infos[index])
                if dones[index]:
                    rows.append((one, place, not infos[index].get("TimeLimit.truncated", False)))
                    done_count += 1
                    if progress is not None:
                        progress(done_count)
            if dones[index]:
                running[index] = None
                if waiting < count:
                    running[index] = _Running(waiting, observations[index, columns].astype(np.float64))
                    waiting += 1
    rows.sort(key=lambda row: row[0].index)
    ones = [one for one, _, _ in rows]
    kinds = sorted({kind for one in ones for kind in one.violations})
    return SkillEpisodes(
        skills=skills,
        starts=np.stack([one.start for one in ones]),
        ends=np.stack([place for _, place, _ in rows]),
        steps=np.array([one.steps for one in ones]),
        touched_steps=np.array([one.touched for one in ones]),
        grasped_steps=np.array([one.grasped for one in ones]),
        lifted=np.array([one.lifted for one in ones]),
        terminated=np.array([terminated for _, _, terminated in rows]),
        peak_force_n=np.array([one.peak for one in ones]),
        object_force_n=np.array([one.pressed for one in ones]),
        violations={kind: np.array([one.violations.get(kind, 0) for one in ones]) for kind in kinds},
        unsafe_steps=np.array([one.unsafe for one in ones]),
    )


def object_entries(env: VecEnv) -> ObjectEntries:
    """Where the object stands in the observations of ``env``; CadenzaError where it does not say."""
    entries = declared(env, OBJECT_ATTRIBUTE)
    if entries is None:
        raise CadenzaError(
            f"The environment has no {OBJECT_ATTRIBUTE}: nobody knows where its object is, and skills are judged by it."
        )
    assert isinstance(entries, ObjectEntries)
    return entries


# ------------------------------------------------------------------ coverage


def cells_of(displacements: Array, cell_m: float = CELL_M) -> NDArray[np.int64]:
    """The cell of each displacement in the plane, (E, 2); the one around no displacement is (0, 0)."""
    return np.asarray(np.floor(displacements[:, :2] / cell_m + 0.5).astype(np.int64))


def moved_cells(displacements: Array, cell_m: float = CELL_M) -> set[tuple[int, int]]:
    """The cells that displacements (E, 2 or 3) fall into, but for the one of "not moved"."""
    return {(int(x), int(y)) for x, y in cells_of(displacements, cell_m)} - {(0, 0)}


def reachable_cells(half_extent: tuple[float, ...], cell_m: float = CELL_M) -> set[tuple[int, int]]:
    """Cells whose middle a push from the centre of a workspace of these half extents [m] can reach, but for (0, 0)."""
    # The tolerance: 0.3/0.05 must be 6 and not 5.999.
    x, y = (int(half / cell_m + 1e-9) for half in half_extent[:2])
    return {(i, j) for i in range(-x, x + 1) for j in range(-y, y + 1)} - {(0, 0)}


def coverage(displacements: Array, half_extent: tuple[float, ...], cell_m: float = CELL_M) -> float:
    """Share of the reachable cells that were reached."""
    reachable = reachable_cells(half_extent, cell_m)
    return len(moved_cells(displacements, cell_m) & reachable) / len(reachable)


# ------------------------------------------------------------------ figures with intervals


@dataclass(frozen=True)
class Figure:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def to_list(self) -> list[float]:
        """Value, low, high."""
        return [self.value, self.low, self.high]


def bootstrapped(
    statistic: Callable[[NDArray[np.intp]], float], count: int, seed: int = 0, draws: int = DRAWS
) -> Figure:
    """``statistic`` of ``count`` episodes, given by index, with the percentile interval of episodes drawn anew."""
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(count, size=count)) for _ in range(draws)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Figure(statistic(np.arange(count)), float(low), float(high))


def jackknifed(statistic: Callable[[NDArray[np.intp]], float], count: int, blocks: int = _BLOCKS) -> Figure:
    """``statistic`` of ``count`` episodes with the interval of the delete-a-group jackknife (Tukey; Kott 2001).

    For counts of different things, such as cells: episodes drawn with replacement hold fewer different ones, so that
    a bootstrap interval would lie below the value itself.
    """
    value, blocks = statistic(np.arange(count)), min(blocks, count)
    if blocks < 2:
        return Figure(value, value, value)
    group = np.arange(count) % blocks
    left = np.array([statistic(np.flatnonzero(group != g)) for g in range(blocks)])
    error = float(np.sqrt((blocks - 1) / blocks * np.square(left - left.mean()).sum()))
    return Figure(value, max(0.0, value - 1.96 * error), value + 1.96 * error)


def mean_of(values: NDArray[Any]) -> Figure:
    """The mean of a value an episode, with its bootstrap interval."""
    wide = np.asarray(values, dtype=np.float64)
    return bootstrapped(lambda chosen: float(wide[chosen].mean()), len(wide))


def _ratio(above: NDArray[Any], below: NDArray[Any], scale: float = 1.0) -> Figure:
    """Sum over sum, 0 where there is nothing below."""

    def ratio(chosen: NDArray[np.intp]) -> float:
        total = float(below[chosen].sum())
        return scale * float(above[chosen].sum()) / total if total else 0.0

    return bootstrapped(ratio, len(below))


def consistency(displacements: Array) -> float:
    """|mean d|/mean |d| of several episodes of one skill, (R, 2 or 3), as far as the object was moved; 0 where it never
    was. An object that nobody touches settles by micrometres, in all episodes alike: that is no consistency.
    """
    moved = displacements * (np.linalg.norm(displacements, axis=1) > MOVED_M)[:, None]
    lengths = np.linalg.norm(moved, axis=1).mean()
    return float(np.linalg.norm(moved.mean(0)) / lengths) if lengths > 0 else 0.0


@dataclass(frozen=True)
class SkillReport:
    """What :func:`evaluate_skills` found."""

    figures: dict[str, Figure]
    """Name -> figure; :data:`FIGURES` says what each is."""
    episodes: SkillEpisodes
    """Of random skills."""
    repeated: SkillEpisodes
    """Of skills that were repeated."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: figures as value, low, high; displacement and skill of every random episode."""
        return {
            "skills": len(self.episodes.skills),
            "repeated_skills": len(np.unique(self.repeated.skills, axis=0)),
            "repeated_episodes": len(self.repeated.skills),
            "environment_steps": int(self.episodes.steps.sum() + self.repeated.steps.sum()),
            "figures": {name: [round(number, 6) for number in f.to_list()] for name, f in self.figures.items()},
            "z": np.round(self.episodes.skills.astype(float), 4).tolist(),
            "displacements_m": np.round(self.episodes.displacements, 4).tolist(),
            "terminated": int(self.episodes.terminated.sum()),
        }


FIGURES: dict[str, str] = {
    "coverage": "displacement cells reached / reachable",
    "cells": "displacement cells reached, those beyond what a push from the middle could reach among them",
    "displacement_m": "mean displacement of the object [m]",
    "moved": "share of episodes whose object moved by more than half a cell",
    "consistency": "|mean d|/mean |d| of one skill's episodes, mean over skills",
    "grasp_consistency": "share of steps with two-finger contact after the first touch",
    "lift_rate": "share of episodes in which the object was lifted",
    "fell": "share of episodes that terminated: the object fell off the table",
    "violations_per_1000": "steps with a violation of any kind, per 1,000 steps",
    "peak_force_n": "largest force of an episode between arm and table or arm and arm, mean over episodes [N]",
    "peak_force_max_n": "the largest of all episodes [N]",
    "object_force_n": "largest force of an episode between object and table, mean over episodes [N]",
}
"""Name -> what it is. ``violations_per_1000_KIND`` are added for every kind the environment tells of."""


def evaluate_skills(
    model: SkillPlayer,
    env: VecEnv,
    *,
    skills: int = SKILLS,
    repeated_skills: int = REPEATED_SKILLS,
    repeats: int = REPEATS,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> SkillReport:
    """All figures of an agent's skills.

    Args:
        model: the agent.
        env: as many environments as shall run at a time; without skills.
        skills: random skills, an episode each.
        repeated_skills: skills that are played several times.
        repeats: how often.
        seed: of skills and environments.
        progress: told how many episodes are done.

    Raises:
        CadenzaError: too few episodes, or an environment that does not say where its object is.
    """
    if skills < 2 or repeated_skills < 1 or repeats < 2:
        raise CadenzaError(
            f"Figures need at least 2 skills, and 1 skill repeated twice; got {skills}, {repeated_skills}, {repeats}."
        )
    generator = np.random.default_rng([seed, model.prior.size])
    random = model.prior.sample(skills, generator)
    chosen = spread_skills(model, repeated_skills)
    episodes = play_skills(model, env, random, seed=seed, progress=progress)
    told = None if progress is None else lambda done: progress(skills + done)
    again = play_skills(model, env, np.repeat(chosen, repeats, 0), seed=seed + 1, progress=told)
    return SkillReport(figures_of(episodes, again, object_entries(env), repeats), episodes, again)


def figures_of(
    episodes: SkillEpisodes, repeated: SkillEpisodes, entries: ObjectEntries, repeats: int
) -> dict[str, Figure]:
    """The figures of :data:`FIGURES`; ``repeated`` holds ``repeats`` episodes of each skill, one after another."""
    moved, count = episodes.displacements, len(episodes.skills)
    lengths = np.linalg.norm(moved, axis=1)
    alike = np.array([consistency(part) for part in np.split(repeated.displacements, len(repeated.skills) // repeats)])
    peaks = episodes.peak_force_n
    figures = {
        "coverage": jackknifed(lambda chosen: coverage(moved[chosen], entries.half_extent), count),
        "cells": jackknifed(lambda chosen: float(len(moved_cells(moved[chosen]))), count),
        "displacement_m": mean_of(lengths),
        "moved": mean_of(lengths > CELL_M / 2),
        "consistency": mean_of(alike),
        "grasp_consistency": _ratio(episodes.grasped_steps, episodes.touched_steps),
        "lift_rate": mean_of(episodes.lifted),
        "fell": mean_of(episodes.terminated),
        "violations_per_1000": _ratio(episodes.unsafe_steps, episodes.steps, 1000.0),
        "peak_force_n": mean_of(peaks),
        "peak_force_max_n": Figure(float(peaks.max()), float(peaks.max()), float(peaks.max())),
    }
    if not np.isnan(episodes.object_force_n).any():
        figures["object_force_n"] = mean_of(episodes.object_force_n)
    for kind, counts in episodes.violations.items():
        figures[f"violations_per_1000_{kind}"] = _ratio(counts, episodes.steps, 1000.0)
    return figures


def spread_skills(model: SkillPlayer, count: int) -> NDArray[np.float32]:
    """``count`` skills spread over the prior: even angles on the circle, every one-hot in turn, else drawn ones."""
    prior = model.prior
    if prior.kind == "circle":
        angles = 2 * np.pi * np.arange(count) / count
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    if prior.discrete:
        return np.eye(prior.size, dtype=np.float32)[np.arange(count) % prior.size]
    return prior.sample(count, np.random.default_rng(prior.size))
