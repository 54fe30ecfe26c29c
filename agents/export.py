"""From a trained model to a policy bundle (:mod:`cadenza.controllers.bundle`).

The deterministic acting path of Symphony, or of Stable-Baselines3's MlpPolicy actors, becomes one module that maps raw
observations to actions in [-1, 1], with every normaliser inside. It is written as ONNX and safetensors, run by
onnxruntime, and kept only if both give the same actions. Where a part of the observation is for critics only
(:mod:`cadenza.agents.asymmetric`), the bundle's policy reads the rest: its observation is what the robot measures.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from safetensors.torch import save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor, nn

from cadenza.agents.asymmetric import ATTRIBUTE
from cadenza.agents.deployment_facts import legged_facts, with_bounds
from cadenza.controllers.bundle import (
    BUNDLE_FORMAT,
    MANIFEST_FILE,
    ONNX_FILE,
    SKILLS_FILE,
    TENSORS_FILE,
    BundleManifest,
    PolicyBundle,
    file_sha256,
)
from cadenza.controllers.deployment_facts import DeploymentFacts
from cadenza.controllers.shipped import CARD_FILE, CARD_PAGE
from cadenza.envs.errors import CadenzaError
from cadenza.envs.legged.single import LeggedEnv
from cadenza.envs.registration import make_env

PARITY_TOLERANCE = 1e-5
PARITY_SAMPLES = 256
_OPSET = 17
_FILES = {MANIFEST_FILE, ONNX_FILE, TENSORS_FILE, SKILLS_FILE, CARD_FILE, CARD_PAGE}
_RECORDED = ("torch", "stable-baselines3", "sb3-contrib", "onnx", "onnxruntime", "safetensors", "numpy")
_LEARNING_ONLY = ("policy.critic.critics.", "policy.critic.reward_", "policy.critic.za_norm.", "policy.critic_target.")
"""Weights in Symphony's deterministic module that no action depends on."""


class ExportError(CadenzaError):
    """A model or a destination that cannot become a bundle."""


@dataclass(frozen=True)
class ExportReport:
    """What :func:`export_bundle` wrote."""

    path: Path
    parity_error: float
    """Largest difference between torch and ONNX, in units of the scaled action."""
    size_bytes: int


