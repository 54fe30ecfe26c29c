"""Demonstrations as arrays: the steps that a policy learns from, split by layout."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cadenza.agents.imitation.config import CloningConfig
from cadenza.agents.imitation.features import Described, feature_set
from cadenza.agents.imitation.policy import Batch, Inputs
from cadenza.envs.errors import CadenzaError
from cadenza.envs.names import unknown_name


@dataclass(frozen=True)
class Samples:
    """N steps of demonstrations, episode after episode."""

    observation: dict[str, NDArray[Any]]
    """Key -> (N, size) float32, or (N, H, W, 3) uint8."""
    action: NDArray[np.float32]
    """(N, actions), in [-1, 1]."""
    episode: NDArray[np.int64]
    """Which episode, or unbroken stretch of one, a step is from, (N,)."""
    layout: NDArray[np.int64]
    """Which layout of the world, (N,); a split keeps the steps of one layout together."""

    def __len__(self) -> int:
        return len(self.action)

    def rows(self, which: NDArray[Any]) -> Samples:
        """The steps at the indices, or under the mask, ``which``."""
        picked = {name: array[which] for name, array in self.observation.items()}
        return Samples(picked, self.action[which], self.episode[which], self.layout[which])

    def batch(self, which: NDArray[Any]) -> tuple[Batch, torch.Tensor]:
        """Observations and actions at the indices ``which``, as tensors."""
        batch = {name: torch.from_numpy(array[which]) for name, array in self.observation.items()}
        return batch, torch.from_numpy(self.action[which])

    def episodes(self) -> NDArray[np.int64]:
        """Numbers of the episodes."""
        return np.unique(self.episode)

    def first_episodes(self, count: int, seed: int) -> Samples:
        """``count`` episodes drawn with ``seed``; a larger count holds those of a smaller one."""
        chosen = np.random.default_rng([seed, 3]).permutation(self.episodes())[:count]
        return self.rows(np.isin(self.episode, chosen))

    def split(self, share: float, seed: int) -> tuple[Samples, Samples]:
        """Training and validation; whole layouts are held out, at least one where ``share`` is not 0.

        Raises:
            CadenzaError: there is only one layout to split.
        """
        layouts = np.unique(self.layout)
        if share == 0.0:
            return self, self.rows(np.zeros(0, dtype=np.int64))
        if len(layouts) < 2:
            raise CadenzaError(
                "All demonstrations are of one layout; none can be held out.",
                "Collect more layouts, or set held_out=0.",
            )
        count = min(max(1, round(share * len(layouts))), len(layouts) - 1)
        chosen = np.random.default_rng([seed, 1]).permutation(layouts)[:count]
        held_out = np.isin(self.layout, chosen)
        return self.rows(~held_out), self.rows(held_out)

    def without(self, layouts: NDArray[np.int64]) -> Samples:
        """The steps of all other layouts."""
        return self.rows(np.flatnonzero(~np.isin(self.layout, layouts)))

    def pairs(self) -> NDArray[np.int64]:
        """Indices t for which t + 1 is the next step of the same episode."""
        return np.flatnonzero(self.episode[1:] == self.episode[:-1])

    def joined(self, other: Samples) -> Samples:
        """These and then ``other``'s steps, whose episodes are numbered on."""
        shift = int(self.episode.max()) + 1 if len(self) else 0
        names = self.observation.keys()
        return Samples(
            {name: np.concatenate([self.observation[name], other.observation[name]]) for name in names},
            np.concatenate([self.action, other.action]),
            np.concatenate([self.episode, other.episode + shift]),
            np.concatenate([self.layout, other.layout]),
        )


def batch_rows(count: int, batch_size: int, step: int, seed: int) -> NDArray[np.int64]:
    """Row numbers of update ``step``: each pass over ``count`` rows has an order of its own.

    A function of the step alone, so that a resumed run draws what it would have drawn.
    """
    size = min(batch_size, count)
    passes, place = divmod(step, count // size)
    return _order(count, passes, seed)[place * size : (place + 1) * size]


@lru_cache(maxsize=4)
def _order(count: int, passes: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 2, passes]).permutation(count)


def inputs_of(schema: Any, config: CloningConfig) -> Inputs:
    """What ``config`` reads of demonstrations with ``schema`` (:mod:`cadenza.agents.demos`).

    Raises:
        CadenzaError: the demonstrations lack a key or a part (those that exist are listed).
    """
    features: dict[str, Any] = dict(schema.observation)
    if config.features is not None:
        added = feature_set(config.features)
        features[added.key] = Described((len(added.names),), added.names)
    numbers: dict[str, tuple[int, ...]] = {}
    cameras: dict[str, tuple[int, ...]] = {}
    for name in config.numbers:
        if name not in features or name in schema.cameras:
            vectors = [key for key in features if key not in schema.cameras]
            raise unknown_name("vector of the observation", name, vectors)
        numbers[name] = entries_of(name, features[name], config.parts)
    for name in config.cameras:
        if name not in schema.cameras:
            raise unknown_name("camera of these demonstrations", name, list(schema.cameras))
        cameras[name] = tuple(features[name].shape)
    if config.parts and not any(numbers.values()):
        known = sorted({entry for name in numbers for entry in features[name].names or ()})
        raise CadenzaError(
            f"No entry of the observation belongs to {', '.join(config.parts)}.",
            f"There are: {', '.join(known)}." if known else "These demonstrations do not name their entries.",
        )
    sizes = {name: int(np.prod(features[name].shape)) for name in numbers}
    return Inputs(
        numbers, cameras, int(np.prod(schema.action.shape)), sizes,
        rate_hz=float(schema.rate_hz), env_id=str(schema.env_id), env_settings=dict(schema.env_settings),
    )  # fmt: skip


