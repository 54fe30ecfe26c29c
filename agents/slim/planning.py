"""Planning over skills: the cross-entropy method on sequences of z, tried out in the simulator itself.

A plan is ``skills`` skills of ``hold_steps`` steps each. All samples start from one saved state, as many at a time as
there are environments, and are judged by where they end. The method: de Boer, Kroese, Mannor, Rubinstein, *A Tutorial
on the Cross-Entropy Method*, Annals of Operations Research 134 (2005), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.slim.skill_metrics import object_entries
from cadenza.envs.errors import CadenzaError

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

    from cadenza.agents.slim.player import SkillPlayer

Array = NDArray[np.float64]

FALL_COST = 1.0
"""Added to the cost of a plan in which the episode terminates."""
_LEAST_STD = 0.1

Cost = Callable[[NDArray[np.float32]], Array]
"""Observations at the end of a plan, (M, obs) -> cost of each, (M,)."""


class Restorable(Protocol):
    """What a planner asks of its environments, beside being a VecEnv."""

    def get_states(self) -> Sequence[Any]:
        """A state for each environment."""

    def set_states(self, states: Sequence[Any], indices: Sequence[int] | None = None) -> Any:
        """Put states into environments; the observations of all."""


@dataclass(frozen=True)
class PlanSettings:
    """Numbers of the cross-entropy method."""

    skills: int = 4
    """In a plan."""
    hold_steps: int = 10
    """Steps for which each is held."""
    samples: int = 64
    elites: int = 8
    iterations: int = 4

    def __post_init__(self) -> None:
        if min(self.skills, self.hold_steps, self.elites, self.iterations) < 1 or self.samples < self.elites:
            raise CadenzaError(f"{self}: every number must be at least 1, and samples at least elites.")


@dataclass(frozen=True)
class SkillPlan:
    """The best plan that was tried."""

    skills: NDArray[np.float32]
    """(skills, size)."""
    cost: float
    costs: tuple[float, ...]
    """The best so far after each iteration."""


def distance_to(env: VecEnv, goal: Array) -> Cost:
    """Distance of the object from ``goal``, (2,) or (3,) [m]."""
    columns = list(object_entries(env).position[: len(goal)])
    return lambda observations: np.linalg.norm(observations[:, columns].astype(np.float64) - goal, axis=1)


class SkillPlanner:
    """Plans with the environments ``env``, which it leaves in no particular state.

    Args:
        model: whose skills.
        env: a VecEnv without skills that can save and restore states (:class:`Restorable`).
        settings: of the method.
        seed: of the samples.

    Raises:
        CadenzaError: an environment whose state cannot be restored.
    """

    def __init__(self, model: SkillPlayer, env: VecEnv, settings: PlanSettings | None = None, seed: int = 0):
        if not (hasattr(env, "get_states") and hasattr(env, "set_states")):
            raise CadenzaError(
                "Planning goes back to a saved state, which these environments cannot.",
                "Table tops can: cadenza/PandaPlay-v0 with at least 2 environments.",
            )
        self.model, self.env, self.settings = model, env, settings or PlanSettings()
        self._generator = np.random.default_rng(seed)

    def plan(self, state: Any, cost: Cost) -> SkillPlan:
        """The best of all plans tried from ``state`` (one row of ``get_states``)."""
        settings, prior = self.settings, self.model.prior
        shape = (settings.skills, prior.size)
        mean, std = np.zeros(shape), np.ones(shape)
        probabilities = np.full(shape, 1.0 / prior.size)
        best: NDArray[np.float32] | None = None
        best_cost, history = np.inf, []
        for _ in range(settings.iterations):
            if prior.discrete:
                samples = self._one_hot(probabilities)
            else:
                samples = mean + std * self._generator.standard_normal((settings.samples, *shape))
                samples /= np.maximum(np.linalg.norm(samples, axis=-1, keepdims=True), 1e-9)
            if best is not None:  # the best so far competes again: it cannot be lost
                samples[0] = best
            plans = samples.astype(np.float32)
            costs = self.try_out(state, plans, cost)
            order = np.argsort(costs, kind="stable")[: settings.elites]
            if costs[order[0]] < best_cost:
                best_cost, best = float(costs[order[0]]), plans[order[0]]
            history.append(best_cost)
            mean, std = samples[order].mean(0), np.maximum(samples[order].std(0), _LEAST_STD)
            probabilities = 0.9 * samples[order].mean(0) + 0.1 / prior.size
        assert best is not None
        return SkillPlan(best, best_cost, tuple(history))

    def _one_hot(self, probabilities: Array) -> Array:
        steps, size = probabilities.shape
        chosen = [self._generator.choice(size, size=self.settings.samples, p=row) for row in probabilities]
        return np.eye(size)[np.stack(chosen, 1)].reshape(self.settings.samples, steps, size)

    def try_out(self, state: Any, plans: NDArray[np.float32], cost: Cost) -> Array:
        """The cost of each plan (M, skills, size) from ``state``."""
        n = self.env.num_envs
        found = np.zeros(len(plans))
        for first in range(0, len(plans), n):
            part = plans[first : first + n]
            # Environments that are left over play the first plan of the part once more, and nobody looks.
            full = np.concatenate([part, np.repeat(part[:1], n - len(part), 0)])
            found[first : first + n] = self._play(state, full, cost)[: len(part)]
        return found

    def _play(self, state: Any, plans: NDArray[np.float32], cost: Cost) -> Array:
        n = self.env.num_envs
        observations = restore(self.env, [state] * n)
        ends, over, fell = observations.copy(), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        for index in range(plans.shape[1]):
            for _ in range(self.settings.hold_steps):
                received, _, dones, infos = self.env.step(self.model.act(observations, plans[:, index]))
                observations = np.array(received, dtype=np.float32)
                for i in np.flatnonzero(~over).tolist():
                    ends[i] = infos[i]["terminal_observation"] if dones[i] else observations[i]
                    fell[i] = bool(dones[i]) and not infos[i].get("TimeLimit.truncated", False)
                over |= dones
        return np.asarray(cost(ends)) + FALL_COST * fell


def restore(env: Any, states: Sequence[Any]) -> NDArray[np.float32]:
    """Put all environments into ``states`` and look: observations (N, obs)."""
    return np.array(env.set_states(states), dtype=np.float32)
