"""Export to Minari, the Farama Foundation's format of offline data sets, through its own package (HDF5)."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cadenza.agents.demos.dataset import DemoSet, Episode
from cadenza.agents.demos.environment import ONLY
from cadenza.agents.demos.errors import DemoError, needs
from cadenza.agents.demos.schema import Feature

ROOT = "MINARI_DATASETS_PATH"
"""The variable by which Minari finds data sets."""


def export_minari(
    demos: DemoSet,
    folder: Path,
    name: str,
    *,
    successes_only: bool = False,
    watch: Callable[[int, int], None] = lambda *_: None,
) -> Path:
    """Write a set as a Minari data set. Pictures stay lossless.

    Observations are a dict, of one vector alone that vector. ``infos`` of each episode hold ``timestamp_s``,
    ``primitive`` and ``success`` of each step. The set names the environment it is of where Gymnasium knows it.

    Args:
        demos: the set; its episodes must have a final observation, as those of ``cadenza demos collect`` have.
        folder: where Minari keeps data sets (:data:`ROOT`); made.
        name: the data set's id, e.g. ``cadenza/cable-v0``.
        successes_only: leave out episodes that failed.
        watch: is told how many episodes are done, of how many.

    Returns:
        The data set's own folder.

    Raises:
        DemoError: nothing to export, a name that Minari does not take, one that is there already, or h5py or minari is
            not installed.
    """
    needs("h5py")
    minari = needs("minari")
    chosen = [info.index for info in demos.episodes if info.success or not successes_only]
    if not chosen:
        raise DemoError(f"{demos.folder} has no {'successful ' if successes_only else ''}episode to export.")
    place = folder / name
    if place.exists():
        raise DemoError(f"{place} exists already; nothing was changed.", "Choose another --name or --out.")
    buffers = needs("minari.data_collector.episode_buffer")

    def episodes() -> Iterator[Any]:
        for done, index in enumerate(chosen):
            yield _buffer(buffers, demos.load(index))
            watch(done + 1, len(chosen))

    observation = {key: _box(feature) for key, feature in demos.schema.observation.items()}
    from gymnasium import spaces

    done = False
    try:
        with _datasets_in(folder), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is set to None|env_spec is None", category=UserWarning)
            minari.create_dataset_from_buffers(
                dataset_id=name,
                buffer=episodes(),
                env=_spec(demos.schema.env_id, demos.schema.env_settings),
                observation_space=observation[ONLY] if list(observation) == [ONLY] else spaces.Dict(observation),
                action_space=_box(demos.schema.action),
                algorithm_name=str(demos.load(chosen[0], cameras=()).info.metadata.get("expert", "")),
                description=demos.description or None,
                data_format="hdf5",
                jpeg_encoding=False,
            )
        done = True
    except (ValueError, TypeError) as error:
        raise DemoError(
            f"Minari does not take the data set {name!r}: {error}", "Names look like cadenza/cable-v0."
        ) from (error)
    finally:
        if not done:
            shutil.rmtree(place, ignore_errors=True)
    return place


@contextlib.contextmanager
def _datasets_in(folder: Path) -> Iterator[None]:
    """Minari takes the place of its data sets from the environment alone."""
    folder.mkdir(parents=True, exist_ok=True)
    before = os.environ.get(ROOT)
    os.environ[ROOT] = str(folder.resolve())
    try:
        yield
    finally:
        if before is None:
            del os.environ[ROOT]
        else:
            os.environ[ROOT] = before


def _spec(env_id: str, settings: Any) -> Any:
    """Gymnasium's specification, with the settings in it; None for what Gymnasium does not know, e.g. a robot."""
    import gymnasium as gym

    from cadenza.envs.registration import register_environments

    register_environments()
    if env_id not in gym.registry:
        return None
    spec = copy.deepcopy(gym.spec(env_id))  # it is the registry's own
    spec.kwargs = {**spec.kwargs, **settings}
    return spec


def _box(feature: Feature) -> Any:
    from gymnasium import spaces

    dtype = np.dtype(feature.dtype)
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, feature.shape, dtype)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return spaces.Box(low, high, feature.shape, np.int8 if dtype.kind == "b" else dtype)


def _buffer(buffers: Any, episode: Episode) -> Any:
    info, last = episode.info, episode.final_observation
    if last is None:
        raise DemoError(
            f"Episode {info.index} has no observation after its last step, which Minari asks for.",
            "Give finish() a final_observation when recording.",
        )
    observation = {key: np.concatenate([values, last[key][None]]) for key, values in episode.observation.items()}
    observation = {key: array.astype(np.int8) if array.dtype == bool else array for key, array in observation.items()}
    truncated = episode.truncated.copy()
    if not (episode.terminated[-1] or truncated[-1]):
        truncated[-1] = True  # cut off by whoever recorded; Minari's episodes end with one of the two
    return buffers.EpisodeBuffer(
        seed=info.seed,
        observations=observation[ONLY] if list(observation) == [ONLY] else observation,
        actions=episode.action,
        rewards=episode.reward.tolist(),
        terminations=episode.terminated.tolist(),
        truncations=truncated.tolist(),
        infos={
            "timestamp_s": _after(episode.timestamp_s),
            "primitive": _after(episode.primitive),
            "success": np.full(info.length + 1, info.success),
        },
    )


def _after(values: Any) -> Any:
    """Minari has an info for the reset and one after each step: of the last there is nothing new."""
    return np.concatenate([values, values[-1:]])
