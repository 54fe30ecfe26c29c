"""Export to LeRobotDataset v3, the format of Hugging Face's LeRobot.

Layout, as that project's ``lerobot_dataset.py`` and ``utils.py`` (version 0.4.4) read and write it::

    meta/info.json                                features, rate, totals, patterns of the paths below
    meta/stats.json                               statistics of the whole set
    meta/tasks.parquet                            task in words -> task_index
    meta/episodes/chunk-000/file-000.parquet      a row an episode: where its rows and frames are, its statistics
    data/chunk-000/file-000.parquet               a row a step, episodes one after the other
    videos/<key>/chunk-000/file-000.mp4           frames, episodes one after the other

Every vector of the observation goes into ``observation.state``, with names; pictures are ``observation.images.<key>``.

``timestamp`` is the measured time since an episode's first step. Where there are videos LeRobot looks for a frame at
just that time, within 0.1 ms, and frames of a video are equally spaced: there, an episode whose steps were not equally
spaced gets the time of its frames. What was measured is in ``measured_time_s`` in any case.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadenza.agents.demos.dataset import DemoSet, Episode, EpisodeInfo
from cadenza.agents.demos.episode_file import encode_picture
from cadenza.agents.demos.errors import DemoError, needs
from cadenza.agents.demos.inspection import RATE_SHARE
from cadenza.agents.demos.lerobot_stats import Stats, stats_of, together
from cadenza.agents.demos.lerobot_video import CODING, EpisodeVideo
from cadenza.agents.demos.schema import Schema
from cadenza.agents.runs.settings import write_json

VERSION = "v3.0"
CHUNK_FILES = 1000
DATA_MB, VIDEO_MB = 100, 200
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
TOLERANCE_S = 1e-4
"""LeRobot's, for the distance between a step's timestamp and its frame."""
STATE, PICTURES = "observation.state", "observation.images."


def export_lerobot(
    demos: DemoSet,
    folder: Path,
    *,
    videos: bool = True,
    successes_only: bool = False,
    fps: float | None = None,
    watch: Callable[[int, int], None] = lambda *_: None,
) -> Path:
    """Write a set as a LeRobotDataset v3.

    Args:
        demos: the set.
        folder: made; nothing may be there.
        videos: pictures as H.264 videos, with loss; else as PNG files within the tables, without.
        successes_only: leave out episodes that failed.
        fps: rate to be written; None for the set's.
        watch: is told how many episodes are done, of how many.

    Returns:
        The folder.

    Raises:
        DemoError: the folder is not free, there is no episode, or the measured rate is not the nominal one.
    """
    chosen = [info for info in demos.episodes if info.success or not successes_only]
    if not chosen:
        raise DemoError(f"{demos.folder} has no {'successful ' if successes_only else ''}episode to export.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DemoError(f"{folder} exists already; nothing was changed.", "Choose another folder with --out.")
    if fps is None:
        _check_rate(demos, chosen, demos.schema.rate_hz)
    rate = fps or demos.schema.rate_hz
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    writer = _Writer(part, demos.schema, rate, videos)
    try:
        for done, info in enumerate(chosen):
            writer.add(demos.load(info.index))
            watch(done + 1, len(chosen))
        writer.finish(str(demos.description))
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        writer.close()
        shutil.rmtree(part, ignore_errors=True)
    return folder


class _Writer:
    def __init__(self, folder: Path, schema: Schema, fps: float, videos: bool):
        self._arrow, self._parquet = needs("pyarrow"), needs("pyarrow.parquet")
        self._folder, self._schema, self._fps = folder, schema, fps
        self._videos = {
            key: EpisodeVideo(
                str(folder / VIDEO_PATH).replace("{video_key}", PICTURES + key),
                fps, schema.observation[key].shape, VIDEO_MB * 2**20, CHUNK_FILES,
            )
            for key in schema.cameras if videos
        }  # fmt: skip
        self._features = features_of(schema, fps, bool(self._videos))
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._stats: list[dict[str, Stats]] = []
        self._steps = 0
        self._file, self._file_bytes = -1, 0.0
        self._table_writer: Any = None

    def add(self, episode: Episode) -> None:
        """Append an episode."""
        number, count = len(self._rows), episode.info.length
        columns = _columns(episode, self._schema, self._fps, bool(self._videos))
        task = self._tasks.setdefault(episode.info.task, len(self._tasks))
        columns |= {
            "frame_index": np.arange(count),
            "episode_index": np.full(count, number),
            "index": np.arange(self._steps, self._steps + count),
            "task_index": np.full(count, task),
        }
        stats = {key: stats_of(values) for key, values in columns.items()}
        row: dict[str, Any] = {
            "episode_index": number, "tasks": [episode.info.task], "length": count,
            "dataset_from_index": self._steps, "dataset_to_index": self._steps + count,
        }  # fmt: skip
        for key in self._schema.cameras:
            pictures = episode.observation[key]
            stats[PICTURES + key] = stats_of(pictures)
            if self._videos:
                place = self._videos[key].add(pictures)
                row |= {f"videos/{PICTURES}{key}/{name}": value for name, value in place.items()}
            else:
                columns[PICTURES + key] = pictures
        row |= dict(zip(("data/chunk_index", "data/file_index"), self._write(columns), strict=True))
        row |= {"success": episode.info.success, "seed": episode.info.seed, "source_episode": episode.info.index}
        self._steps += count
        self._rows.append(row)
        self._stats.append(stats)

    def _write(self, columns: dict[str, NDArray[Any]]) -> tuple[int, int]:
        """Append rows; chunk and file they went into."""
        table = self._table(columns)
        if self._table_writer is None or self._file_bytes + table.nbytes > DATA_MB * 2**20:
            if self._table_writer is not None:
                self._table_writer.close()
            self._file, self._file_bytes = self._file + 1, 0.0
            chunk, file = divmod(self._file, CHUNK_FILES)
            path = self._folder / DATA_PATH.format(chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._table_writer = self._parquet.ParquetWriter(path, table.schema, compression="snappy")
        self._table_writer.write_table(table)
        self._file_bytes += table.nbytes
        return divmod(self._file, CHUNK_FILES)

    def _table(self, columns: dict[str, NDArray[Any]]) -> Any:
        arrow = self._arrow
        arrays: dict[str, Any] = {}
        for key, feature in self._features.items():
            if feature["dtype"] == "video":
                continue
            values = columns[key]
            if feature["dtype"] == "image":
                kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
                entries = [{"bytes": encode_picture(value, "png"), "path": None} for value in values]
                arrays[key] = arrow.array(entries, type=kind)
                continue
            flat = arrow.array(values.astype(feature["dtype"]).ravel())
            size = feature["shape"][0]
            arrays[key] = flat if size == 1 else arrow.FixedSizeListArray.from_arrays(flat, size)
        return arrow.table(arrays)

    def finish(self, description: str) -> None:
        """Write everything under ``meta/``, and complete the files."""
        self.close()
        rows = [
            row
            | {f"stats/{key}/{name}": array.tolist() for key, of in stats.items() for name, array in of.items()}
            | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
            for row, stats in zip(self._rows, self._stats, strict=True)
        ]
        path = self._folder / EPISODES_PATH.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        self._parquet.write_table(self._arrow.Table.from_pylist(rows), path, compression="snappy")
        self._parquet.write_table(_tasks_table(self._arrow, self._tasks), self._folder / "meta/tasks.parquet")
        whole = {key: together([stats[key] for stats in self._stats]) for key in self._stats[0]}
        listed = {key: {name: array.tolist() for name, array in of.items()} for key, of in whole.items()}
        write_json(self._folder / "meta/stats.json", listed)
        write_json(
            self._folder / "meta/info.json",
            {
                "codebase_version": VERSION,
                "robot_type": self._schema.env_id,
                "total_episodes": len(rows),
                "total_frames": self._steps,
                "total_tasks": len(self._tasks),
                "chunks_size": CHUNK_FILES,
                "data_files_size_in_mb": DATA_MB,
                "video_files_size_in_mb": VIDEO_MB,
                "fps": int(self._fps) if float(self._fps).is_integer() else self._fps,
                "splits": {"train": f"0:{len(rows)}"},
                "data_path": DATA_PATH,
                "video_path": VIDEO_PATH if self._videos else None,
                "features": self._features,
                "cadenza": {"description": description, "schema": self._schema.to_json()},
            },
        )

    def close(self) -> None:
        """Complete the open files; may be called twice."""
        if self._table_writer is not None:
            self._table_writer.close()
            self._table_writer = None
        for video in self._videos.values():
            video.close()


def features_of(schema: Schema, fps: float, videos: bool) -> dict[str, dict[str, Any]]:
    """The features of ``meta/info.json``."""
    names = [name for key, feature in schema.vectors.items() for name in feature.entry_names(key)]
    action = schema.action
    found: dict[str, dict[str, Any]] = {}
    if names:
        found[STATE] = {"dtype": "float32", "shape": [len(names)], "names": names}
    for key in schema.cameras:
        height, width, _ = schema.observation[key].shape
        picture = {"dtype": "video" if videos else "image", "shape": [height, width, 3]}
        found[PICTURES + key] = {**picture, "names": ["height", "width", "channels"]}
        if videos:
            found[PICTURES + key]["info"] = {
                "video.height": height, "video.width": width, "video.codec": "h264",
                "video.pix_fmt": CODING[-1], "video.is_depth_map": False, "video.fps": fps,
                "video.channels": 3, "has_audio": False,
            }  # fmt: skip
    found["action"] = {
        "dtype": "float32",
        "shape": [action.size],
        "names": list(action.names) if action.names else action.entry_names("action"),
    }
    singles = {
        "next.reward": "float32", "next.done": "bool", "next.truncated": "bool", "next.success": "bool",
        "primitive": "int64", "measured_time_s": "float64", "timestamp": "float32", "frame_index": "int64",
        "episode_index": "int64", "index": "int64", "task_index": "int64",
    }  # fmt: skip
    return found | {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in singles.items()}


def _columns(episode: Episode, schema: Schema, fps: float, videos: bool) -> dict[str, NDArray[Any]]:
    """Of an episode, but for indices and pictures."""
    count = episode.info.length
    vectors = [episode.observation[key].reshape(count, -1).astype(np.float32) for key in schema.vectors]
    last = np.arange(count) == count - 1
    columns: dict[str, NDArray[Any]] = {STATE: np.concatenate(vectors, axis=1)} if vectors else {}
    return columns | {
        "action": episode.action.astype(np.float32),
        "next.reward": episode.reward.astype(np.float32),
        "next.done": last,
        "next.truncated": episode.truncated,
        "next.success": last & episode.info.success,
        "primitive": episode.primitive,
        "measured_time_s": episode.timestamp_s,
        "timestamp": _timestamps(episode.timestamp_s, fps, videos).astype(np.float32),
    }


def _timestamps(measured_s: NDArray[np.float64], fps: float, videos: bool) -> NDArray[np.float64]:
    since_first = measured_s - measured_s[0]
    of_frames = np.arange(len(measured_s)) / fps
    if videos and np.abs(since_first - of_frames).max() > TOLERANCE_S / 2:
        return of_frames
    return since_first


def _check_rate(demos: DemoSet, chosen: list[EpisodeInfo], fps: float) -> None:
    """A set that claims one rate and was recorded at another must not be passed on."""
    gaps = [np.diff(demos.load(info.index, cameras=()).timestamp_s) for info in chosen]
    together_s = np.concatenate(gaps)
    if not together_s.size:
        return
    measured = 1.0 / float(np.median(together_s))
    if not math.isclose(measured, fps, rel_tol=RATE_SHARE):
        raise DemoError(
            f"{demos.folder} was recorded at {measured:.2f} Hz; it claims {fps:g} Hz.",
            f"Export at what was measured with --fps {measured:.0f}, or record again.",
        )


def _tasks_table(arrow: Any, tasks: dict[str, int]) -> Any:
    """As pandas writes a frame with the index ``task`` and the column ``task_index``."""
    table = arrow.table({"task_index": arrow.array(list(tasks.values()), arrow.int64()), "task": list(tasks)})
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
        for name, kind, numpy_type in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    index = [{"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}]
    notes = {"index_columns": ["task"], "column_indexes": index, "columns": columns, "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({b"pandas": json.dumps(notes)})
