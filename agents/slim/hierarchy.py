"""Tasks on top of frozen skills: a high level picks z, the skill acts for H steps.

- ``position``: bring the object within 3 cm of a goal in the plane.
- ``circle``, ``lemniscate``: lead it along a curve through its own start, once round in an episode.

The environments of a run become one Stable-Baselines3 VecEnv whose actions are skills, so that any of its algorithms
can be the high level; choosing z by :meth:`goal_skill` (zero-shot) or at random is measured by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from cadenza.agents.slim.diversity import LSD
from cadenza.agents.slim.skill_metrics import Figure, mean_of, object_entries
from cadenza.agents.slim.skills import ObjectPose
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

    from cadenza.agents.slim.player import SkillPlayer

Array = NDArray[np.float64]

TASKS = ("position", "circle", "lemniscate")
HOLD_STEPS = 10
"""H: steps for which a skill is held."""
SUCCESS_M = 0.03
GOAL_SHARE = 0.7
"""Goals lie within this share of the workspace's half extents."""
LEAST_WAY_M = 0.05
"""A goal is at least this far from where the object begins [m]."""
CURVE_M = 0.08
"""Radius of the circle, half length of the lemniscate [m]."""
WAIT_STEPS = 20
"""The curve begins to move after this many steps: the hand has to get to the object first."""

Choose = Callable[["SkillTasks", NDArray[np.float32]], NDArray[Any]]
"""The environments and their observations -> an action for each."""


def curve(task: str, share: Array) -> Array:
    """Points of a closed curve that begins at (0, 0); ``share`` (...,) of the way round -> (..., 2) [m]."""
    angle = 2 * np.pi * share
    if task == "circle":
        return CURVE_M * np.stack([np.cos(angle) - 1.0, np.sin(angle)], -1)
    return CURVE_M * np.stack([np.sin(angle), np.sin(angle) * np.cos(angle)], -1)