def entries_of(name: str, feature: Any, parts: Sequence[str]) -> tuple[int, ...]:
    """Indices of the entries of a vector that belong to ``parts``; none: all of them."""
    size = int(np.prod(feature.shape))
    if not parts:
        return tuple(range(size))
    names = [str(entry) for entry in feature.names or ()]
    return tuple(index for index, entry in enumerate(names) if any(_is_part(entry, part) for part in parts))


def _is_part(entry: str, part: str) -> bool:
    return entry == part or (entry.startswith(part) and not entry[len(part)].isalpha())


def load_samples(demos: Any, config: CloningConfig, primitive_names: Sequence[str] = ()) -> tuple[Samples, Inputs]:
    """The steps of a :class:`cadenza.agents.demos.DemoSet` that ``config`` learns from, and what is read of them.

    Episodes that turn out to be damaged are left out; the set lists them afterwards as ``corrupt``.

    Args:
        demos: the set.
        config: which episodes, steps and keys.
        primitive_names: of the numbers in ``Episode.primitive``; needed where ``config.primitive`` is set.

    Raises:
        CadenzaError: unknown keys or primitive, or nothing is left to learn from.
    """
    inputs = inputs_of(demos.schema, config)
    numbers = []
    for name in (config.primitive, config.followed_by):
        if name is not None and name not in primitive_names:
            raise unknown_name("primitive", name, list(primitive_names))
        numbers.append(None if name is None else list(primitive_names).index(name))
    number, next_number = numbers
    kept: dict[str, list[NDArray[Any]]] = {name: [] for name in (*inputs.numbers, *inputs.cameras)}
    actions, stretches, layouts = [], [], []
    stretch = 0
    added = None if config.features is None else feature_set(config.features)
    for episode in demos.read(cameras=tuple(inputs.cameras)):
        info = episode.info
        if config.successes_only and not info.success:
            continue
        mask = np.ones(len(episode.action), dtype=bool)
        if number is not None:
            attempts = episode.extras.get("attempt")
            mask = steps_of(np.asarray(episode.primitive), number, next_number, bool(info.success), attempts)
        if not mask.any():
            continue
        observed = dict(episode.observation)
        if added is not None:
            observed[added.key] = added(observed)
        for name, arrays in kept.items():
            array = np.asarray(observed[name])
            array = array.reshape(len(array), -1) if name in inputs.numbers else array
            arrays.append(array[mask].astype(np.float32 if name in inputs.numbers else np.uint8, copy=False))
        meant = episode.intended if config.intended else episode.action
        actions.append(np.asarray(meant, dtype=np.float32)[mask])
        # A stretch ends where steps were left out.
        steps = np.flatnonzero(mask)
        breaks = np.concatenate([[0], np.cumsum(np.diff(steps) > 1)])
        stretches.append(stretch + breaks)
        stretch += int(breaks[-1]) + 1
        layouts.append(np.full(len(steps), layout_of(info), dtype=np.int64))
    if not actions:
        raise CadenzaError(
            f"None of the {len(demos.episodes)} episodes has steps to learn from"
            + (f"; {len(demos.corrupt)} are damaged." if demos.corrupt else "."),
            "Check primitive= and successes_only=; `cadenza demos inspect` shows what is there.",
        )
    observation = {name: np.concatenate(arrays) for name, arrays in kept.items()}
    samples = Samples(
        observation,
        np.clip(np.concatenate(actions), -1.0, 1.0),
        np.concatenate(stretches).astype(np.int64),
        np.concatenate(layouts),
    )
    return samples, inputs


def everything(config: CloningConfig) -> CloningConfig:
    """``config`` for what lies between two observations: all steps of all episodes, and what was done at each.

    What an expert with noise meant to do did not lead from one observation to the next; what it did, did.
    """
    return replace(config, primitive=None, followed_by=None, successes_only=False, intended=False)


def steps_of(
    ids: NDArray[Any], number: int, next_number: int | None, success: bool, attempts: NDArray[Any] | None = None
) -> NDArray[np.bool_]:
    """Which steps of an episode are of primitive ``number``, (T,).

    Args:
        ids: of the primitive at each step, (T,).
        number: whose steps.
        next_number: only attempts before this primitive, or at the end of a successful episode; None: all attempts.
        success: of the episode.
        attempts: number of the attempt at each step, (T,), where it was recorded; it tells two attempts in a row of one
            primitive apart.
    """
    mask: NDArray[np.bool_] = ids == number
    if next_number is None:
        return mask
    changes = ids[1:] != ids[:-1]
    if attempts is not None:
        changes |= attempts[1:] != attempts[:-1]
    edges = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(ids)]])
    for start, stop in itertools.pairwise(edges):
        mask[start:stop] &= success if stop == len(ids) else ids[stop] == next_number
    return mask


def layout_of(info: Any) -> int:
    """Which layout an episode was played in: what its metadata calls ``layout``, else its seed."""
    found = (info.metadata or {}).get("layout", info.seed)
    return int(found) if isinstance(found, int) else zlib.crc32(str(found).encode())
