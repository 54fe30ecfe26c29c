"""A policy learned from demonstrations: normaliser, encoders and head in one module, saved as plain data.

``policy.safetensors`` holds the weights, ``policy.json`` what the policy reads and what it was made from. It acts as a
Stable-Baselines3 policy does: ``action, state = policy.predict(observation)``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cadenza.agents.imitation.augmentation import augmented
from cadenza.agents.imitation.config import CloningConfig, config_from
from cadenza.agents.imitation.described_weights import UNREADABLE, WeightFiles
from cadenza.agents.imitation.features import FeatureSet, feature_set
from cadenza.agents.imitation.networks import Normaliser, layers, make_encoder
from cadenza.envs.errors import CadenzaError

FORMAT = "cadenza-imitation-1"
WEIGHTS, DESCRIPTION = "policy.safetensors", "policy.json"
FILES = WeightFiles(WEIGHTS, DESCRIPTION, FORMAT)
Batch = dict[str, Tensor]
"""Observation key -> (N, size) float32, or (N, H, W, 3) uint8 for pictures."""


@dataclass(frozen=True)
class Inputs:
    """What of the observation a policy reads, and how many numbers its action has."""

    numbers: Mapping[str, tuple[int, ...]]
    """Key of a vector -> the entries that are read."""
    cameras: Mapping[str, tuple[int, ...]]
    """Key of a picture -> its shape, (H, W, 3)."""
    actions: int
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Key of a vector -> how many entries it has altogether."""
    rate_hz: float | None = None
    """Of control, in the demonstrations; None where nobody knows (policies saved by older versions)."""
    env_id: str | None = None
    """Of the demonstrations' environment; None: not known."""
    env_settings: Mapping[str, Any] = field(default_factory=dict)
    """Of that environment: which cameras, among others."""

    @property
    def number_count(self) -> int:
        """Of all vectors together, those that are read."""
        return sum(len(entries) for entries in self.numbers.values())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From JSON."""
        return cls(
            numbers={name: tuple(entries) for name, entries in data["numbers"].items()},
            cameras={name: tuple(shape) for name, shape in data["cameras"].items()},
            actions=int(data["actions"]),
            sizes={name: int(size) for name, size in data["sizes"].items()},
            rate_hz=None if data.get("rate_hz") is None else float(data["rate_hz"]),
            env_id=data.get("env_id"),
            env_settings=dict(data.get("env_settings") or {}),
        )

    def differences(self, other: Inputs) -> list[str]:
        """In words, in what ``other``, named second, differs; what one of them does not know is not compared."""
        found = []
        if self.env_id and other.env_id and self.env_id != other.env_id:
            found.append(f"environment: {self.env_id} against {other.env_id}")
        if self.rate_hz and other.rate_hz and not math.isclose(self.rate_hz, other.rate_hz, rel_tol=1e-6):
            found.append(f"rate: {self.rate_hz:g} Hz against {other.rate_hz:g} Hz")
        if self.actions != other.actions:
            found.append(f"action: {self.actions} numbers against {other.actions}")
        for name in dict.fromkeys([*self.numbers, *other.numbers]):
            mine, theirs = (f"{one.sizes[name]} numbers" if name in one.numbers else "none" for one in (self, other))
            if mine != theirs:
                found.append(f"vector {name!r}: {mine} against {theirs}")
            elif self.numbers[name] != other.numbers[name]:
                found.append(f"vector {name!r}: other entries of it are read")
        for name in dict.fromkeys([*self.cameras, *other.cameras]):
            seen = self.cameras.get(name), other.cameras.get(name)
            if seen[0] != seen[1]:
                found.append(f"camera {name!r}: {' against '.join(str(shape or 'none') for shape in seen)}")
        return found

    def check(self, observation: Mapping[str, Any]) -> None:
        """Raise CadenzaError where ``observation``, a single one or a batch, is not what is read."""
        for name in (*self.numbers, *self.cameras):
            if name not in observation:
                raise CadenzaError(
                    f"The policy reads {name!r}, which the observation lacks; it has {', '.join(observation)}.",
                    "Make the environment with the settings of the demonstrations, cameras included.",
                )
            expected = (self.sizes[name],) if name in self.numbers else self.cameras[name]
            shape = np.shape(observation[name])
            if shape[-len(expected) :] != expected:
                raise CadenzaError(f"The policy reads {name!r} of shape {expected}; here it is {shape}.")


class ImitationPolicy(nn.Module):
    """A tanh-Gaussian policy.

    Args:
        inputs: what it reads.
        config: its networks.
        seed: of the weights; the global generator is left as it was.
    """

    def __init__(self, inputs: Inputs, config: CloningConfig, seed: int = 0):
        super().__init__()
        self.inputs, self.config = inputs, config
        self._features = None if config.features is None else feature_set(config.features)
        self.facts: dict[str, Any] = {}
        """What it was made from; goes into ``policy.json``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.normaliser = Normaliser(inputs.number_count)
            encoders = {_plain(name): make_encoder(config.encoder) for name in inputs.cameras}
            self.encoders = nn.ModuleDict(encoders)
            self.embedding_size = inputs.number_count + sum(encoder.size for encoder in encoders.values())
            self.trunk = layers([self.embedding_size, *config.hidden])
            self.head = nn.Linear(config.hidden[-1], 2 * inputs.actions)
        for name, entries in inputs.numbers.items():
            self.register_buffer(_entries(name), torch.tensor(entries, dtype=torch.long), persistent=False)
        self._generator = torch.Generator().manual_seed(seed)

    # ------------------------------------------------------------------ networks

    def picked(self, batch: Batch) -> Tensor:
        """The numbers that are read, as they are, (N, number_count)."""
        parts = [batch[name][:, getattr(self, _entries(name))] for name in self.inputs.numbers]
        return torch.cat(parts, 1) if parts else torch.zeros(len(next(iter(batch.values()))), 0)

    def embed(self, batch: Batch, augmentation: torch.Generator | None = None) -> Tensor:
        """What encoders make of the observation, (N, embedding_size): normalised numbers, then a part per camera.

        Args:
            batch: observations.
            augmentation: draws jitter, shifts and tints; None: numbers and pictures as they are.
        """
        numbers = self.normaliser(self.picked(batch))
        if augmentation is not None and self.config.jitter:
            numbers = numbers + self.config.jitter * torch.randn(numbers.shape, generator=augmentation)
        parts = [numbers]
        for name in self.inputs.cameras:
            pictures = batch[name].permute(0, 3, 1, 2).float() / 255.0
            if augmentation is not None and self.config.augment:
                pictures = augmented(pictures, augmentation)
            parts.append(self.encoders[_plain(name)](pictures))
        return torch.cat(parts, 1)

    def distribution(self, batch: Batch, augmentation: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before tanh, (N, actions) each."""
        return self.split(self.head(self.trunk(self.embed(batch, augmentation))))

    def split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """The head's output as mean and bounded log standard deviation."""
        mean, free = out.chunk(2, dim=-1)
        low, high = self.config.log_std_bounds
        return mean, low + 0.5 * (high - low) * (1.0 + torch.tanh(free))

    # ------------------------------------------------------------------ acting

    def to_batch(self, observation: Any) -> tuple[Batch, bool]:
        """An observation, or a batch of them, as tensors, and whether it was a single one.

        Raises:
            CadenzaError: it lacks what the policy reads, or has it in another shape.
        """
        if not isinstance(observation, Mapping):
            observation = {next(iter(self.inputs.numbers)): observation}
        if self._features is not None:
            observation = self._featured(observation, self._features)
        self.inputs.check(observation)
        batch: Batch = {}
        single = True
        for name in self.inputs.numbers:
            array = np.asarray(observation[name], dtype=np.float32)
            single = array.ndim == 1
            batch[name] = torch.from_numpy(np.atleast_2d(array))
        for name in self.inputs.cameras:
            array = np.ascontiguousarray(observation[name])
            single = array.ndim == 3
            batch[name] = torch.from_numpy(array[None] if single else array)
        return batch, single

    def _featured(self, observation: Mapping[str, Any], features: FeatureSet) -> dict[str, Any]:
        """The observation, single or a batch, with the features beside it."""
        single = all(
            np.ndim(value) == (3 if np.asarray(value).dtype == np.uint8 else 1) for value in observation.values()
        )
        rows = {name: np.asarray(value)[None] if single else np.asarray(value) for name, value in observation.items()}
        try:
            found = features(rows)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in observation.items())
            raise CadenzaError(
                f"The features {self.config.features!r} cannot be computed from this observation: {shapes}.",
                "Make the environment with the settings of the demonstrations.",
            ) from error
        return {**observation, features.key: found[0] if single else found}

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.float32], Any]:
        """Action in [-1, 1], float32, (actions,) or (N, actions), and ``state``, as Stable-Baselines3 has it.

        Args:
            observation: a dict of arrays, or one array where the policy reads a single vector.
            state: handed back; this policy remembers nothing.
            episode_start: not used.
            deterministic: tanh of the mean; else a sample, from a generator of the policy's own.
        """
        batch, single = self.to_batch(observation)
        mean, log_std = self.distribution(batch)
        if not deterministic:
            mean = mean + log_std.exp() * torch.randn(mean.shape, generator=self._generator)
        action = torch.tanh(mean).numpy().astype(np.float32)
        return (action[0] if single else action), state

    def seed(self, seed: int) -> None:
        """Of the samples of :meth:`predict`."""
        self._generator.manual_seed(seed)

    # ------------------------------------------------------------------ files

    def save(self, folder: str | Path) -> Path:
        """Write the policy into ``folder``, weights first; the description names their sha256."""
        folder = Path(folder)
        facts = {"inputs": dataclasses.asdict(self.inputs), "config": self.config.to_dict(), "facts": self.facts}
        FILES.write(folder, self.state_dict(), facts)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open the policy in ``folder``, or of the run in ``folder``.

        Raises:
            CadenzaError: there is none, or its files are damaged or of another format.
        """
        folder = Path(folder)
        if not (folder / DESCRIPTION).is_file() and (folder / "policy" / DESCRIPTION).is_file():
            folder = folder / "policy"
        if not (folder / DESCRIPTION).is_file():
            raise CadenzaError(
                f"{folder} holds no imitation policy: there is no {DESCRIPTION} in it.",
                "`cadenza imitate bc DEMOS --run RUN` makes one in RUN/policy.",
            )
        try:
            description, weights = FILES.read(folder)
            config = config_from(CloningConfig, description["config"])
            policy = cls(Inputs.from_dict(description["inputs"]), config)
            policy.load_state_dict(weights)
            policy.facts = description["facts"]
        except UNREADABLE as error:
            raise CadenzaError(f"The policy in {folder} cannot be read: {error}.", "Copy or train it again.") from error
        return policy.eval()


def _plain(name: str) -> str:
    """An observation key as the name of a module, which must not have dots."""
    return name.replace(".", "_")


def _entries(name: str) -> str:
    return f"entries_{_plain(name)}"
