"""What vectorised environments have in common whose copies share one task, and are no objects of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from cadenza.envs.dumps import DumpHistory


class SharedTask(Protocol):
    """What a task of n copies must have."""

    model: Any
    dt: float
    episode_steps: int

    def seed(self, index: int, seed: int) -> None:
        """Begin copy ``index``'s generator anew."""


class EpisodeTally:
    """Return and length so far of the episode that each of n copies is in, as Monitor counts them."""

    def __init__(self, n: int):
        self.returns, self.lengths = np.zeros(n), np.zeros(n, dtype=np.int64)
        self._began = time.perf_counter()

    def add(self, rewards: NDArray[np.float64]) -> None:
        """Every copy took a step."""
        self.returns += rewards
        self.lengths += 1

    def begin(self, copies: NDArray[np.intp] | slice = slice(None)) -> None:
        """These copies begin an episode."""
        self.returns[copies], self.lengths[copies] = 0.0, 0

    def entry(self, index: int) -> dict[str, float]:
        """Of an episode that ends: return, length, and seconds since the environment was made."""
        seconds = round(time.perf_counter() - self._began, 6)
        return {"r": round(float(self.returns[index]), 6), "l": int(self.lengths[index]), "t": seconds}

    def state(self) -> dict[str, NDArray[Any]]:
        """For :meth:`set_state`."""
        return {"returns": self.returns.copy(), "lengths": self.lengths.copy()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.returns[:], self.lengths[:] = state["returns"], state["lengths"]


class SharedVecEnv(VecEnv):
    """n copies that share one task; Stable-Baselines3's questions about single copies are answered for all of them.

    Args:
        task: of n copies.
        n: copies.
        observations: space of one copy's.
        actions: space of one copy's.
        env_id: what it is called in a dump.
        dump_path: gets the last states before something was not finite, once.
        settings: of the task, for the dump.
    """

    def __init__(
        self,
        task: SharedTask,
        n: int,
        observations: spaces.Space[Any],
        actions: spaces.Space[Any],
        env_id: str,
        dump_path: Path | None,
        settings: Mapping[str, Any],
    ):
        self._shared = task
        self.curriculum: Any = None
        """A :class:`cadenza.envs.teachers.curriculum.Curriculum` that chooses parameters, of tasks that take any."""
        self.render_mode = None
        self.spec = EnvSpec(env_id or "cadenza/unnamed-v0", max_episode_steps=task.episode_steps)
        """Whoever asks for the time limit finds it where Gymnasium's environments have it."""
        self._history = DumpHistory(dump_path, {"env_id": env_id, "env_kwargs": dict(settings)})
        self._tally = EpisodeTally(n)
        self._started = False
        super().__init__(n, observations, actions)

    @property
    def model(self) -> Any:
        """The model that the copies share."""
        return self._shared.model

    @property
    def dt(self) -> float:
        """Length of a control step, s."""
        return self._shared.dt

    def _seed_copies(self) -> None:
        """Use seeds given with ``seed()`` once; copies that never had any get one of their own."""
        for index, seed in enumerate(self._seeds):
            if seed is not None:
                self._shared.seed(index, seed)
            elif not self._started:
                self._shared.seed(index, int(np.random.SeedSequence().generate_state(1)[0]))
        self._started = True
        self._reset_seeds()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The same object for every copy: they share the task."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Of all copies, as they share everything."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method once for every index."""
        return [getattr(self, method_name)(*args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """It counts episodes as Monitor does, and is wrapped in nothing."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]