class SkillTasks(VecEnv):
    """N environments whose actions are skills of a frozen agent, each held for ``hold_steps`` steps.

    Observation: the environment's own, the target minus the object's place in the plane (of the curves also the target
    of the next choice), both in units of the workspace, and whether the goal has been reached. Reward: minus the
    distance from the target [m], for ``position`` until it is reached, plus 1 then; minus 1 where an episode
    terminates. An environment whose episode ends while others still hold their skill rests until they are done.

    Args:
        model: the agent; it is not changed.
        env: its environments, without skills.
        task: one of :data:`TASKS`.
        hold_steps: H.
        episode_steps: length of an episode of ``env``, in which a curve is gone round once.
        seed: of goals, and of ``env``.

    Raises:
        CadenzaError: unknown task, numbers below 1, or an environment that does not say where its object is.
    """

    reward_groups: ClassVar[None] = None
    """The environments below may have groups; the task's reward is one number."""
    reward_weights: ClassVar[None] = None
    """Of those groups: hidden with them."""

    def __init__(
        self,
        model: SkillPlayer,
        env: VecEnv,
        task: str = "position",
        *,
        hold_steps: int = HOLD_STEPS,
        episode_steps: int = 100,
        seed: int = 0,
    ):
        if task not in TASKS:
            raise unknown_name("task on skills", task, TASKS)
        if hold_steps < 1 or episode_steps <= WAIT_STEPS:
            raise CadenzaError(
                f"A skill is held for at least 1 step of an episode of more than {WAIT_STEPS}, not {hold_steps} of "
                f"{episode_steps}."
            )
        self.skills_of, self.venv, self.task = model, env, task
        self.hold_steps, self.episode_steps = hold_steps, episode_steps
        entries = object_entries(env)
        self._columns = list(entries.position[:2])
        self._center, self._half = np.array(entries.center[:2]), np.array(entries.half_extent[:2])
        self._generators = self._goal_generators(seed)
        self._seed: int | None = seed
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        extra = np.full(3 if task == "position" else 5, np.inf)
        low, high = np.concatenate([space.low, -extra]), np.concatenate([space.high, extra])
        size = model.prior.size
        action: spaces.Space = spaces.Box(-1.0, 1.0, (size,), np.float32)
        if model.prior.discrete:
            action = spaces.Discrete(size)
        super().__init__(env.num_envs, spaces.Box(low.astype(np.float32), high.astype(np.float32)), action)
        n = env.num_envs
        self.observations = np.zeros((n, *space.shape), dtype=np.float32)
        """Of the environments below, (N, obs)."""
        self.goals = np.zeros((n, 2))
        """Of ``position``: where the object shall be, (N, 2) [m]."""
        self._starts, self._turns = np.zeros((n, 2)), np.zeros(n)
        self._clock = np.zeros(n, dtype=np.int64)
        self._reached = np.zeros(n, dtype=bool)
        self._errors: list[list[float]] = [[] for _ in range(n)]
        self._chosen = np.zeros((n, size), dtype=np.float32)

    # ------------------------------------------------------------------ what is wanted

    @property
    def places(self) -> Array:
        """Where the objects are in the plane, (N, 2) [m]."""
        return self.observations[:, self._columns].astype(np.float64)

    def targets(self, ahead: int = 0) -> Array:
        """Where the objects shall be ``ahead`` steps from now, (N, 2) [m]."""
        if self.task == "position":
            return self.goals.copy()
        moving = self._clock + ahead - WAIT_STEPS
        share = np.clip(moving / (self.episode_steps - WAIT_STEPS), 0.0, 1.0)
        points = curve(self.task, share)
        cos, sin = np.cos(self._turns), np.sin(self._turns)
        turned = np.stack([cos * points[:, 0] - sin * points[:, 1], sin * points[:, 0] + cos * points[:, 1]], 1)
        return self._starts + turned

    def skill_of(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        """The skills that actions (N,) or (N, size) name: directions become skills of length 1."""
        prior = self.skills_of.prior
        if prior.discrete:
            return np.eye(prior.size, dtype=np.float32)[np.asarray(actions, dtype=np.int64).reshape(-1)]
        rows = np.asarray(actions, dtype=np.float32)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        first = np.eye(1, prior.size, dtype=np.float32)  # an action of all zeros names no direction
        return np.where(lengths > 1e-6, rows / np.maximum(lengths, 1e-6), first).astype(np.float32)

    def zero_shot(self) -> NDArray[Any]:
        """(phi(target) - phi(object))/|.| of each environment, as actions.

        Raises:
            CadenzaError: an agent whose phi is no map of the world (DIAYN), or that sees more than the object.
        """
        objective, features = self.skills_of.diversity, self.skills_of.features_in(self.venv)
        if not isinstance(objective, LSD) or not isinstance(features, ObjectPose):
            raise CadenzaError(
                "Only LSD and METRA on the features of the object lead to a goal without learning.",
                "Train with --preset slim, lsd or metra, or learn a high level: cadenza skills hierarchy RUN.",
            )
        wanted = self.observations.copy()
        wanted[:, self._columns] = self.targets(self.hold_steps)
        found = []
        for now, goal in zip(features(self.observations), features(wanted), strict=True):
            try:
                found.append(objective.goal_skill(now, goal))
            except CadenzaError:  # it is there already: any skill is as good
                found.append(np.eye(self.skills_of.prior.size, dtype=np.float32)[0])
        skills = np.stack(found)
        return skills.argmax(1) if self.skills_of.prior.discrete else skills

    def _goal_generators(self, seed: int) -> list[np.random.Generator]:
        """One a copy: whoever chooses, and however long episodes last, a copy's n-th goal is the same."""
        return [np.random.default_rng([seed, self.hold_steps, copy]) for copy in range(self.venv.num_envs)]

    def _begin(self, indices: NDArray[np.intp], rested: NDArray[np.int64] | int = 0) -> None:
        """New goals for episodes that have just begun, and of which ``rested`` steps have passed."""
        for index in indices.tolist():
            start = self.places[index]
            self._starts[index] = start
            goal = start
            while np.linalg.norm(goal - start) < LEAST_WAY_M:
                goal = self._center + GOAL_SHARE * self._half * self._generators[index].uniform(-1, 1, 2)
            self.goals[index] = goal
            # Turned so that the circle's middle lies towards the middle of the workspace.
            towards = self._center - start
            self._turns[index] = np.arctan2(-towards[1], -towards[0])
            self._errors[index] = []
        self._clock[indices] = rested
        self._reached[indices] = False

    def _observe(self) -> NDArray[np.float32]:
        ahead = (0,) if self.task == "position" else (0, self.hold_steps)
        gaps = [(self.targets(steps) - self.places) / self._half for steps in ahead]
        return np.concatenate([self.observations, *gaps, self._reached[:, None]], 1, dtype=np.float32)

    # ------------------------------------------------------------------ VecEnv

    def reset(self) -> NDArray[np.float32]:
        if self._seed is not None:
            self.venv.seed(self._seed)
            self._seed = None
        self.observations = np.array(self.venv.reset(), dtype=np.float32)
        self._begin(np.arange(self.num_envs))
        return self._observe()

    def step_async(self, actions: NDArray[Any]) -> None:
        shape = (self.num_envs,) if self.skills_of.prior.discrete else (self.num_envs, self.skills_of.prior.size)
        if np.shape(actions) != shape or not np.isfinite(actions).all():
            raise CadenzaError(
                f"Actions here are skills, finite numbers of the shape {shape}; got {np.shape(actions)} with the first "
                f"{np.asarray(actions).reshape(-1)[:4].tolist()}."
            )
        self._chosen = self.skill_of(actions)

    def step_wait(self) -> VecEnvStepReturn:
        n = self.num_envs
        over, terminated = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        ends, infos = np.zeros_like(self._observe()), [dict[str, Any]() for _ in range(n)]
        distances, rested = np.zeros(n), np.zeros(n, dtype=np.int64)
        still = self._reached.copy()
        for _ in range(self.hold_steps):
            actions = self.skills_of.act(self.observations, self._chosen)
            actions[over] = 0.0
            received, _, dones, found = self.venv.step(actions)
            self.observations = np.array(received, dtype=np.float32)
            self._clock += ~over
            rested += over
            for index in np.flatnonzero(dones & ~over).tolist():
                last = found[index]["terminal_observation"]
                self.observations[index] = last
                infos[index]["TimeLimit.truncated"] = bool(found[index].get("TimeLimit.truncated", False))
                terminated[index] = not infos[index]["TimeLimit.truncated"]
            now = np.linalg.norm(self.targets() - self.places, axis=1)
            for index in np.flatnonzero(~over).tolist():
                self._errors[index].append(float(now[index]))
            distances = np.where(over, distances, now)
            ended = dones & ~over
            if ended.any():
                ends[ended] = self._observe()[ended]
            over |= dones
            # What follows belongs to the next episode.
            self.observations = np.array(received, dtype=np.float32)
        first = (self.task == "position") & (distances < SUCCESS_M) & ~still & ~terminated
        self._reached |= first
        rewards = np.where(still, 0.0, -distances) + first - terminated
        for index in np.flatnonzero(over).tolist():
            ends[index, -1] = self._reached[index]
            infos[index]["terminal_observation"] = ends[index]
            infos[index]["is_success"] = bool(self._reached[index])
            errors = self._errors[index]
            infos[index]["final_error_m"] = errors[-1]
            infos[index]["mean_error_m"] = float(np.mean(errors[WAIT_STEPS:] or errors))
        self._begin(np.flatnonzero(over), rested[over])
        return self._observe(), rewards.astype(np.float32), over, infos

    def close(self) -> None:
        self.venv.close()

    def seed(self, seed: int | None = None) -> Any:
        """Seed goals and environments, from the next reset on."""
        if seed is not None:
            self._generators = self._goal_generators(seed)
            self._seed = seed
        return [seed] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name in vars(self):
            return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))
        return self.venv.get_attr(attr_name, indices)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        self.venv.set_attr(attr_name, value, indices)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        return self.venv.env_method(method_name, *method_args, indices=indices, **method_kwargs)

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return self.venv.env_is_wrapped(wrapper_class, indices)


