"""Save an environment in the middle of an episode and go on later, bit for bit, in another process.

What is saved: every wrapper's and the environment's plain attributes (counters, flags, arrays, random generators) and,
for MuJoCo, every array of ``mjData`` whose size the model fixes. Derived quantities are among them on purpose: after
``mj_step`` they belong to an earlier state than ``qpos``, and Gymnasium's tasks observe and reward them as they are.

An environment that keeps state in objects of its own offers ``get_extra_state()`` and ``set_extra_state(state)``, in
plain values and arrays.

What is not: spaces (with their generators), the model, renderers, and objects of other libraries, such as a Box2D
world; an environment that keeps its physics there does not resume exactly.

The state is a nest of dict, list, str, int, float, bool, None and arrays. :func:`flatten_state` parts it into JSON and
arrays for an ``.npz``; nothing needs pickle.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator
from typing import Any, cast

import gymnasium as gym
import mujoco
import numpy as np

from cadenza.envs.errors import CadenzaError

logger = logging.getLogger(__name__)

TYPE_KEY = "__type__"
ARRAY_KEY = "__array__"
FLOAT_KEY = "__float__"

# How an environment was made or is shown, which the new one decides for itself, and clocks of the old process.
NOT_STATE = {
    "env", "metadata", "_metadata", "spec", "_cached_spec", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs",
    "action_space", "_action_space", "observation_space", "_observation_space", "model", "data", "mujoco_renderer",
    "render_mode", "width", "height", "camera_id", "camera_name", "fullpath", "t_start", "results_writer", "made_with",
}  # fmt: skip

MAX_DEPTH = 32


class EnvStateError(CadenzaError):
    """A saved state that does not belong to this environment."""


def get_env_state(env: gym.Env) -> dict[str, Any]:
    """The whole state of ``env`` and its wrappers; arrays are copies.

    Returns:
        ``layers``, the outermost first, each with ``class``, ``attributes`` and ``left_out`` (names of attributes that
        are no plain values), and ``mujoco``: arrays and scalars of ``mjData`` by name, or None.
    """
    layers = []
    for layer in _layers(env):
        attributes, left_out = {}, []
        for name, value in vars(layer).items():
            if name in NOT_STATE:
                continue
            try:
                attributes[name] = encode_plain(value)
            except _NotPlainError:
                left_out.append(name)
        entry = {"class": type(layer).__name__, "attributes": attributes, "left_out": left_out}
        if "get_extra_state" in dir(type(layer)):  # not that of an environment below, which wrappers hand on
            entry["extra"] = encode_plain(cast(Any, layer).get_extra_state())
        layers.append(entry)
    data = _mujoco_data(env)
    return {"layers": layers, "mujoco": None if data is None else _get_data(data)}


def set_env_state(env: gym.Env, state: dict[str, Any]) -> None:
    """Put ``env``, made the same way as the saved one, into ``state``.

    Raises:
        EnvStateError: the wrappers or the model differ from those of the saved environment (a wrapper that only
            watches may be new).
    """
    saved = [layer["class"] for layer in state["layers"]]
    layers = _layers_saved_as(saved, list(_layers(env)))
    here = [type(layer).__name__ for layer in layers]
    data = _mujoco_data(env)
    if here != saved or (data is None) != (state["mujoco"] is None):
        raise EnvStateError(
            f"The saved state is of {' > '.join(saved)}, this environment is {' > '.join(here)}.",
            "Make the environment with the same id and wrappers as the run that saved it.",
        )
    if data is not None:
        _set_data(data, state["mujoco"])
    for layer, entry in zip(layers, state["layers"], strict=True):
        _set_attributes(layer, entry)
        if "extra" in entry:
            cast(Any, layer).set_extra_state(decode_plain(entry["extra"]))


def _layers(env: gym.Env) -> Iterator[gym.Env]:
    """``env``, what it wraps, and so on down to the environment itself."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env


