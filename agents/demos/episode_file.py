"""One episode as one Parquet file: columns of steps, pictures among them, the rest in the footer.

Columns are ``observation.<key>``, ``action``, ``reward``, ``terminated``, ``truncated``, ``timestamp_s``, ``primitive``
and ``extras.<name>``; arrays are lists of fixed size, in C order. The footer holds, under the key ``cadenza``, a JSON
object: the schema, seed, task, success, length, metadata and the observation after the last step.

Pictures are stored as their plain bytes, which zstd packs over many steps at once: without loss, smaller and quicker
than PNG, which packs each by itself (docs/demonstrations.md has the figures). PNG and JPEG files as entries are the
alternatives for noisy cameras.

A file is written under a temporary name, synced and renamed, so that it is whole or not there. Each page carries a
CRC-32, and so does the object in the footer: what a disk has damaged since is found on reading, and reported.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos.errors import DemoError, needs
from cadenza.agents.demos.schema import Feature, Schema
from cadenza.agents.runs.settings import write_bytes

FORMAT = "cadenza-demo-1"
KEY, CHECK = b"cadenza", b"cadenza.crc32"
PICTURES: dict[str, list[int]] = {
    "raw": [],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
}
"""How pictures may be stored, with OpenCV's settings: plain bytes, PNG (both without loss), JPEG."""
STEP_COLUMNS = ("reward", "terminated", "truncated", "timestamp_s", "primitive")
"""Columns of one number a step that every episode has, beside observations and action."""
_PAGE_BYTES = 1 << 26
"""Pages hold whole episodes of pictures, so that zstd sees what stays the same from one to the next."""


@dataclass(frozen=True)
class EpisodeInfo:
    """What is known of an episode without reading its steps."""

    index: int
    path: Path
    length: int
    """Steps."""
    success: bool
    seed: int | None
    """Of the environment's reset; None where there was none, e.g. on a robot."""
    task: str
    """In words."""
    metadata: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Episode:
    """An episode in arrays; T steps. The observation of a step is what its action was chosen from."""

    observation: dict[str, NDArray[Any]]
    """key -> (T, ...), as the schema has them; pictures uint8 (T, height, width, 3)."""
    action: NDArray[Any]
    """(T, n)."""
    reward: NDArray[np.float64]
    """(T,)."""
    terminated: NDArray[np.bool_]
    """(T,)."""
    truncated: NDArray[np.bool_]
    """(T,)."""
    timestamp_s: NDArray[np.float64]
    """When each observation was made, measured [s], (T,)."""
    primitive: NDArray[np.int64]
    """Id of the primitive that acted, (T,); -1 where there is none."""
    info: EpisodeInfo
    extras: dict[str, NDArray[np.float64]]
    """name -> (T,); NaN where a step had none."""
    final_observation: dict[str, NDArray[Any]] | None = None
    """What was observed after the last step."""

    @property
    def intended(self) -> NDArray[Any]:
        """What an expert with noise meant to do, (T, n), for imitators; without such a record the action.

        Recorded as the extras ``intended.0``, ``intended.1``, ...
        """
        columns = [self.extras.get(f"intended.{index}") for index in range(self.action.shape[1])]
        known = [column for column in columns if column is not None]
        if len(known) < len(columns):
            return self.action
        return np.stack(known, axis=1).astype(self.action.dtype)