# ------------------------------------------------------------------ who chooses, and how well


def choose_randomly(seed: int = 0) -> Choose:
    """Skills of the prior, to compare with."""
    generator = np.random.default_rng(seed)

    def choose(env: SkillTasks, observations: NDArray[np.float32]) -> NDArray[Any]:
        skills = env.skills_of.prior.sample(env.num_envs, generator)
        return skills.argmax(1) if env.skills_of.prior.discrete else skills

    return choose


def choose_zero_shot(env: SkillTasks, observations: NDArray[np.float32]) -> NDArray[Any]:
    """The direction to the target in phi's space."""
    return env.zero_shot()


def chosen_by(high_level: BaseAlgorithm) -> Choose:
    """What a trained high level says, noise-free."""
    return lambda env, observations: high_level.predict(observations, deterministic=True)[0]


@dataclass(frozen=True)
class TaskResult:
    """How well a task was done over ``n`` episodes."""

    n: int
    success: Figure
    """Share of episodes in which the goal was reached; 0 for the curves, which have none."""
    final_error_m: Figure
    """Distance from the target at the end [m]."""
    mean_error_m: Figure
    """Mean distance from the target after the first :data:`WAIT_STEPS` steps [m]."""
    fell: Figure
    """Share of episodes that terminated."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: figures as value, low, high."""
        figures = {name: getattr(self, name) for name in ("success", "final_error_m", "mean_error_m", "fell")}
        return {"n": self.n, **{name: [round(x, 5) for x in figure.to_list()] for name, figure in figures.items()}}