def _layers_saved_as(saved: list[str], layers: list[gym.Env]) -> list[gym.Env]:
    """``layers`` without those that call themselves ``optional_layer`` and were not there when the state was saved.

    Such a wrapper only watches: runs of before it existed go on with a new one.
    """
    kept: list[gym.Env] = []
    for layer in layers:
        expected = saved[len(kept)] if len(kept) < len(saved) else ""
        if type(layer).__name__ == expected or not getattr(type(layer), "optional_layer", False):
            kept.append(layer)
    return kept


def _set_attributes(layer: gym.Env, entry: dict[str, Any]) -> None:
    saved = entry["attributes"]
    for name, current in list(vars(layer).items()):
        # Made since by lazy code, such as a cache: the saved environment did not have it yet.
        if name not in saved and name not in NOT_STATE and name not in entry["left_out"] and _is_plain(current):
            delattr(layer, name)
    for name, encoded in saved.items():
        current = getattr(layer, name, None)
        if not _is_plain(current):
            continue  # a live object, e.g. a window, where the saved environment had None
        value = decode_plain(encoded)
        if isinstance(current, np.ndarray) and current.base is not None and _fits(current, value):
            current[...] = value  # a view, perhaps into mjData: it must go on being one
        else:
            setattr(layer, name, value)


def _fits(target: np.ndarray, value: Any) -> bool:
    same = isinstance(value, np.ndarray) and value.shape == target.shape and value.dtype == target.dtype
    return same and target.flags.writeable


# --- plain values -------------------------------------------------------------------------------------------------


class _NotPlainError(Exception):
    """The value holds something that is neither a plain value nor a random generator."""


def encode_plain(value: Any, depth: int = 0) -> Any:
    """``value`` with every type that JSON does not know as a dict with :data:`TYPE_KEY`."""
    kind = type(value)
    if depth > MAX_DEPTH:
        raise _NotPlainError  # a list that contains itself
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is np.ndarray and value.dtype.kind in "biufc":
        return value.copy()
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return {TYPE_KEY: "scalar", "value": np.array(value)}
    if kind is np.random.Generator:
        return {TYPE_KEY: "generator", "state": encode_plain(value.bit_generator.state, depth + 1)}
    if kind is list:
        return [encode_plain(item, depth + 1) for item in value]
    if kind is tuple:
        return {TYPE_KEY: "tuple", "items": [encode_plain(item, depth + 1) for item in value]}
    if kind is deque:
        return {TYPE_KEY: "deque", "items": [encode_plain(item, depth + 1) for item in value], "maxlen": value.maxlen}
    if kind is dict:
        items = [[encode_plain(key, depth + 1), encode_plain(item, depth + 1)] for key, item in value.items()]
        return {TYPE_KEY: "dict", "items": items}
    raise _NotPlainError


def _is_plain(value: Any) -> bool:
    try:
        encode_plain(value)
    except _NotPlainError:
        return False
    return True