def encode_picture(picture: NDArray[np.uint8], kind: str) -> bytes:
    """RGB (height, width, 3) -> an entry of a column; ``kind`` is one of :data:`PICTURES`."""
    if kind == "raw":
        return picture.tobytes()
    whole, data = cv2.imencode(f".{kind}", np.ascontiguousarray(picture[..., ::-1]), PICTURES[kind])
    if not whole:
        raise DemoError(f"A picture of shape {picture.shape} cannot be stored as {kind}.")
    return data.tobytes()


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """Bytes of a PNG or JPEG file -> RGB (height, width, 3).

    Raises:
        ValueError: they are none.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a picture cannot be decoded")
    return np.ascontiguousarray(picture[..., ::-1])


# ------------------------------------------------------------------ writing


def write_episode(
    path: Path,
    schema: Schema,
    columns: Mapping[str, Sequence[Any]],
    *,
    seed: int | None,
    task: str,
    success: bool,
    metadata: Mapping[str, Any],
    final_observation: Mapping[str, NDArray[Any]] | None,
    pictures: str = "raw",
) -> None:
    """Write an episode durably: after a crash the file is whole or not there.

    Args:
        path: the file.
        schema: what the columns are of.
        columns: name -> one entry a step; pictures as :func:`encode_picture` gives them.
        seed: see :class:`EpisodeInfo`, like the next three.
        task: in words.
        success: whether the task was done.
        metadata: JSON-able.
        final_observation: see :class:`Episode`.
        pictures: one of :data:`PICTURES`: what kind of entries the columns of pictures hold.

    Raises:
        OSError: it cannot be written; nothing has changed then.
    """
    arrow, parquet = needs("pyarrow"), needs("pyarrow.parquet")
    arrays = {name: _to_arrow(arrow, values, _feature(schema, name), pictures) for name, values in columns.items()}
    facts = {
        "format": FORMAT,
        "schema": schema.to_json(),
        "length": len(columns["reward"]),
        "seed": seed,
        "task": task,
        "success": success,
        "metadata": dict(metadata),
        "final_observation": None if final_observation is None else _observation_text(schema, final_observation),
    }
    text = json.dumps(facts, default=_plain).encode()
    table = arrow.table(arrays).replace_schema_metadata({KEY: text, CHECK: str(zlib.crc32(text))})
    packed = {f"observation.{key}" for key in schema.cameras} if pictures != "raw" else set()
    buffer = io.BytesIO()
    parquet.write_table(
        table,
        buffer,
        compression={name: "none" if name in packed else "zstd" for name in table.column_names},
        use_dictionary=False,
        write_statistics=False,  # of a picture they are two more pictures, and no checksum covers them
        write_page_checksum=True,
        data_page_size=_PAGE_BYTES,
    )
    write_bytes(path, buffer.getbuffer())


def _feature(schema: Schema, column: str) -> Feature:
    """What a column holds."""
    if column.startswith("observation."):
        key = column.removeprefix("observation.")
        if key not in schema.observation:
            raise ValueError(f"it has a column {column!r}, which is not of its schema")
        return schema.observation[key]
    if column == "action":
        return schema.action
    dtypes = {"terminated": "bool", "truncated": "bool", "primitive": "int32"}
    return Feature(dtypes.get(column, "float64"), ())


def _to_arrow(arrow: Any, values: Sequence[Any], feature: Feature, pictures: str) -> Any:
    if values and isinstance(values[0], bytes):
        return arrow.array(values, type=arrow.binary(feature.size) if pictures == "raw" else arrow.large_binary())
    array = np.asarray(values, dtype=feature.dtype).reshape(len(values), *feature.shape)
    flat = arrow.array(array.ravel())
    return arrow.FixedSizeListArray.from_arrays(flat, feature.size) if feature.shape else flat


def _observation_text(schema: Schema, observation: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    found = {}
    for key, feature in schema.observation.items():
        array = np.asarray(observation[key], dtype=feature.dtype).reshape(feature.shape)
        data = encode_picture(array, "png") if key in schema.cameras else array.tobytes()
        found[key] = base64.b64encode(data).decode()
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as metadata")


# ------------------------------------------------------------------ reading


def read_facts(path: Path) -> dict[str, Any]:
    """The footer's JSON object, and whether the file ends as it should.

    Raises:
        ValueError: it is cut off or damaged, or no episode of ours.
        OSError: it cannot be read.
    """
    parquet, arrow = needs("pyarrow.parquet"), needs("pyarrow")
    try:
        footer = parquet.read_metadata(path)
    except arrow.ArrowException as error:
        raise ValueError(_first_line(error)) from error
    notes = footer.metadata or {}
    text = notes.get(KEY, b"null")
    if KEY in notes and notes.get(CHECK) != str(zlib.crc32(text)).encode():
        raise ValueError("its footer is damaged: the CRC-32 is not that of its content")
    facts: Any = json.loads(text)
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError("it is a Parquet file, but no episode that this version reads")
    if facts["length"] != footer.num_rows:
        raise ValueError(f"it holds {footer.num_rows} steps and claims {facts['length']}")
    return facts


def verify_episode(path: Path, schema: Schema) -> None:
    """Read every page of a file against its CRC-32, and look whether all columns are there and of their type.

    Raises:
        ValueError: it is damaged.
    """
    table = read_columns(path)
    needed = [f"observation.{key}" for key in schema.observation] + ["action", *STEP_COLUMNS]
    for name in needed:
        if name not in table.column_names:
            raise ValueError(f"it has no column {name!r}")
    for name in table.column_names:
        feature, kind = _feature(schema, name), table.schema.field(name).type
        allowed = [_arrow_type(feature)]
        if name.removeprefix("observation.") in schema.cameras:
            arrow = needs("pyarrow")
            allowed = [arrow.binary(feature.size), arrow.large_binary()]
        if kind not in allowed:
            raise ValueError(f"its column {name!r} is {kind}")


def _arrow_type(feature: Feature) -> Any:
    arrow = needs("pyarrow")
    value = arrow.from_numpy_dtype(feature.dtype)
    return arrow.list_(value, feature.size) if feature.shape else value


def read_columns(path: Path, columns: Sequence[str] | None = None) -> Any:
    """The columns as a pyarrow table, every page checked against its CRC-32.

    Raises:
        ValueError: it is damaged.
    """
    parquet, arrow = needs("pyarrow.parquet"), needs("pyarrow")
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except arrow.ArrowException as error:
        raise ValueError(_first_line(error)) from error
    except OSError as error:
        raise ValueError(_first_line(error)) from error


def read_episode(info: EpisodeInfo, schema: Schema, cameras: Sequence[str] | None = None) -> Episode:
    """All steps.

    Args:
        info: which episode.
        schema: of its set.
        cameras: which pictures to decode; None for all.

    Raises:
        ValueError: the file is damaged.
    """
    wanted = schema.cameras if cameras is None else cameras
    keys = [key for key in schema.observation if key not in schema.cameras or key in wanted]
    facts = read_facts(info.path)
    left_out = {f"observation.{key}" for key in schema.cameras if key not in wanted}
    names = [name for name in needs("pyarrow.parquet").read_schema(info.path).names if name not in left_out]
    table = read_columns(info.path, names)

    def column(name: str) -> NDArray[Any]:
        return _from_arrow(table.column(name), _feature(schema, name))

    extras = [name for name in names if name.startswith("extras.")]
    return Episode(
        observation={key: column(f"observation.{key}") for key in keys},
        action=column("action"),
        reward=column("reward"),
        terminated=column("terminated"),
        truncated=column("truncated"),
        timestamp_s=column("timestamp_s"),
        primitive=column("primitive").astype(np.int64),
        info=info,
        extras={name.removeprefix("extras."): column(name) for name in extras},
        final_observation=_observation_of(schema, facts["final_observation"], keys),
    )


def _from_arrow(column: Any, feature: Feature) -> NDArray[Any]:
    array = column.combine_chunks()
    kind = str(array.type)
    if kind == "large_binary":
        return np.stack([decode_picture(value) for value in array.to_pylist()])
    if kind.startswith("fixed_size_binary"):
        start = array.offset * feature.size
        flat = np.frombuffer(array.buffers()[1], np.uint8)[start : start + len(array) * feature.size]
        return flat.reshape(len(array), *feature.shape).copy()
    flat = array.flatten() if feature.shape else array
    values: NDArray[Any] = flat.to_numpy(zero_copy_only=False)
    return np.array(values, dtype=feature.dtype).reshape(len(array), *feature.shape)


def _observation_of(schema: Schema, text: Mapping[str, str] | None, keys: list[str]) -> dict[str, NDArray[Any]] | None:
    if text is None:
        return None
    found: dict[str, NDArray[Any]] = {}
    for key in keys:
        data, feature = base64.b64decode(text[key]), schema.observation[key]
        if key in schema.cameras:
            found[key] = decode_picture(data)
        else:
            found[key] = np.frombuffer(data, feature.dtype).reshape(feature.shape).copy()
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
