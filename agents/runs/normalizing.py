"""Stable-Baselines3's VecNormalize as a part of the policy: stored, restored and applied with its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from cadenza.agents.runs.settings import RunSettings
from cadenza.envs.errors import CadenzaError

_PREFIX = "vec_normalize."


def normalized(envs: VecEnv, settings: RunSettings) -> VecNormalize:
    """Observations by running mean and deviation, rewards by the deviation of the discounted return.

    The discount is the algorithm's own, as rl-baselines3-zoo sets it (``rl_zoo3/exp_manager.py``).

    Raises:
        CadenzaError: observations that are not a Box of numbers.
    """
    try:
        return VecNormalize(envs, gamma=settings.overrides.get("gamma", 0.99))
    except ValueError as error:
        raise CadenzaError(f"The observations of {settings.env_id} cannot be normalised: {error}") from error


def statistics(model: BaseAlgorithm) -> dict[str, torch.Tensor]:
    """What the model's VecNormalize has learned, named as no weight is; empty where it has none.

    Mean and variance of the observations (float64, shape of one observation) and of the discounted return (float64
    scalars), their counts, and the discounted return of each environment's episode so far.
    """
    layer = model.get_vec_normalize_env()
    if layer is None:
        return {}
    arrays: dict[str, Any] = {"returns": layer.returns}
    for name, moments in _moments(layer).items():
        arrays |= {f"{name}.mean": moments.mean, f"{name}.var": moments.var, f"{name}.count": moments.count}
    return {_PREFIX + name: torch.from_numpy(np.array(value, dtype=np.float64)) for name, value in arrays.items()}


def take_statistics(model: BaseAlgorithm, tensors: dict[str, Any]) -> dict[str, Any]:
    """Put :func:`statistics` back into the model's VecNormalize; what is left of ``tensors`` are weights.

    Raises:
        CadenzaError: there are statistics but no VecNormalize, or the other way about.
    """
    weights = {name: value for name, value in tensors.items() if not name.startswith(_PREFIX)}
    stored = {name.removeprefix(_PREFIX): v.cpu().numpy() for name, v in tensors.items() if name not in weights}
    layer = model.get_vec_normalize_env()
    if bool(stored) != (layer is not None):
        raise CadenzaError("The weights and config.json disagree on whether observations are normalised.")
    if layer is not None:
        if len(stored["returns"]) == layer.num_envs:  # an opened policy has one environment, however many trained it
            layer.returns = stored["returns"].copy()
        for name, moments in _moments(layer).items():
            if stored[f"{name}.mean"].shape != np.shape(moments.mean):
                raise CadenzaError(f"The stored {name} of the normaliser fits another environment.")
            moments.mean, moments.var = stored[f"{name}.mean"].copy(), stored[f"{name}.var"].copy()
            moments.count = float(stored[f"{name}.count"])
    return weights


def _moments(layer: VecNormalize) -> dict[str, RunningMeanStd]:
    observation: Any = layer.obs_rms  # one, not a dict of them: build_model refuses all observations but a Box
    return {"observation": observation, "return": layer.ret_rms}
