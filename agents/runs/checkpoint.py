"""Checkpoints: everything a bit-exact continuation needs, stored so that a kill at any moment leaves a loadable one.

A checkpoint is a manifest ``checkpoint-<step>.json`` that names its files with size and CRC-32. All files are written
and synced first, the manifest is renamed into place last, and the one before it stays until the next. The replay buffer
is stored in segments: each checkpoint adds what changed since the last, and segments that later ones cover are deleted.
Nothing is pickled: tensors load with ``weights_only``, arrays without objects, the rest is JSON.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import pickle
import random
import re
import zlib
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.save_util import recursive_getattr

from cadenza.agents.runs.normalizing import statistics, take_statistics
from cadenza.agents.runs.settings import write_bytes, write_json
from cadenza.envs.errors import CadenzaError
from cadenza.envs.state import (
    decode_plain,
    encode_plain,
    flatten_state,
    get_env_state,
    set_env_state,
    unflatten_state,
)

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import DummyVecEnv

_log = logging.getLogger(__name__)
_MANIFEST = re.compile(r"checkpoint-(\d+)\.json$")
_KEEP = 2
UNREADABLE = (RuntimeError, ValueError, KeyError, EOFError, OSError, pickle.UnpicklingError)
"""What torch and Stable-Baselines3 raise for weights that are damaged, forged or of another network."""
_COUNTERS = ("num_timesteps", "_episode_num", "_n_updates", "_current_progress_remaining")


class Replay(Protocol):
    """What a replay buffer must offer to be stored in segments (see FadingReplayBuffer)."""

    def storage(self) -> dict[str, NDArray[Any]]: ...
    def mark(self) -> int: ...
    def dirty_slots_since(self, mark: int) -> list[tuple[int, int]]: ...
    def get_extra_state(self) -> dict[str, Any]: ...
    def set_extra_state(self, state: dict[str, Any]) -> None: ...


class RingReplay:
    """Stable-Baselines3's ReplayBuffer as a :class:`Replay`; its slots hold one step of all environments."""

    def __init__(self, model: Any):
        self._model, self._buffer = model, model.replay_buffer

    def storage(self) -> dict[str, NDArray[Any]]:
        names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
        return {name: getattr(self._buffer, name) for name in names}

    def mark(self) -> int:
        return int(self._model.num_timesteps // self._model.n_envs)

    def dirty_slots_since(self, mark: int) -> list[tuple[int, int]]:
        size, pos = self._buffer.buffer_size, self._buffer.pos
        count = min(self.mark() - mark, size)
        ranges = [(pos - count, pos)] if count <= pos else [(0, pos), (size - (count - pos), size)]
        return [(start, stop) for start, stop in ranges if stop > start]

    def get_extra_state(self) -> dict[str, Any]:
        return {"pos": self._buffer.pos, "full": self._buffer.full}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._buffer.pos, self._buffer.full = int(state["pos"]), bool(state["full"])


class HindsightReplay(RingReplay):
    """Stable-Baselines3's HerReplayBuffer: observations in parts, and where in the ring each slot's episode lies.

    The length of an episode is written into all its slots when it ends, and taken out of those that are left of an old
    one when its first is overwritten. So what changed reaches an episode's length beyond the new slots, both ways.
    """

    def storage(self) -> dict[str, NDArray[Any]]:
        buffer = self._buffer
        names = ("actions", "rewards", "dones", "timeouts", "ep_start", "ep_length")
        parts = {f"{kind}.{name}": array for kind in ("observations", "next_observations")
                 for name, array in getattr(buffer, kind).items()}  # fmt: skip
        return {**parts, **{name: getattr(buffer, name) for name in names}}

    def dirty_slots_since(self, mark: int) -> list[tuple[int, int]]:
        buffer = self._buffer
        size, count = buffer.buffer_size, self.mark() - mark
        if not count:
            return []
        open_steps = (buffer.pos - buffer._current_ep_start) % size
        longest = int(max(buffer.ep_length.max(), open_steps.max()))
        start, stop = buffer.pos - count - longest, buffer.pos + (longest if buffer.full else 0)
        if stop - start >= size:
            return [(0, size)]
        if not buffer.full:
            return [(max(start, 0), stop)]
        if start < 0:
            return [(0, stop), (start + size, size)]
        return [(start, stop)] if stop <= size else [(0, stop - size), (start, size)]

    def get_extra_state(self) -> dict[str, Any]:
        return {**super().get_extra_state(), "ep_start": self._buffer._current_ep_start.tolist()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self._buffer._current_ep_start[:] = state["ep_start"]


def replay_of(model: Any) -> Replay | None:
    """The model's replay buffer as a :class:`Replay`; None for on-policy algorithms."""
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    if hasattr(buffer, "ep_length"):
        return HindsightReplay(model)
    return buffer if hasattr(buffer, "dirty_slots_since") else RingReplay(model)


class CheckpointStore:
    """Writes and reads the checkpoints of one run folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._mark = 0
        self._segments: list[dict[str, Any]] = []
        self._kept: list[set[str]] = []
        """Files of the checkpoints to keep, by checkpoint, newest last."""

    # ------------------------------------------------------------------ writing

    def save(self, model: BaseAlgorithm, extra: dict[str, Any]) -> Path:
        """Store the model, its environments, generators, replay buffer and ``extra`` (JSON-able).

        Raises:
            CadenzaError: the disk is full or the folder not writable; the last checkpoint is still whole.
        """
        try:
            return self._save(model, extra)
        except OSError as error:
            with suppress(OSError):
                self._clean()  # what was written of it would take the room that the next one needs
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            reason = "the disk is full" if full else f"{error.strerror or error}"
            raise CadenzaError(
                f"The checkpoint at step {model.num_timesteps} was not stored: {reason}.",
                f"The one before it in {self.folder} is whole. Make room; the next is tried in time.",
            ) from error

    def _save(self, model: BaseAlgorithm, extra: dict[str, Any]) -> Path:
        step = model.num_timesteps
        files: dict[str, dict[str, int]] = {}

        def store(name: str, data: memoryview) -> None:
            write_bytes(self.folder / name, data)
            files[name] = {"bytes": data.nbytes, "crc32": zlib.crc32(data)}

        tensors = io.BytesIO()
        torch.save({**model.get_parameters(), **statistics(model)}, tensors)
        store(f"weights-{step:09d}.pt", tensors.getbuffer())
        tree, arrays = flatten_state(_model_state(model))
        store(f"state-{step:09d}.npz", _npz({"tree": _text(tree), **arrays}))
        segments, mark, replay_state = list(self._segments), self._mark, None
        replay = replay_of(model)
        if replay is not None:
            replay_state = replay.get_extra_state()
            ranges = replay.dirty_slots_since(self._mark)
            if ranges:
                name = f"replay-{step:09d}.npz"
                store(name, _npz(_rows(replay, ranges)))
                segments = _without_covered([*segments, {"name": name, "ranges": ranges, **files[name]}])
            mark = replay.mark()
        manifest = {"step": step, "files": files, "segments": segments, "replay": replay_state, "extra": extra}
        path = self.folder / f"checkpoint-{step:09d}.json"
        write_json(path, manifest)
        self._segments, self._mark = segments, mark
        self._kept = [*self._kept, _names(manifest)][-_KEEP:]
        with suppress(OSError):
            self._clean()
        return path

    def _clean(self) -> None:
        """Delete all files but those of the newest two checkpoints that this store wrote or restored."""
        needed = set().union(*self._kept)
        for path in self.folder.iterdir():
            if path.name not in needed and path.is_file():
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ reading

    def _manifests(self) -> list[Path]:
        found = [path for path in self.folder.glob("checkpoint-*.json") if _MANIFEST.search(path.name)]
        return sorted(found, reverse=True)

    def latest(self) -> dict[str, Any]:
        """The newest manifest whose files are all whole; a damaged newer one is passed over with a warning.

        Raises:
            CadenzaError: there is none.
        """
        damage = []
        for path in self._manifests():
            try:
                manifest: dict[str, Any] = json.loads(path.read_text())
                parts = {**manifest["files"], **{segment["name"]: segment for segment in manifest["segments"]}}
                broken = [name for name, part in parts.items() if not _whole(self.folder / name, part)]
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                damage.append(f"{path.name}: {error}")
                continue
            if not broken:
                if damage:
                    _log.warning("Damaged checkpoint passed over (%s); using step %d.", damage[0], manifest["step"])
                return manifest
            damage.append(f"{path.name}: {', '.join(broken)} missing, truncated or damaged")
        if damage:
            raise CadenzaError(
                f"No checkpoint in {self.folder} is whole.",
                "\n".join([*damage, "The best policy may still be in best/."]),
            )
        raise CadenzaError(
            f"There is no checkpoint in {self.folder}.", "The run ended before its first one; start anew."
        )

    def read_parameters(self, manifest: dict[str, Any], device: str) -> dict[str, Any]:
        """The state dicts of :meth:`save`'s model, and its normaliser's statistics if it has one."""
        name = f"weights-{manifest['step']:09d}.pt"
        parameters: dict[str, Any] = torch.load(self.folder / name, map_location=device, weights_only=True)
        return parameters

    def restore(self, manifest: dict[str, Any], model: BaseAlgorithm, device: str) -> None:
        """Put the model, its environments and all generators where :meth:`save` found them.

        Raises:
            CadenzaError: the checkpoint belongs to another network, environment or buffer.
        """
        try:
            self._restore(manifest, model, device)
        except CadenzaError:
            raise
        except (*UNREADABLE, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()
            raise CadenzaError(
                f"The checkpoint does not fit this agent: {' '.join(line.strip() for line in reason[:3])}",
                "config.json and checkpoints/ must come from the same run.",
            ) from error

    def _restore(self, manifest: dict[str, Any], model: BaseAlgorithm, device: str) -> None:
        weights = take_statistics(model, self.read_parameters(manifest, device))
        model.set_parameters(weights, exact_match=True, device=device)
        replay = replay_of(model)
        if replay is not None and manifest["replay"] is not None:
            for segment in manifest["segments"]:
                self._read_segment(segment, replay)
            replay.set_extra_state(manifest["replay"])
            self._mark = replay.mark()
        self._segments = manifest["segments"]
        with np.load(self.folder / f"state-{manifest['step']:09d}.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "tree"}
            state = unflatten_state(json.loads(stored["tree"].tobytes().decode()), arrays)
        _set_model_state(model, state)
        self._kept = [_names(manifest)]
        if replay is not None:
            self._mark = replay.mark()

    def _read_segment(self, segment: dict[str, Any], replay: Replay) -> None:
        with np.load(self.folder / segment["name"], allow_pickle=False) as rows:
            for name, array in replay.storage().items():
                for index, (start, stop) in enumerate(segment["ranges"]):
                    stored = rows[f"{name}_{index}"]
                    if stop > len(array) or stored.shape[1:] != array.shape[1:]:
                        raise CadenzaError("The stored replay buffer does not fit this agent's environment or size.")
                    array[start:stop] = stored


def _names(manifest: dict[str, Any]) -> set[str]:
    """All files of a checkpoint, its manifest included."""
    segments = {segment["name"] for segment in manifest["segments"]}
    return {f"checkpoint-{manifest['step']:09d}.json", *manifest["files"], *segments}


def _whole(path: Path, part: dict[str, int]) -> bool:
    try:
        if path.stat().st_size != part["bytes"]:
            return False
        crc = 0
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                crc = zlib.crc32(block, crc)
        return crc == part["crc32"]
    except OSError:
        return False


def _rows(replay: Replay, ranges: list[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    return {f"{name}_{i}": array[a:b] for name, array in replay.storage().items() for i, (a, b) in enumerate(ranges)}


def _without_covered(segments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop segments all of whose rows were written again by later ones."""
    size = max(stop for segment in segments for _, stop in segment["ranges"])
    covered = np.zeros(size, dtype=bool)
    kept = []
    for segment in reversed(segments):
        if all(covered[start:stop].all() for start, stop in segment["ranges"]):
            continue
        kept.append(segment)
        for start, stop in segment["ranges"]:
            covered[start:stop] = True
    return kept[::-1]


def _npz(arrays: dict[str, NDArray[Any]]) -> memoryview:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getbuffer()


def _text(tree: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)


# ------------------------------------------------------------------ the state beside weights and replay


def _venv(model: BaseAlgorithm) -> DummyVecEnv:
    venv = model.get_env()
    assert venv is not None
    return venv  # type: ignore[return-value]


def _loose_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Learned tensors that get_parameters leaves out, such as SAC's entropy coefficient."""
    return {name: recursive_getattr(model, name) for name in model._get_torch_save_params()[1]}


def _model_state(model: Any) -> dict[str, Any]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - Stable-Baselines3's buffers draw from it
    python_state = random.getstate()
    state = {
        "counters": {name: getattr(model, name) for name in _COUNTERS},
        "last_obs": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "episodes": [{key: float(value) for key, value in info.items()} for info in model.ep_info_buffer],
        **_env_states(_venv(model)),
        "action_space": model.action_space.np_random.bit_generator.state,
        "torch": torch.get_rng_state().numpy(),
        "numpy": numpy_state,
        "python": [python_state[0], list(python_state[1]), python_state[2]],
    }
    state["tensors"] = {name: tensor.detach().cpu().numpy() for name, tensor in _loose_tensors(model).items()}
    if hasattr(model, "get_extra_state"):
        state["agent"] = model.get_extra_state()
    return state


def _env_states(venv: Any) -> dict[str, Any]:
    """Of each environment, or of all at once where they are stepped together."""
    if hasattr(venv.unwrapped, "get_state"):
        return {"envs": [], "batch": encode_plain(venv.unwrapped.get_state())}
    return {"envs": [get_env_state(env) for env in venv.envs]}


def _set_env_states(venv: Any, state: dict[str, Any]) -> None:
    if "batch" in state:
        venv.unwrapped.set_state(decode_plain(state["batch"]))
        return
    if len(venv.envs) != len(state["envs"]):
        raise CadenzaError(f"The checkpoint has {len(state['envs'])} environments, this run {len(venv.envs)}.")
    for env, env_state in zip(venv.envs, state["envs"], strict=True):
        env.reset()
        set_env_state(env, env_state)


def _set_model_state(model: Any, state: dict[str, Any]) -> None:
    for name, value in state["counters"].items():
        setattr(model, name, value)
    model._last_obs = state["last_obs"]
    model._last_episode_starts = state["last_episode_starts"]
    # Stable-Baselines3 makes these two in a learn() that starts anew.
    model.ep_info_buffer = deque(state["episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    _set_env_states(_venv(model), state)
    model.action_space.np_random.bit_generator.state = state["action_space"]
    for name, tensor in _loose_tensors(model).items():
        if name in state.get("tensors", {}):  # not in runs of before
            tensor.data.copy_(torch.from_numpy(np.array(state["tensors"][name])))
    if "agent" in state:
        model.set_extra_state(state["agent"])
    torch.set_rng_state(torch.from_numpy(np.asarray(state["torch"], dtype=np.uint8)))
    np.random.set_state(state["numpy"])  # noqa: NPY002
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
