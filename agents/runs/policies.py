"""Open what was trained: a run's best policy, a run's last checkpoint, an exported bundle, or a shipped one."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from cadenza.agents.asymmetric import act_in, actor_observation_size
from cadenza.agents.runs.catalogue import ON_POLICY, build_model
from cadenza.agents.runs.checkpoint import UNREADABLE, CheckpointStore
from cadenza.agents.runs.normalizing import normalized, statistics, take_statistics
from cadenza.agents.runs.settings import CONFIG, RunFolder, write_bytes, write_json
from cadenza.controllers.shipped import locate, naming_advice, shipped_names
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import nearest
from cadenza.envs.registration import make_env

if TYPE_CHECKING:
    from cadenza.agents.slim.player import SkillPlayer
    from cadenza.controllers.bundle import PolicyBundle

Which = Literal["best", "last"]
_WEIGHTS = "policy.pt"
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class OpenedPolicy:
    """A policy ready to act, and the task it was trained on."""

    act: Callable[[NDArray[Any]], NDArray[Any]]
    """Observation -> noise-free action in the environment's action space. A bundle's wants what the actor may see, a
    model's the whole observation: :func:`act_on` gives either what it wants."""
    env_id: str
    env_kwargs: dict[str, Any]
    label: str
    """Agent, and steps trained."""
    step: int
    model: BaseAlgorithm | None
    """None for a bundle."""
    bundle: PolicyBundle | None = None
    """None for a model."""
    skills: SkillPlayer | None = None
    """The skills that the policy plays; None where it has none."""


def act_of(model: BaseAlgorithm) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The model's noise-free action for one observation, as the environment gives it."""
    normalizer = model.get_vec_normalize_env()
    if normalizer is None:
        return lambda observation: model.predict(_as_arrays(observation), deterministic=True)[0]
    scaled = normalizer.normalize_obs
    return lambda observation: model.predict(scaled(np.asarray(observation)), deterministic=True)[0]


def _as_arrays(observation: Any) -> Any:
    """An observation that is a dictionary stays one."""
    if isinstance(observation, dict):
        return {name: np.asarray(part) for name, part in observation.items()}
    return np.asarray(observation)


def staged(player: BaseAlgorithm | SkillPlayer | None, env: Any) -> Any:
    """``env`` as the policy sees it: agents with skills put one into the observation, for others it stays as it is."""
    stage = getattr(player, "stage", None)
    return env if stage is None else stage(env)


