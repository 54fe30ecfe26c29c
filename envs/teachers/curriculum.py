"""One teacher for any number of environments, and the same for a single one as a Gymnasium wrapper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from cadenza.envs.teachers.teacher import Teacher


class Curriculum:
    """Remembers which environment plays which task, so that the teacher learns from the right one.

    Args:
        teacher: shared by all environments.
    """

    def __init__(self, teacher: Teacher):
        self.teacher = teacher
        self._running: dict[int, dict[str, float]] = {}

    def next_parameters(self, env_index: int) -> dict[str, float]:
        """What environment ``env_index`` plays from here on.

        An episode of it that was not finished (a reset in the middle) is dropped: its return says nothing of the task.
        """
        parameters = self.teacher.sample()
        self._running[env_index] = parameters
        return dict(parameters)

    def finish(self, env_index: int, episode_return: float) -> None:
        """Report the episode of environment ``env_index``; it must ask for parameters before it reports again.

        Args:
            env_index: as in :meth:`next_parameters`.
            episode_return: undiscounted sum of the rewards. NaN for an episode that the simulation spoiled: the teacher
                counts it and learns nothing from it.

        Raises:
            ValueError: this environment plays no task of the curriculum.
        """
        if env_index not in self._running:
            raise ValueError(f"environment {env_index} finished an episode that it asked no parameters for")
        self.teacher.update(self._running.pop(env_index), episode_return)

    def state_dict(self) -> dict[str, Any]:
        """The teacher's state and the tasks being played, in the form of :meth:`Teacher.state_dict`."""
        running = {str(index): dict(parameters) for index, parameters in self._running.items()}
        return {"teacher": self.teacher.state_dict(), "running": running}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            TeacherStateError: see :meth:`Teacher.load_state_dict`.
        """
        self.teacher.load_state_dict(state["teacher"])
        self._running = {int(index): dict(parameters) for index, parameters in state["running"].items()}


class TeacherWrapper(gym.Wrapper):
    """Resets one environment with the curriculum's parameters and reports the return of each whole episode.

    ``reset`` hands them on as ``options["parameters"]`` and repeats them in ``info["parameters"]``. A caller that gives
    ``parameters`` itself, as an evaluation does, gets these; such an episode is not reported. Seeds given to ``reset``
    do not reach the teacher. An episode that ends with ``info["non_finite"]`` (see
    :class:`cadenza.envs.guard.FiniteGuard`) is reported as NaN.

    Args:
        env: whose ``reset`` takes ``options={"parameters": {name: value}}``.
        curriculum: perhaps shared with other environments.
        env_index: of this environment in the curriculum.
    """

    def __init__(self, env: gym.Env, curriculum: Curriculum, env_index: int = 0):
        super().__init__(env)
        self.curriculum = curriculum
        self.env_index = env_index
        self._episode_return = 0.0
        self._taught = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class for ``options``."""
        options = dict(options or {})
        self._taught = "parameters" not in options
        if self._taught:
            options["parameters"] = self.curriculum.next_parameters(self.env_index)
        self._episode_return = 0.0
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, "parameters": dict(options["parameters"])}

    def get_extra_state(self) -> dict[str, Any]:
        """What a checkpoint of the environment (:mod:`cadenza.envs.state`) holds of the curriculum."""
        return self.curriculum.state_dict()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """The inverse."""
        self.curriculum.load_state_dict(state)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and report the return where the episode ends."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._episode_return += float(reward)
        if self._taught and (terminated or truncated):
            self._taught = False
            spoiled = bool(info.get("non_finite"))
            self.curriculum.finish(self.env_index, float("nan") if spoiled else self._episode_return)
        return observation, reward, terminated, truncated, info
