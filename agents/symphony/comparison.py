"""Multi-critic Symphony beside one critic triple on the weighted sum: same task, seeds and steps, each group counted.

The scalar return cannot tell which of two learners did better at which group, so noise-free episodes are counted group
by group, in the environment's own units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from cadenza.agents.slim.diversity import objective_class
from cadenza.agents.slim.presets import PRESETS as SLIM_PRESETS
from cadenza.agents.slim.skills import SkillConditioned, SkillPrior, features_of
from cadenza.agents.symphony.symphony import Symphony
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name
from cadenza.envs.registration import make_env, make_vec_env
from cadenza.envs.reward_groups import read_vectors, reward_groups, reward_weights

WAYS = ("per_group", "summed", "summed_scaled")
"""Values of Symphony's ``critics`` that can be compared."""
_EVALUATION_SEED = 10_000


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Args:
        env_id: a task with reward groups.
        weights: group -> weight; None: the environment's own.
        ways: of :data:`WAYS`.
        steps: environment steps of each training.
        seeds: one training of each way for each seed.
        n_envs: environments stepped together.
        skills: draw a skill for each episode and add the group ``diversity`` (:mod:`cadenza.agents.slim.skills`).
        episodes: noise-free episodes that are counted.
        preset: of Symphony.
        overrides: settings of Symphony, the same for all.
    """

    env_id: str
    weights: Mapping[str, float] | None = None
    ways: tuple[str, ...] = WAYS[:2]
    steps: int = 20_000
    seeds: tuple[int, ...] = (0,)
    n_envs: int = 1
    skills: bool = False
    episodes: int = 20
    preset: str = "cpu"
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for way in self.ways:
            if way not in WAYS:
                raise unknown_name("way of using critics", way, WAYS)
        if min(self.steps, self.n_envs, self.episodes) < 1 or not self.seeds:
            raise CadenzaError("A comparison needs steps, environments, episodes and seeds, each at least one.")


class DiversityLearner(BaseCallback):
    """Teaches the diversity objective of a :class:`SkillConditioned` environment from the steps since the last time.

    Rewards that are in the replay buffer already stay those of the objective of then.
    """

    def __init__(self, env: SkillConditioned, objective: Any, every: int = 1_024):
        super().__init__()
        self._env, self._objective, self._every = env, objective, every
        self._next = every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        # Here no step is under way, also where environments are stepped beside the update.
        if self.num_timesteps >= self._next:
            self._next = self.num_timesteps + self._every
            self._objective.update(self._env.take_transitions())


def compare(plan: Plan, report: Callable[[dict[str, Any]], None] = lambda _: None) -> list[dict[str, Any]]:
    """Train and count; a row (JSON-able) for each way and seed, also given to ``report`` when it is known.

    Raises:
        CadenzaError: an environment without groups, bad weights, an unknown setting.
    """
    rows = []
    for seed in plan.seeds:
        for way in plan.ways:
            row = _one(plan, way, seed)
            report(row)
            rows.append(row)
    return rows


def group_rewards(model: Symphony, env: VecEnv, episodes: int) -> dict[str, float]:
    """Mean reward per step of each group over noise-free episodes, and the mean length of an episode."""
    groups = reward_groups(env)
    assert groups is not None
    env.seed(_EVALUATION_SEED)
    observations = env.reset()
    total, steps, ended = np.zeros(len(groups)), 0, 0
    while ended < episodes:
        actions, _ = model.predict(observations, deterministic=True)  # type: ignore[arg-type]
        observations, _, dones, infos = env.step(actions)
        total += read_vectors(infos, groups).sum(0)
        steps += env.num_envs
        ended += int(dones.sum())
    found = {name: float(value / steps) for name, value in zip(groups, total, strict=True)}
    return {**found, "episode_steps": steps / ended}


def _one(plan: Plan, way: str, seed: int) -> dict[str, Any]:
    together = make_vec_env(plan.env_id, plan.n_envs) if plan.n_envs > 1 else None
    training: VecEnv = DummyVecEnv([lambda: make_env(plan.env_id)] * plan.n_envs) if together is None else together
    counted: VecEnv = DummyVecEnv([lambda: make_env(plan.env_id)])
    callback = None
    if reward_groups(training) is None:
        raise CadenzaError(f"{plan.env_id} declares no reward groups, so there is nothing to compare.")
    if plan.skills:
        training, counted, callback = _with_skills(plan, training, counted, seed)
    groups = reward_groups(training)
    assert groups is not None
    weights = dict(plan.weights) if plan.weights is not None else reward_weights(training, groups)
    settings = {"deliberate_fall_steps": 0, **plan.overrides}
    try:
        model = Symphony(
            "MlpPolicy", training, preset=plan.preset, seed=seed, device="cpu",
            critics=way, reward_weights=weights, **settings,
        )  # fmt: skip
        began = time.perf_counter()
        model.learn(plan.steps, callback)
        elapsed = time.perf_counter() - began
        found = group_rewards(model, counted, plan.episodes)
    except CadenzaError:
        raise
    except (TypeError, ValueError) as error:
        raise CadenzaError(f"Symphony cannot be built with these settings: {error}") from error
    finally:
        training.close()
        counted.close()
    return {"critics": way, "seed": seed, "weights": weights, "steps": plan.steps, "elapsed_s": elapsed, **found}


def _with_skills(
    plan: Plan, training: VecEnv, counted: VecEnv, seed: int
) -> tuple[SkillConditioned, SkillConditioned, DiversityLearner]:
    settings = SLIM_PRESETS["slim"]
    prior = SkillPrior(settings.skill, settings.skill_size)
    objective = objective_class(settings.objective)(
        features_of(training, settings.features).size,
        prior,
        hidden=settings.phi_hidden,
        learning_rate=settings.phi_learning_rate,
        epochs=settings.phi_epochs,
        batch_size=settings.phi_batch_size,
        seed=seed,
    )
    layers = [
        SkillConditioned(env, prior, settings.features, seed=number)
        for env, number in ((training, seed), (counted, _EVALUATION_SEED))
    ]
    for layer in layers:
        layer.objective = objective
    return layers[0], layers[1], DiversityLearner(layers[0], objective)
