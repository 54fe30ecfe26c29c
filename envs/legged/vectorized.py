"""A legged task as Stable-Baselines3's VecEnv: n robots stepped together on MuJoCo's batch.

Copy ``i`` seeded with ``s`` goes through the same bits as :class:`cadenza.envs.legged.single.LeggedEnv` reset with the
seed ``s``: the task is the same code, and MuJoCo's batch promises the results of single simulations.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.events import describe
from cadenza.envs.legged.motor_record import MotorRecord
from cadenza.envs.legged.physics import BatchPhysics
from cadenza.envs.legged.single import weighted
from cadenza.envs.legged.task import LeggedTask, configured
from cadenza.envs.legged.tasks import task_class
from cadenza.envs.mirror import Mirror
from cadenza.envs.shared_vec_env import SharedVecEnv
from cadenza.robots import load_humanoid

logger = logging.getLogger(__name__)


class LeggedVecEnv(SharedVecEnv):
    """n copies of a robot at a task.

    Episodes that end are begun anew at once; ``infos`` then hold ``terminal_observation``, ``TimeLimit.truncated`` and,
    as with Monitor, ``episode`` (return, length, seconds). A copy whose state, observation or reward is no longer
    finite has its episode ended with reward 0 and ``info["non_finite"]``; the last states before the first are
    dumped.

    ``set_options({"command": (0.2, 0, 0)})`` before ``reset()`` fixes the velocity command of the episodes that it
    begins, of each copy its own if it is a list; ``"parameters"`` there sets values that a curriculum chose.

    Args:
        robot: a name of ``cadenza list robots``.
        task: ``stand``, ``walk``, ``run`` or ``get_up``.
        n: copies.
        threads: that step them; 0: as many as measure fastest.
        env_id: what it is called in a dump.
        dump_path: gets the last states before something was not finite, once.
        settings: of the task's configuration, by name; ``visuals`` is False here, as nobody sees the copies.

    Raises:
        UnknownNameError: no such robot, task or setting.
        MissingModelError: the robot's model has not been fetched.
    """

    def __init__(
        self,
        robot: str,
        task: str,
        n: int,
        threads: int = 0,
        env_id: str = "",
        dump_path: Path | None = None,
        **settings: Any,
    ):
        if n < 1:
            raise CadenzaError(f"A vectorised environment needs at least one copy, got {n}.")
        kind, description = task_class(task), load_humanoid(robot)
        config = configured(kind, description, {"visuals": False, **settings})
        self.task: LeggedTask = kind(description, config, n, lambda model: BatchPhysics(model, n, threads))
        assert isinstance(self.task.physics, BatchPhysics)
        self.physics = self.task.physics
        observations = spaces.Box(-np.inf, np.inf, (self.task.layout.size,), np.float64)
        actions = spaces.Box(-1.0, 1.0, (len(self.task.home),), np.float32)
        self.actor_observation_size = self.task.layout.actor_size
        self._last_finite = np.zeros((n, self.task.layout.size))
        self._actions = np.zeros((n, len(self.task.home)))
        self._forces = self.physics.read("actuator_force")
        self.motor_record = MotorRecord(self.task.model, n, self.task.dt)
        """What the commands so far would have done to the motors."""
        super().__init__(self.task, n, observations, actions, env_id, dump_path, settings)

    @property
    def events_record(self) -> dict[str, Any]:
        """What randomises and disturbs it, with ranges, for a run folder."""
        return describe(self.task.events)

    @property
    def mirror(self) -> Mirror:
        """How its observations and actions look in a mirror, for agents that learn from both."""
        return self.task.mirror

    # ------------------------------------------------------------------ Stable-Baselines3's interface

    def reset(self) -> VecEnvObs:
        """Begin all episodes; seeds given with ``seed()`` and options with ``set_options()`` are used once.

        Raises:
            CommandError: a command that the task does not take; nothing has been begun then.
        """
        told = {index: given["command"] for index, given in enumerate(self._options) if "command" in (given or {})}
        for command in told.values():
            self.task.checked_command(command)
        self._seed_copies()
        for index in range(self.num_envs):
            self._choose_parameters(index)
        observations = self.task.reset(np.arange(self.num_envs))
        for index, command in told.items():
            observations[index] = self.task.hold_command(index, command)
        self.motor_record.begin(np.arange(self.num_envs))
        self._reset_options()
        self._tally.begin()
        self._last_finite[:] = observations
        return observations.copy()

    def step_async(self, actions: NDArray[np.floating]) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions[:] = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all copies; begin ended episodes anew."""
        task, actions = self.task, self._actions
        self._history.remember(self.physics.qpos, self.physics.qvel, actions)
        bad_action: NDArray[np.bool_] = np.asarray(~np.isfinite(actions).all(axis=1))
        if bad_action.any():
            actions = np.where(bad_action[:, None], 0.0, actions)
        observations, rewards, terminated, terms = task.step(actions)
        self.motor_record.note(self.physics.ctrl, self._forces)
        finite = np.isfinite(observations).all(axis=1) & np.isfinite(rewards)
        bad: NDArray[np.bool_] = np.logical_or(bad_action | ~finite, self.physics.bad())
        if bad.any():
            self._history.dump(np.flatnonzero(bad))
            observations[bad], rewards[bad], terminated = self._last_finite[bad], 0.0, terminated | bad
            terms = {name: np.where(bad, 0.0, values) for name, values in terms.items()}
        self._last_finite[:] = observations
        self._tally.add(rewards)
        truncated = np.asarray((task.steps >= task.episode_steps) & ~terminated)
        done: NDArray[np.bool_] = np.logical_or(terminated, truncated)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(bad).tolist():
            infos[index]["non_finite"] = True
        ended = np.flatnonzero(done)
        if len(ended):
            measures = {name: values[ended] for name, values in task.measures().items()}
            for row, index in enumerate(ended.tolist()):
                infos[index] |= {
                    "terminal_observation": observations[index].copy(),
                    "TimeLimit.truncated": bool(truncated[index]),
                    "episode": self._tally.entry(index),
                    "reward_terms": weighted(task, terms, rewards, index),
                    **{name: float(values[row]) for name, values in measures.items()},
                }
                if self.curriculum is not None:
                    self.curriculum.finish(index, float("nan") if bad[index] else float(self._tally.returns[index]))
                self._choose_parameters(index)
            observations[ended] = task.reset(ended)
            self.motor_record.begin(ended)
            self._last_finite[ended] = observations[ended]
            self._tally.begin(ended)
        return observations, rewards.astype(np.float32), done, infos

    def _choose_parameters(self, index: int) -> None:
        options = self._options[index] or {}
        given = dict(options.get("parameters", {}))
        if self.curriculum is not None:
            given = {**self.curriculum.next_parameters(index), **given}
        self.task.parameters[index] = given

    def close(self) -> None:
        """Nothing is open."""

    # ------------------------------------------------------------------ state of a run

    def get_state(self) -> dict[str, Any]:
        """All that the next steps depend on, as arrays and plain values."""
        return {
            "physics": self.physics.batch.state.copy(),
            "task": self.task.state(),
            "curriculum": None if self.curriculum is None else self.curriculum.state_dict(),
            **self._tally.state(),
            "last_finite": self._last_finite.copy(),
            "motors": self.motor_record.state(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`get_state` of an environment made the same way."""
        if state["physics"].shape != self.physics.batch.state.shape:
            raise CadenzaError(
                "The saved state is of another model or number of copies.",
                "Make the environment with the same id, settings and number of copies as the run that saved it.",
            )
        self.task.set_state(state["task"])
        if state.get("curriculum") is not None and self.curriculum is not None:
            self.curriculum.load_state_dict(state["curriculum"])
        self.physics.batch.state[...] = state["physics"]
        self._tally.set_state(state)
        self._last_finite[:] = state["last_finite"]
        if "motors" in state:  # runs of before did not count them
            self.motor_record.set_state(state["motors"])
        self._started = True
