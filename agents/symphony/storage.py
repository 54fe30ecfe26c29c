"""Files of a Symphony agent: a zip of JSON and tensors, an .npz of replay arrays. Loading never unpickles code."""

from __future__ import annotations

import io
import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from cadenza.agents.symphony.replay import FadingReplayBuffer

_HEADER, _TENSORS = "header.json", "parameters.pt"


def write_archive(path: Any, header: str, parameters: dict[str, Any]) -> None:
    """Write header and nested state dicts; a path without suffix gets ``.zip``, as Stable-Baselines3 does.

    A file is first written beside its final name and then moved there, so that a crash leaves the old file whole.
    """
    if not isinstance(path, str | pathlib.Path):
        _write_zip(path, header, parameters)
        return
    target = pathlib.Path(path)
    target = target if target.suffix else target.with_suffix(".zip")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            _write_zip(file, header, parameters)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_zip(file: Any, header: str, parameters: dict[str, Any]) -> None:
    tensors = io.BytesIO()
    torch.save(parameters, tensors)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_HEADER, header)
        archive.writestr(_TENSORS, tensors.getvalue())


def read_archive(path: Any, device: torch.device | str = "auto") -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and nested state dicts of a file written by :func:`write_archive`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a damaged one.
    """
    if isinstance(path, str | pathlib.Path):
        path = pathlib.Path(path)
        if not path.exists() and not path.suffix:
            path = path.with_suffix(".zip")
        if not path.exists():
            raise FileNotFoundError(f"No saved agent at {path}.")
    location = "cpu" if device == "auto" else device
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(_HEADER))
            parameters = torch.load(io.BytesIO(archive.read(_TENSORS)), map_location=location, weights_only=True)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a readable Symphony agent ({error}); it may be truncated.") from error
    return header, parameters


def box_to_json(space: spaces.Space) -> dict[str, Any]:
    """A Box as JSON: shape, dtype and bounds (infinite bounds as strings, which JSON lacks)."""
    assert isinstance(space, spaces.Box)
    return {
        "shape": list(space.shape),
        "dtype": str(space.dtype),
        "low": [str(float(v)) for v in space.low.ravel()],
        "high": [str(float(v)) for v in space.high.ravel()],
    }


def box_from_json(data: dict[str, Any]) -> spaces.Box:
    """Inverse of :func:`box_to_json`."""
    shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
    low = np.array([float(v) for v in data["low"]]).reshape(shape).astype(dtype)
    high = np.array([float(v) for v in data["high"]]).reshape(shape).astype(dtype)
    return spaces.Box(low, high, shape, dtype.type)


def write_replay(path: Any, buffer: FadingReplayBuffer) -> None:
    """Write the rows in use and the buffer's counters as one .npz (float16 or float32 as stored)."""
    ranges = buffer.dirty_slots_since(0)
    parts = {f"{name}_{i}": a[s:e] for name, a in buffer.storage().items() for i, (s, e) in enumerate(ranges)}
    parts["ranges"] = np.array(ranges, dtype=np.int64)
    parts["buffer_size"] = np.array(buffer.buffer_size, dtype=np.int64)
    parts["state"] = np.frombuffer(json.dumps(buffer.get_extra_state()).encode(), dtype=np.uint8)
    target = path
    if isinstance(path, str | pathlib.Path):
        target = pathlib.Path(path)
        target = target if target.suffix else target.with_suffix(".npz")
        target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(target, pathlib.Path):
        with open(target, "wb") as file:
            np.savez(file, allow_pickle=False, **parts)
    else:
        np.savez(target, allow_pickle=False, **parts)


def read_replay(path: Any, buffer: FadingReplayBuffer) -> None:
    """Read :func:`write_replay`'s file into a buffer of the same capacity and spaces; what it held is forgotten.

    Raises:
        ValueError: the file's rows do not fit this buffer, which is then as it was.
    """
    if isinstance(path, str | pathlib.Path):
        path = pathlib.Path(path)
        path = path if path.suffix or path.exists() else path.with_suffix(".npz")
    advice = "Use the same environment, buffer_size and learning_starts."
    with np.load(path, allow_pickle=False) as data:
        # A ring of another size would be read from another place: rows that were never written, or the wrong ages.
        there = int(data["buffer_size"]) if "buffer_size" in data else None
        if there != buffer.buffer_size:
            told = "an earlier version's" if there is None else f"of {there:,} transitions"
            raise ValueError(
                f"The stored replay buffer is {told}, this agent's of {buffer.buffer_size:,} transitions. {advice}"
            )
        parts = {
            (name, start, stop): data[f"{name}_{i}"]
            for name in buffer.storage()
            for i, (start, stop) in enumerate(data["ranges"].tolist())
        }
        state = json.loads(data["state"].tobytes().decode())
    arrays = buffer.storage()
    for (name, start, stop), rows in parts.items():
        if rows.shape != arrays[name][start:stop].shape:
            raise ValueError(
                f"The stored replay buffer has rows of shape {rows.shape[1:]}, this agent's "
                f"{arrays[name].shape[1:]}. {advice}"
            )
    buffer.reset()
    for (name, start, stop), rows in parts.items():
        arrays[name][start:stop] = rows
    buffer.set_extra_state(state)


def generator_to_hex(generator: torch.Generator) -> str:
    """A generator's state as JSON-able text."""
    return generator.get_state().numpy().tobytes().hex()


def restore_generator(generator: torch.Generator, state: str) -> None:
    """Put a generator into a state of :func:`generator_to_hex`."""
    generator.set_state(torch.from_numpy(np.frombuffer(bytes.fromhex(state), dtype=np.uint8).copy()))
