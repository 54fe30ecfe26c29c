"""A wrapper that keeps a simulation that has blown up away from the learner, and keeps evidence of it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from cadenza.envs.dumps import HISTORY, write_dump

logger = logging.getLogger(__name__)

# On each of these MuJoCo resets its state and goes on as if nothing had happened.
BAD_STATE = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)


def all_finite(value: Any) -> bool:
    """Whether an observation (array, number, or dict or tuple of them) holds neither NaN nor infinity."""
    if isinstance(value, dict):
        return all(all_finite(item) for item in value.values())
    if isinstance(value, tuple | list):
        return all(all_finite(item) for item in value)
    array = np.asarray(value)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def _copy(value: Any) -> Any:
    """A copy of an observation that the environment cannot change later."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_copy(item) for item in value)
    return np.array(value)


def _zeros(space: gym.Space) -> Any:
    """An observation of zeros; Gymnasium's structured spaces are followed into their parts."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _zeros(part) for key, part in space.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(_zeros(part) for part in space.spaces)
    return np.zeros(space.shape or (), space.dtype)


class FiniteGuard(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """End the episode when something is not finite.

    NaN or infinity in the action, the observation or the reward, or MuJoCo's own verdict that its state is bad, makes
    the step return the last finite observation, reward 0 (and 0 for every entry of ``info["reward_terms"]``),
    ``terminated=True`` and ``info["non_finite"]=True``. An action that is not finite reaches the environment as zeros.
    The next ``reset`` goes on as usual.

    Args:
        env: any environment; MuJoCo's own counters are read where it has them.
        dump_path: an ``.npz`` that gets the last 16 states before a step (``qpos`` and ``qvel``, or ``observation``
            without MuJoCo) and the actions as given, oldest first; written once. See :mod:`cadenza.envs.dumps`.
        about: ``env_id`` and ``env_kwargs`` for the dump; None takes those the environment was made with.
    """

    def __init__(self, env: gym.Env, dump_path: Path | None = None, about: Mapping[str, Any] | None = None):
        gym.utils.RecordConstructorArgs.__init__(self, dump_path=dump_path, about=about)
        super().__init__(env)
        self.dump_path = dump_path
        self._given_about = about
        self._reported = False
        self._last_observation: Any = None
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    @property
    def _data(self) -> mujoco.MjData | None:
        data = getattr(self.env.unwrapped, "data", None)
        return data if isinstance(data, mujoco.MjData) else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset; an observation that is not finite even now comes back as zeros, with ``info["non_finite"]``."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._history.clear()
        if all_finite(observation):
            self._last_observation = _copy(observation)
            return observation, info
        self._last_observation = _zeros(self.observation_space)
        self._report("the observation after reset")
        return _copy(self._last_observation), {**info, "non_finite": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step; see the class for what happens when something is not finite."""
        data = self._data
        self._remember(data, action)
        reasons = []
        if not all_finite(action):
            reasons.append("the action")
            action = np.zeros_like(action)
        if data is not None:
            for warning in BAD_STATE:
                # MuJoCo's reset clears the counters as well, so that "more than before" would not always be seen.
                data.warning[warning].number = 0
        observation, reward, terminated, truncated, info = self.env.step(action)
        if data is not None:
            bad = [warning.name for warning in BAD_STATE if data.warning[warning].number]
            reasons += [f"MuJoCo's state ({name})" for name in bad]
        if not all_finite(observation):
            reasons.append("the observation")
        if not all_finite(reward):
            reasons.append("the reward")
        if not reasons:
            self._last_observation = _copy(observation)
            return observation, float(reward), terminated, truncated, info

        self._report(", ".join(reasons))
        info = {**info, "non_finite": True}
        if "reward_terms" in info:
            info["reward_terms"] = dict.fromkeys(info["reward_terms"], 0.0)
        if "reward_vector" in info:
            info["reward_vector"] = np.zeros_like(info["reward_vector"])
        if self._last_observation is None:
            self._last_observation = _zeros(self.observation_space)
        return _copy(self._last_observation), 0.0, True, truncated, info

    def _remember(self, data: mujoco.MjData | None, action: Any) -> None:
        if data is None:
            state = {} if isinstance(self._last_observation, dict | tuple) else {"observation": self._last_observation}
        else:
            state = {"qpos": data.qpos.copy(), "qvel": data.qvel.copy()}
        self._history.append({**state, "action": np.array(action)})

    def _about(self) -> Mapping[str, Any]:
        if self._given_about is not None:
            return self._given_about
        spec = self.env.spec
        return {} if spec is None else {"env_id": spec.id, "env_kwargs": dict(spec.kwargs)}

    def _report(self, reason: str) -> None:
        """Log and dump, the first time only."""
        if self._reported:
            return
        self._reported = True
        saved = "no file was asked for"
        if self.dump_path is not None:
            saved = write_dump(self.dump_path, self._about(), list(self._history))
        logger.warning("Not finite: %s; the episode was ended with reward 0 (%s).", reason, saved)