def save_policy(model: BaseAlgorithm, folder: Path, record: dict[str, Any]) -> None:
    """Store the policy's weights and normaliser (no optimiser) and the evaluation that earned them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = io.BytesIO()
    torch.save({**model.policy.state_dict(), **statistics(model)}, tensors)
    write_bytes(folder / _WEIGHTS, tensors.getbuffer())
    write_json(folder / EVALUATION, record)


def open_policy(path: str | Path, which: Which = "best", device: str = "cpu") -> OpenedPolicy:
    """Open a run folder, a bundle folder, or a shipped policy by its name; a path that exists comes first.

    Raises:
        CadenzaError: none of these, nothing stored yet, damaged or mismatching files.
    """
    asked = str(path)
    path, shipped = locate(path)
    if (path / "manifest.json").is_file():
        from cadenza.controllers.bundle import PolicyBundle  # training must not need onnxruntime

        bundle = PolicyBundle.load(path)
        manifest = bundle.manifest
        label = f"{shipped or manifest.agent}, {manifest.num_timesteps:,} steps"
        skills: SkillPlayer | None = None
        if manifest.skills is not None:
            from cadenza.agents.slim.skill_bundle import SkillBundle

            skills = SkillBundle(bundle)
        return OpenedPolicy(
            bundle.act, manifest.env_id, manifest.env_kwargs, label, manifest.num_timesteps, None, bundle, skills
        )
    if not (path / CONFIG).is_file():
        near = nearest(asked, shipped_names())
        raise CadenzaError(
            f"{path} is neither a run nor a policy bundle.",
            (f"Did you mean {', '.join(near)}?\n" if near else "")
            + "A run has config.json (`cadenza train` makes one), a bundle manifest.json (`cadenza export`).\n"
            + naming_advice(asked),
        )
    return _open_run(RunFolder(path), which, device)


def _open_run(folder: RunFolder, which: Which, device: str) -> OpenedPolicy:
    settings = folder.read_settings()
    make = partial(make_env, settings.env_id, **settings.env_kwargs)
    env: Any = normalized(DummyVecEnv([make]), settings) if settings.normalize else make()
    try:
        small: dict[str, Any] = {"device": device}
        if settings.agent not in ON_POLICY:
            small["buffer_size"] = 1
        if settings.agent == "symphony":
            small["learning_starts"] = 1
        with warnings.catch_warnings():
            # One environment's rollouts are smaller than a minibatch of training; nobody trains here.
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size", category=UserWarning)
            model = build_model(settings, env, **small)
    finally:
        env.close()
    best = folder.best / _WEIGHTS
    skills: Any = model if hasattr(model, "stage") else None
    # A return of skills is as phi saw it that day: evaluations of different days have no best.
    if which == "best" and skills is None and best.is_file():
        step = _load_best(model, best, device)
    else:
        store = CheckpointStore(folder.checkpoints)
        manifest = store.latest()
        try:
            weights = take_statistics(model, store.read_parameters(manifest, device))
            model.set_parameters(weights, exact_match=True, device=device)
        except UNREADABLE as error:
            raise _mismatch(folder.checkpoints, error) from error
        step = int(manifest["step"])
    model.policy.set_training_mode(False)
    model.num_timesteps = step
    name = settings.agent if settings.preset is None else f"{settings.agent} {settings.preset}"
    label = f"{name}, {step:,} steps"
    return OpenedPolicy(act_of(model), settings.env_id, settings.env_kwargs, label, step, model, skills=skills)


def _load_best(model: BaseAlgorithm, weights: Path, device: str) -> int:
    """Load the weights; the step of the evaluation that earned them."""
    try:
        tensors = torch.load(weights, map_location=device, weights_only=True)
        model.policy.load_state_dict(take_statistics(model, tensors))
        return int(json.loads((weights.parent / EVALUATION).read_text())["step"])
    except (*UNREADABLE, AttributeError, TypeError) as error:
        raise _mismatch(weights, error) from error


def _mismatch(place: Path, error: Exception) -> CadenzaError:
    first = str(error).strip().splitlines()
    return CadenzaError(
        f"{place} does not fit the run's config.json, or is damaged: {' '.join(line.strip() for line in first[:2])}",
        "Try --which last (or best); files of different runs must not be mixed.",
    )


def act_on(policy: OpenedPolicy, env: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """``policy.act`` for the whole observations of ``env``: a bundle gets of them what the actor may see.

    Raises:
        CadenzaError: a bundle that reads something else than the actor sees in ``env``.
    """
    return policy.act if policy.bundle is None else act_in(policy.bundle, env)


def check_fits(policy: OpenedPolicy, env: Any, env_id: str) -> None:
    """Raise CadenzaError where ``env`` has other spaces than the policy was trained on, or another part is hidden.

    Of a bundle the observations are :func:`act_on`'s to check: what is hidden from it may be missing altogether.
    """
    trained = make_env(policy.env_id, **policy.env_kwargs)
    try:
        for kind in ("action_space",) if policy.bundle else ("observation_space", "action_space"):
            ours, theirs = getattr(trained, kind), getattr(env, kind)
            if ours.shape != theirs.shape:
                raise CadenzaError(
                    f"The policy was trained on {policy.env_id}, whose {kind.replace('_', ' ')} has the shape "
                    f"{ours.shape}; {env_id} has {theirs.shape}.",
                    "Choose an environment with the same spaces.",
                )
        before, here = actor_observation_size(trained), actor_observation_size(env)
        if before != here and policy.bundle is None:
            whole = env.observation_space.shape[0]
            raise CadenzaError(
                f"The actor of {policy.env_id}, on which the policy was trained, sees {before or whole} of {whole} "
                f"entries of the observation; that of {env_id} sees {here or whole}.",
                "Choose an environment whose actor sees the same.",
            )
    finally:
        trained.close()