def evaluate_task(env: SkillTasks, choose: Choose, *, episodes: int = 100, seed: int = 10_000) -> TaskResult:
    """Play ``episodes`` episodes of the task; an equal share in each environment, so that short ones do not count more.

    Raises:
        CadenzaError: fewer than one episode.
    """
    if episodes < 1:
        raise CadenzaError(f"At least 1 episode is needed, got {episodes}.")
    env.seed(seed)
    observations = env.reset()
    quota = np.full(env.num_envs, episodes // env.num_envs)
    quota[: episodes % env.num_envs] += 1
    rows = []
    while quota.sum() > 0:
        received, _, dones, infos = env.step(choose(env, observations))
        observations = np.array(received, dtype=np.float32)
        for index in np.flatnonzero(dones & (quota > 0)).tolist():
            quota[index] -= 1
            info = infos[index]
            fell = not info["TimeLimit.truncated"]
            rows.append((float(info["is_success"]), info["final_error_m"], info["mean_error_m"], float(fell)))
    return TaskResult(len(rows), *(mean_of(column) for column in np.array(rows).T))


def train_high_level(
    env: SkillTasks,
    *,
    steps: int,
    algorithm: str = "ppo",
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> BaseAlgorithm:
    """A high level that has learned for ``steps`` steps of the environments below.

    Args:
        env: the task.
        steps: environment steps; a choice of the high level takes ``env.hold_steps`` of them.
        algorithm: ``ppo`` (Stable-Baselines3's, by MultiCriticPPO with one critic and its normaliser) or ``sac``.
        seed: of the high level.
        progress: told the environment steps done.

    Raises:
        CadenzaError: unknown algorithm, or SAC for one-hot skills.
    """
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    from cadenza.agents.slim.multi_critic_ppo import MultiCriticPPO

    if algorithm not in ("ppo", "sac"):
        raise unknown_name("algorithm for a high level", algorithm, ("ppo", "sac"))
    if algorithm == "sac" and env.skills_of.prior.discrete:
        raise CadenzaError("SAC chooses continuous skills; these are one-hot.", "Use --algorithm ppo.")
    if steps < env.hold_steps:
        raise CadenzaError(f"A choice takes {env.hold_steps} steps; {steps} were asked for.")
    hold = env.hold_steps

    class Told(BaseCallback):
        def _on_step(self) -> bool:
            if progress is not None:
                progress(self.num_timesteps * hold)
            return True

    high_level: BaseAlgorithm
    if algorithm == "ppo":
        high_level = MultiCriticPPO(
            "MlpPolicy", env, n_steps=max(20, 320 // env.num_envs), batch_size=80, n_epochs=10, gamma=0.95,
            normalize_observations=True, ent_coef=0.001, seed=seed, device="cpu",
        )  # fmt: skip
    else:
        high_level = SAC(
            "MlpPolicy", env, learning_starts=500, gradient_steps=-1, gamma=0.95, buffer_size=200_000, seed=seed,
            device="cpu",
        )  # fmt: skip
    return high_level.learn(max(1, steps // hold), callback=Told())
