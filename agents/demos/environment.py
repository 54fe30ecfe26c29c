"""What recording needs to know of an environment: schema, clock, and whether an episode succeeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cadenza.agents.demos.errors import DemoError
from cadenza.agents.demos.schema import DTYPES, Feature, Schema

ONLY = "state"
"""The key of an observation that is one array."""


def schema_of(env: Any, env_id: str, env_settings: Mapping[str, Any]) -> Schema:
    """The schema of demonstrations in a Gymnasium environment.

    An observation that is one array is called ``state``. Its entries are named where the environment has a
    ``state_layout`` (name -> slice), those of the action where it has ``action_names``. Pictures are what is uint8 of
    shape (height, width, 3).

    Raises:
        DemoError: its spaces or its rate cannot be recorded.
    """
    from gymnasium import spaces

    space = env.observation_space
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {ONLY: space}
    features = {key: _feature(key, part) for key, part in parts.items()}
    layout = getattr(env.unwrapped, "state_layout", None)
    if layout and ONLY in features:
        features[ONLY] = Feature(features[ONLY].dtype, features[ONLY].shape, _names(layout, features[ONLY].size))
    action = _feature("action", env.action_space)
    names = tuple(getattr(env.unwrapped, "action_names", ()))
    if len(names) == action.size:
        action = Feature(action.dtype, action.shape, names)
    cameras = tuple(key for key, feature in features.items() if feature.is_picture)
    return Schema(
        env_id=env_id,
        env_settings=dict(env_settings),
        rate_hz=_rate_hz(env),
        observation=features,
        action=action,
        cameras=cameras,
    )


def _feature(key: str, space: Any) -> Feature:
    from gymnasium import spaces

    if not isinstance(space, spaces.Box) or str(space.dtype) not in DTYPES:
        raise DemoError(f"{key!r} cannot be recorded: it is {space}.", "Recorded are boxes, and dicts of boxes.")
    return Feature(str(space.dtype), tuple(int(side) for side in space.shape))


def _names(layout: Mapping[str, slice], size: int) -> tuple[str, ...] | None:
    names = [""] * size
    for name, part in layout.items():
        numbers = range(size)[part]
        for count, index in enumerate(numbers):
            names[index] = f"{name}.{count}" if len(numbers) > 1 else name
    return tuple(names) if all(names) and len(set(names)) == size else None


def _rate_hz(env: Any) -> float:
    for name in ("control_dt_s", "dt"):
        step_s = getattr(env.unwrapped, name, None)
        if isinstance(step_s, int | float) and step_s > 0:
            return round(1.0 / float(step_s), 9)
    rate = env.metadata.get("render_fps")
    if rate:
        return float(rate)
    raise DemoError("The environment does not say how long a step takes.", "It needs a `dt` [s].")


def as_mapping(observation: Any) -> Mapping[str, Any]:
    """The observation as a schema of :func:`schema_of` has it."""
    return observation if isinstance(observation, Mapping) else {ONLY: observation}


def clock_of(env: Any) -> Callable[[], float]:
    """What tells the time of the world, s: ``env.unwrapped.time_s``, or MuJoCo's ``data.time``.

    Raises:
        DemoError: the environment has neither. Counting steps instead would say nothing of when they were.
    """
    inner = env.unwrapped
    if hasattr(inner, "time_s"):
        return lambda: float(inner.time_s() if callable(inner.time_s) else inner.time_s)
    if hasattr(getattr(inner, "data", None), "time"):
        return lambda: float(inner.data.time)
    raise DemoError(
        "The environment has no clock, and timestamps are measured.",
        "MuJoCo's environments have `data.time`; others need a `time_s` [s].",
    )


def succeeded(expert: Any, info: Mapping[str, Any]) -> bool:
    """Whether an episode was a success: the expert says so, or the last ``info``.

    Raises:
        DemoError: nobody says.
    """
    if callable(getattr(expert, "success", None)):
        return bool(expert.success())
    for name in ("is_success", "success"):
        if name in info:
            return bool(np.all(info[name]))
    raise DemoError(
        "Nobody says whether the episode was a success.", "The expert needs a success(), or info an `is_success`."
    )