def task_facts(env_id: str, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the task itself says of observation, joints and rate, as arguments of :func:`export_bundle`.

    A policy that is fed another order of joints or terms moves all the same, only not as it should: so the bundle says
    what they were, and nobody has to keep a file of it by hand. For a legged robot that is all it takes to run the
    policy on its motors.
    """
    env = make_env(env_id, pictures=False, **env_kwargs)
    try:
        task = env.unwrapped
        dt = getattr(task, "dt", None)
        return {
            "observation_terms": getattr(task, "observation_names", None),
            "joint_order": getattr(task, "joint_names", None),
            "control_rate_hz": round(1.0 / float(dt), 9) if dt else None,
            "deployment": legged_facts(task) if isinstance(task, LeggedEnv) else None,
        }
    finally:
        env.close()


def export_bundle(
    model: BaseAlgorithm,
    destination: str | Path,
    *,
    env_id: str,
    env_kwargs: dict[str, Any],
    agent: str,
    preset: str | None = None,
    observation_terms: Sequence[str] | None = None,
    joint_order: Sequence[str] | None = None,
    control_rate_hz: float | None = None,
    deployment: DeploymentFacts | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write ``model``'s deterministic policy to the folder ``destination``.

    Args:
        model: Symphony, or SAC, TD3, PPO, TQC, CrossQ and their like with ``MlpPolicy``. A VecNormalize of its
            environment goes into the bundle.
        destination: folder to make; what it holds is complete or absent, never half-written.
        env_id: the environment's registered name.
        env_kwargs: its keyword arguments, as JSON values.
        agent: the algorithm, as the command line names it.
        preset: the algorithm's preset, where it has one.
        observation_terms: names of the parts of what the actor sees, in order. One name an entry of the whole
            observation will do too.
        joint_order: names of the joints that the actions drive, in order.
        control_rate_hz: how often the policy acts.
        deployment: what running it on motors takes. The policy is played in its task, to prove these facts and to learn
            what observations to expect.
        overwrite: replace a bundle that is already there. Anything that is not a bundle is never replaced.

    Raises:
        ExportError: the destination is taken, the model has no exportable policy, or ONNX acts differently.
    """
    destination = Path(os.path.abspath(destination))
    check_destination(destination, overwrite)
    try:
        json.dumps(env_kwargs, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"The env_kwargs {env_kwargs} cannot be written as JSON: {error}.") from error
    observation_space, action_space = _check_spaces(model)
    model.policy.set_training_mode(False)
    module = deterministic_module(model)
    observations = _parity_observations(module, observation_space)
    if observation_terms is not None and len(observation_terms) == spaces.flatdim(model.observation_space):
        observation_terms = observation_terms[: observations.shape[1]]

    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        save_file(acting_state_dict(module), temporary / TENSORS_FILE)
        _write_onnx(module, temporary / ONNX_FILE, observations.shape[1], action_space.low.size)
        parity = _parity_error(module, temporary / ONNX_FILE, observations)
        write_skills: Any = getattr(model, "write_skills", None)
        skills = None if write_skills is None else write_skills(temporary / SKILLS_FILE)
        if skills is not None and observation_terms is not None:
            observation_terms = (*observation_terms, *(f"skill[{i}]" for i in range(skills["skill_size"])))
        manifest = BundleManifest(
            format=BUNDLE_FORMAT,
            cadenza_version=version("cadenza"),
            env_id=env_id,
            env_kwargs=env_kwargs,
            agent=agent,
            preset=preset,
            observation_size=observations.shape[1],
            observation_shape=tuple(observation_space.shape),
            observation_dtype=str(observation_space.dtype),
            action_shape=tuple(action_space.shape),
            action_dtype=str(action_space.dtype),
            action_low=tuple(action_space.low.ravel().tolist()),
            action_high=tuple(action_space.high.ravel().tolist()),
            seed=model.seed,
            num_timesteps=model.num_timesteps,
            observation_terms=None if observation_terms is None else tuple(observation_terms),
            joint_order=None if joint_order is None else tuple(joint_order),
            control_rate_hz=control_rate_hz,
            parity_max_error=parity,
            sha256={file.name: file_sha256(file) for file in sorted(temporary.iterdir())},
            created_with=_versions(),
            skills=skills,
        )
        if deployment is not None:
            manifest = deployable(manifest, deployment, temporary, _normaliser(module, observations.shape[1]))
        (temporary / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        PolicyBundle.load(temporary)  # what the loader would refuse must not be left behind
        size = sum(file.stat().st_size for file in temporary.iterdir())
        move_into_place(temporary, destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportReport(destination, parity, size)


def deployable(
    manifest: BundleManifest,
    facts: DeploymentFacts,
    folder: Path,
    normaliser: tuple[NDArray[Any], NDArray[Any]] | None,
) -> BundleManifest:
    """The manifest with facts that were proven, and bounds, by playing the policy of ``folder`` in its task."""
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    policy = PolicyBundle.load(folder)
    env = make_env(manifest.env_id, pictures=False, **manifest.env_kwargs)
    try:
        task = env.unwrapped
        assert isinstance(task, LeggedEnv)
        return replace(manifest, deployment=with_bounds(facts, task, policy.act, normaliser))
    finally:
        env.close()


def deterministic_module(model: BaseAlgorithm) -> nn.Module:
    """``model``'s noise-free acting path: raw observations (batch, obs) -> actions (batch, actions) in [-1, 1].

    The observations are those of its actor: where a part is for critics only, without that part.

    Raises:
        ExportError: a policy whose acting path is not known.
    """
    policy = model.policy
    if hasattr(policy, "deterministic_module"):
        build: Any = policy.deterministic_module
        module: nn.Module = build()
    elif isinstance(policy, ActorCriticPolicy):
        module = _GaussianActor(policy)
    elif isinstance(policy, TD3Policy):
        module = nn.Sequential(_plain(policy.actor.features_extractor, policy), policy.actor.mu)
    elif all(hasattr(getattr(policy, "actor", None), name) for name in ("latent_pi", "mu", "action_dist")):
        actor: Any = policy.actor
        module = nn.Sequential(_plain(actor.features_extractor, policy), actor.latent_pi, actor.mu, nn.Tanh())
    else:
        raise ExportError(
            f"{type(model).__name__} with {type(policy).__name__} cannot be exported.",
            "Symphony, SAC, TD3, PPO, TQC and CrossQ with MlpPolicy can.",
        )
    normalize = model.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs:
        rms: Any = normalize.obs_rms
        seen = slice(_actor_size(model))
        mean, variance = np.ravel(rms.mean)[seen], np.ravel(rms.var + normalize.epsilon)[seen]
        module = nn.Sequential(_VecNormalize(mean, variance, normalize.clip_obs), module)
    return module.to(policy.device).eval()


def acting_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a :func:`deterministic_module` that its actions depend on, by their torch names, on the CPU."""
    prefixes = tuple(start + prefix for prefix in _LEARNING_ONLY for start in ("", "1."))
    own = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(prefixes)}
    own = {name: tensor for name, tensor in own.items() if not name.endswith("policy.value_trace")}
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in own.items()}


class _GaussianActor(nn.Module):
    """Mean of PPO's (or A2C's) Gaussian, clipped to the action bounds as ``predict`` does, scaled to [-1, 1]."""

    low: Tensor
    high: Tensor

    def __init__(self, policy: ActorCriticPolicy):
        super().__init__()
        space = policy.action_space
        assert isinstance(space, spaces.Box)
        if hasattr(policy, "lstm_actor"):
            raise ExportError("A recurrent policy cannot be exported.", "Train with MlpPolicy.")
        self.squash = policy.squash_output
        self.features = _plain(policy.pi_features_extractor, policy)
        self.net = policy.mlp_extractor.policy_net
        self.action_net = policy.action_net
        self.register_buffer("low", torch.as_tensor(space.low.ravel(), dtype=torch.float32))
        self.register_buffer("high", torch.as_tensor(space.high.ravel(), dtype=torch.float32))

    def forward(self, obs: Tensor) -> Tensor:
        action: Tensor = self.action_net(self.net(self.features(obs)))
        if self.squash:
            return torch.tanh(action)
        return (2.0 * (action - self.low) / (self.high - self.low) - 1.0).clamp(-1.0, 1.0)


class _VecNormalize(nn.Module):
    """clip((obs - mean)/sqrt(variance), +-limit), as Stable-Baselines3's VecNormalize does before the policy."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: NDArray[Any], variance: NDArray[Any], limit: float):
        super().__init__()
        self.limit = limit
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(np.sqrt(variance), dtype=torch.float32))

    def forward(self, obs: Tensor) -> Tensor:
        return ((obs - self.mean) / self.std).clamp(-self.limit, self.limit)


def _plain(extractor: nn.Module, policy: nn.Module) -> nn.Module:
    """The features extractor of an MlpPolicy, which only flattens; of one that cuts too, for what it would keep."""
    if not isinstance(extractor, FlattenExtractor):
        raise ExportError(
            f"{type(policy).__name__} reads through {type(extractor).__name__}, which cannot be exported.",
            "Train with MlpPolicy on an environment with one Box of numbers.",
        )
    return extractor.flatten


def _actor_size(model: BaseAlgorithm) -> int | None:
    size: int | None = getattr(model.policy, ATTRIBUTE, None)
    return size


def _check_spaces(model: BaseAlgorithm) -> tuple[spaces.Box, spaces.Box]:
    """The part of the observation space that the actor sees, and the action space."""
    observation_space, action_space = model.observation_space, model.action_space
    if not (isinstance(observation_space, spaces.Box) and np.issubdtype(observation_space.dtype, np.floating)):
        raise ExportError(
            f"A bundle's policy reads one Box of floats; this one's observation space is {observation_space}.",
            "Wrap the environment in gymnasium.wrappers.FlattenObservation before training.",
        )
    if not (isinstance(action_space, spaces.Box) and action_space.is_bounded("both")):
        raise ExportError(
            f"A bundle's policy gives bounded continuous actions; this one's action space is {action_space}."
        )
    size = _actor_size(model)
    if size is not None:
        low, high = observation_space.low[:size], observation_space.high[:size]
        observation_space = spaces.Box(low, high, dtype=observation_space.dtype.type)
    return observation_space, action_space


def check_destination(destination: Path, overwrite: bool) -> None:
    """Let pass what does not exist, an empty folder and, with ``overwrite``, a folder with a bundle and nothing else.

    Raises:
        ExportError: anything else, which must not be replaced.
    """
    if destination.is_dir():
        found = {entry.name for entry in destination.iterdir()}
        if not found:
            return
        if MANIFEST_FILE in found and found <= _FILES:
            if overwrite:
                return
            raise ExportError(
                f"There is already a policy bundle in {destination}.",
                "Choose another folder, or give --overwrite.",
            )
    if destination.exists() or destination.is_symlink():
        raise ExportError(
            f"{destination} exists and is not a policy bundle; it is left as it is.", "Choose another folder."
        )


def move_into_place(temporary: Path, destination: Path) -> None:
    """Rename ``temporary`` to ``destination``; an old bundle steps aside first and goes last."""
    if not destination.exists():
        os.replace(temporary, destination)
        return
    old = destination.with_name(f".{destination.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    os.replace(destination, old)
    try:
        os.replace(temporary, destination)
    except OSError:
        os.replace(old, destination)
        raise
    shutil.rmtree(old)


def _write_onnx(module: nn.Module, path: Path, observation_size: int, action_size: int) -> None:
    """Trace ``module`` with a free batch axis. The TorchScript exporter needs no package beside torch and onnx."""
    exporter: Any = torch.onnx
    example = torch.zeros(2, observation_size, device=_device(module))
    exporter.register_custom_op_symbolic("aten::rms_norm", _rms_norm_symbolic, _OPSET)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter announces its successor at every call
            exporter.export(
                module,
                (example,),
                str(path),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["observation"],
                output_names=["action"],
                dynamic_axes={"observation": {0: "batch"}, "action": {0: "batch"}},
            )
    finally:
        exporter.unregister_custom_op_symbolic("aten::rms_norm", _OPSET)
    # The tracer loses the width of some outputs; the loader compares it with the manifest.
    graph = onnx.load(path)
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = action_size
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _rms_norm_symbolic(g: Any, x: Any, shape: Any, weight: Any, eps: Any) -> Any:
    """torch.nn.RMSNorm over the last axis, which opset 17 lacks; its default epsilon is that of float32."""
    constant = eps.node()
    epsilon = torch.finfo(torch.float32).eps if constant.mustBeNone() else float(constant.t("value"))
    mean_square = g.op("ReduceMean", g.op("Mul", x, x), axes_i=[-1], keepdims_i=1)
    epsilon_node = g.op("Constant", value_t=torch.tensor(epsilon, dtype=torch.float32))
    normed = g.op("Div", x, g.op("Sqrt", g.op("Add", mean_square, epsilon_node)))
    return g.op("Mul", normed, weight)


def _parity_observations(module: nn.Module, space: spaces.Box) -> NDArray[np.float32]:
    """Observations (samples, obs) to compare on: half of them spread like the environment's, the others wider.

    The spread is that of a normaliser if there is one, else of the space's bounds if finite, else 1.
    """
    rng = np.random.default_rng(0)
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    center, spread = np.zeros(low.size), np.ones(low.size)
    center[bounded] = (high[bounded] + low[bounded]) / 2
    spread[bounded] = (high[bounded] - low[bounded]) / 4
    center, spread = _normaliser(module, low.size) or (center, spread)
    width = np.repeat([1.0, 3.0, 10.0], [PARITY_SAMPLES // 2, PARITY_SAMPLES // 4, PARITY_SAMPLES // 4])[:, None]
    drawn = center + spread * width * rng.standard_normal((PARITY_SAMPLES, low.size))
    return np.clip(drawn, low, high).astype(np.float32)


def _normaliser(module: nn.Module, size: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Mean and standard deviation that the policy reads observations with, (size,) each, if it has a normaliser."""
    for part in module.modules():
        mean = getattr(part, "mean", None)
        if isinstance(mean, Tensor) and mean.numel() == size:
            inverse: Any = getattr(part, "inverse_std", None)
            if inverse is None and not hasattr(part, "std"):
                continue  # a layer that only passes on the mean of the normaliser inside it
            std: Any = part.std if inverse is None else torch.where(inverse > 0, 1 / inverse.clamp_min(1e-6), 1.0)
            return mean.detach().cpu().double().numpy(), std.detach().cpu().double().numpy()
    return None


def _parity_error(module: nn.Module, path: Path, observations: NDArray[np.float32]) -> float:
    """Largest difference between ``module`` and the ONNX file.

    Raises:
        ExportError: above :data:`PARITY_TOLERANCE`, or not a number.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"observation": observations})
    with torch.no_grad():
        expected = module(torch.as_tensor(observations, device=_device(module))).cpu().numpy()
    error = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    if not error < PARITY_TOLERANCE:
        raise ExportError(
            f"The exported policy differs from the trained one by {error:.2g}; {PARITY_TOLERANCE:g} is the limit.",
            "Nothing was written. Weights that are not finite, or grew very large, are the usual cause.",
        )
    return error


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