def decode_plain(encoded: Any) -> Any:
    """The inverse of :func:`encode_plain`; arrays are copies."""
    if isinstance(encoded, np.ndarray):
        return encoded.copy()
    if isinstance(encoded, list):
        return [decode_plain(item) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    kind = encoded[TYPE_KEY]
    if kind == "scalar":
        return encoded["value"][()]
    if kind == "generator":
        return _decode_generator(decode_plain(encoded["state"]))
    if kind == "tuple":
        return tuple(decode_plain(item) for item in encoded["items"])
    if kind == "deque":
        return deque((decode_plain(item) for item in encoded["items"]), maxlen=encoded["maxlen"])
    if kind == "dict":
        return {decode_plain(key): decode_plain(item) for key, item in encoded["items"]}
    raise EnvStateError(f"The saved state holds a value of unknown type {kind!r}.", "Was it saved by a newer Cadenza?")


_BIT_GENERATORS: dict[str, type[np.random.BitGenerator]] = {
    cls.__name__: cls
    for cls in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}


def _decode_generator(state: dict[str, Any]) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise EnvStateError(f"The saved state holds an unknown random generator {name!r}.")
    bit_generator = _BIT_GENERATORS[name]()
    bit_generator.state = state
    return np.random.Generator(bit_generator)


# --- mjData -------------------------------------------------------------------------------------------------------


def _mujoco_data(env: gym.Env) -> mujoco.MjData | None:
    data = getattr(env.unwrapped, "data", None)
    return data if isinstance(data, mujoco.MjData) else None


def _fixed_fields(data: mujoco.MjData) -> Iterator[str]:
    """Names of the arrays whose size the model fixes.

    The others live in the arena, are empty in a new MjData and are computed anew in every step, as are the fields
    that point into the arena (islands, constraint addresses, MuJoCo 4's ``efm_*``): restored without their arena,
    they would point nowhere. ``plugin_data`` holds addresses of this process.
    """
    new = mujoco.MjData(data.model)
    for name in dir(data):
        if name.startswith(("_", "efm_", "map_", "plugin_data")) or "island" in name or "efcadr" in name:
            continue
        value = getattr(data, name)
        if isinstance(value, np.ndarray) and value.flags.writeable and getattr(new, name).size:
            yield name


def _get_data(data: mujoco.MjData) -> dict[str, Any]:
    scalars = {
        name: getattr(data, name)
        for name in dir(data)
        # Beside the time: which derived quantities are up to date, and how much is awake.
        if name == "time" or name.startswith("flg_") or name.endswith("_awake")
        if isinstance(getattr(data, name), bool | int | float)
    }
    return {"arrays": {name: getattr(data, name).copy() for name in _fixed_fields(data)}, "scalars": scalars}


def _set_data(data: mujoco.MjData, saved: dict[str, Any]) -> None:
    names = list(_fixed_fields(data))
    wrong = [
        name for name in names if name in saved["arrays"] and saved["arrays"][name].shape != getattr(data, name).shape
    ]
    if wrong:
        raise EnvStateError(
            f"The saved state is of another MuJoCo model: {', '.join(wrong[:5])} differ in shape.",
            "Make the environment with the same id, arguments and library versions as the run that saved it.",
        )
    if set(names) != set(saved["arrays"]):
        other = ", ".join(sorted(set(names) ^ set(saved["arrays"])))
        logger.warning("The state was saved by another MuJoCo version and will not resume bit for bit (%s).", other)
    mujoco.mj_resetData(data.model, data)
    for name in names:
        if name in saved["arrays"]:
            getattr(data, name)[...] = saved["arrays"][name]
    for name, value in saved["scalars"].items():
        if hasattr(data, name):
            setattr(data, name, value)


# --- JSON and arrays ----------------------------------------------------------------------------------------------


def flatten_state(state: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """``state`` as strict JSON (no NaN) and the arrays it refers to by name, e.g. for ``numpy.savez``."""
    arrays: dict[str, np.ndarray] = {}
    return _part(state, "", arrays), arrays


def _part(node: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(node, np.ndarray):
        key = path if path and path not in arrays else f"{path}#{len(arrays)}"
        arrays[key] = node
        return {ARRAY_KEY: key}
    if isinstance(node, dict):
        return {key: _part(item, f"{path}/{key}" if path else key, arrays) for key, item in node.items()}
    if isinstance(node, list):
        return [_part(item, f"{path}/{index}" if path else str(index), arrays) for index, item in enumerate(node)]
    if isinstance(node, float) and not math.isfinite(node):
        return {FLOAT_KEY: repr(node)}
    return node


def unflatten_state(tree: Any, arrays: Any) -> Any:
    """The inverse of :func:`flatten_state`; ``arrays`` is any mapping, e.g. what ``numpy.load`` returns."""
    if isinstance(tree, list):
        return [unflatten_state(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {ARRAY_KEY}:
        return np.asarray(arrays[tree[ARRAY_KEY]])
    if set(tree) == {FLOAT_KEY}:
        return float(tree[FLOAT_KEY])
    return {key: unflatten_state(item, arrays) for key, item in tree.items()}
