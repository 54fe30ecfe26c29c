"""A table-top task as Stable-Baselines3's VecEnv: n arms stepped together on MuJoCo's batch.

Copy ``i`` seeded with ``s`` goes through the same bits as :class:`cadenza.envs.tabletop.single.TableEnv` reset with
the seed ``s``: the task is the same code, and MuJoCo's batch promises the results of single simulations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from cadenza.envs.errors import CadenzaError
from cadenza.envs.shared_vec_env import SharedVecEnv
from cadenza.envs.tabletop.physics import BatchPhysics
from cadenza.envs.tabletop.play import Play
from cadenza.envs.tabletop.settings import configured
from cadenza.envs.tabletop.single import reward_of
from cadenza.envs.tabletop.task import TableTask, actions_of
from cadenza.envs.tabletop.tasks import task_class
from cadenza.robots import load_arm

Parts = dict[str, NDArray[Any]]


class TableVecEnv(SharedVecEnv):
    """n copies of an arm at a task.

    Episodes that end are begun anew at once; ``infos`` then hold ``terminal_observation``, ``TimeLimit.truncated`` and,
    as with Monitor, ``episode`` (return, length, seconds). A copy whose state, observation or reward is no longer
    finite has its episode ended with reward 0 and ``info["non_finite"]``; the last states before the first are
    dumped. ``set_options({"object": ..., "goal": ...})`` holds for the next ``reset()``.

    Args:
        arm: a name of ``cadenza.robots.arm_names()``.
        task: ``reach``, ``push``, ``pick_place`` or ``play``.
        n: copies.
        threads: that step them; 0: as many as measure fastest.
        env_id: what it is called in a dump.
        dump_path: gets the last states before something was not finite, once.
        settings: of the task's configuration, by name; without cameras ``visuals`` is False here, as nobody sees the
            copies.

    Raises:
        UnknownNameError: no such arm, task or setting.
        MissingModelError: the arm's model has not been fetched.
    """

    def __init__(
        self,
        arm: str,
        task: str,
        n: int,
        threads: int = 0,
        env_id: str = "",
        dump_path: Path | None = None,
        **settings: Any,
    ):
        if n < 1:
            raise CadenzaError(f"A vectorised environment needs at least one copy, got {n}.")
        config = configured({"visuals": bool(settings.get("camera")), **settings})
        physics: list[BatchPhysics] = []

        def together(model: Any) -> BatchPhysics:
            physics.append(BatchPhysics(model, n, threads))
            return physics[0]

        self.task: TableTask = task_class(task)(load_arm(arm), config, n, together)
        self.physics = physics[0]
        if isinstance(self.task, Play):
            self.reward_groups, self.reward_weights = self.task.reward_groups, self.task.reward_weights
            self.object_entries = self.task.object_entries
        self._flat = not isinstance(self.task.observation_space, spaces.Dict)
        self._last_finite: Parts = {}
        self._actions = np.zeros((n, self.task.driver.size))
        spaces_of_one = self.task.observation_space, self.task.action_space
        super().__init__(self.task, n, *spaces_of_one, env_id, dump_path, settings)

    def compute_reward(self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any) -> Any:
        """The reward of goals (..., 3), as hindsight needs it."""
        return reward_of(self.task, achieved_goal, desired_goal)

    # ------------------------------------------------------------------ Stable-Baselines3's interface

    def reset(self) -> VecEnvObs:
        """Begin all episodes; seeds and options given with ``seed()`` and ``set_options()`` are used once."""
        options = [self.task.check_options(self._options[index]) for index in range(self.num_envs)]
        self._seed_copies()
        self.task.options[:] = options
        observation = self.task.observation(self.task.reset(np.arange(self.num_envs)))
        self._reset_options()
        self._tally.begin()
        self._last_finite = {name: values.copy() for name, values in observation.items()}
        return self._observed(observation)

    def step_async(self, actions: NDArray[np.floating]) -> None:
        """Keep the actions, (n, size), for :meth:`step_wait`; CadenzaError for another shape."""
        if not self._last_finite:
            raise CadenzaError("The first step comes before the first reset.", "Call reset() first.")
        self._actions[:] = actions_of(actions, self._actions.shape)

    def step_wait(self) -> VecEnvStepReturn:
        """Step all copies; begin ended episodes anew."""
        task, actions = self.task, self._actions
        self._history.remember(self.physics.qpos, self.physics.qvel, actions)
        bad_action: NDArray[np.bool_] = np.asarray(~np.isfinite(actions).all(axis=1))
        if bad_action.any():
            actions = np.where(bad_action[:, None], 0.0, actions)
        signals, rewards, terminated, terms = task.step(actions)
        observation, infos = task.observation(signals), task.infos(signals)
        bad = bad_action | ~np.isfinite(rewards) | self.physics.bad()
        for values in observation.values():
            if values.dtype != np.uint8:
                bad = bad | ~np.isfinite(values).all(axis=1)
        if bad.any():
            self._history.dump(np.flatnonzero(bad))
            rewards[bad], terminated = 0.0, terminated | bad
            terms = {name: np.where(bad, 0.0, values) for name, values in terms.items()}
            for name, values in observation.items():
                values[bad] = self._last_finite[name][bad]
            for index in np.flatnonzero(bad).tolist():
                infos[index] = blank(infos[index]) | {"non_finite": True}
        self._last_finite = {name: values.copy() for name, values in observation.items()}
        self._tally.add(rewards)
        truncated = (task.steps >= task.episode_steps) & ~terminated
        done: NDArray[np.bool_] = terminated | truncated
        names, columns = tuple(terms), [values.tolist() for values in terms.values()]
        for index, row in enumerate(zip(*columns, strict=True)):
            infos[index]["reward_terms"] = dict(zip(names, row, strict=True))
        ended = np.flatnonzero(done)
        if len(ended):
            self._end(ended, observation, truncated, infos)
        return self._observed(observation), rewards.astype(np.float32), done, infos

    def _end(
        self, ended: NDArray[np.intp], observation: Parts, truncated: NDArray[np.bool_], infos: list[dict[str, Any]]
    ) -> None:
        """Note the ends of these copies' episodes in the infos and begin new ones; writes into ``observation``."""
        for index in ended.tolist():
            last = {name: values[index].copy() for name, values in observation.items()}
            infos[index] |= {
                "terminal_observation": last["state"] if self._flat else last,
                "TimeLimit.truncated": bool(truncated[index]),
                "episode": self._tally.entry(index),
            }
        for name, values in self.task.observation(self.task.reset(ended), ended).items():
            observation[name][ended] = self._last_finite[name][ended] = values[ended]
        self._tally.begin(ended)

    def _observed(self, observation: Parts) -> VecEnvObs:
        return observation["state"] if self._flat else observation

    def close(self) -> None:
        """Free the renderer."""
        self.task.pictures.close()

    # ------------------------------------------------------------------ states, for planning and for checkpoints

    def get_states(self, indices: VecEnvIndices = None) -> list[dict[str, Any]]:
        """All that the next steps of these copies depend on; the same form as of the single environment."""
        return self.task.states(np.array(list(self._get_indices(indices)), dtype=np.intp))

    def set_states(self, states: Sequence[Mapping[str, Any]], indices: VecEnvIndices = None) -> VecEnvObs:
        """Put states into these copies, of any copy or of a single environment; the observations of all."""
        ids = np.array(list(self._get_indices(indices)), dtype=np.intp)
        observation = self.task.observation(self.task.set_states(ids, states))
        self._tally.returns[ids], self._tally.lengths[ids] = 0.0, self.task.steps[ids]
        self._last_finite = {name: values.copy() for name, values in observation.items()}
        self._started = True
        return self._observed(observation)

    def get_state(self) -> dict[str, Any]:
        """All that a run's next steps depend on, as arrays and plain values."""
        return {"copies": self.get_states(), **self._tally.state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`get_state` of an environment made the same way."""
        if len(state["copies"]) != self.num_envs:
            raise CadenzaError(
                f"The saved state is of {len(state['copies'])} copies, this environment has {self.num_envs}.",
                "Make the environment with the same number of copies as the run that saved it.",
            )
        self.set_states(state["copies"])
        self._tally.set_state(state)


def blank(info: Mapping[str, Any]) -> dict[str, Any]:
    """An info whose numbers are 0 and whose flags are False."""
    out: dict[str, Any] = {}
    for name, value in info.items():
        if isinstance(value, Mapping):
            out[name] = blank(value)
        else:
            out[name] = np.zeros_like(value) if isinstance(value, np.ndarray) else type(value)(0)
    return out
