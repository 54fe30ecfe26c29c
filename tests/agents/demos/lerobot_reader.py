"""A reader of LeRobotDataset v3 that shares nothing with the exporter: pyarrow, JSON, ffmpeg, the documented layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pyarrow.parquet as pq

INFO = {
    "codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "chunks_size",
    "data_files_size_in_mb", "video_files_size_in_mb", "fps", "splits", "data_path", "video_path", "features",
}  # fmt: skip
EVERY_STEP = {
    "timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64",
}  # fmt: skip
STATISTICS = {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}


class LeRobotFolder:
    """Opens a folder and checks it; :meth:`step` puts a step together as LeRobot does."""

    def __init__(self, root: Path):
        self.root = root
        self.info = json.loads((root / "meta/info.json").read_text())
        assert set(self.info) >= INFO
        assert self.info["codebase_version"] == "v3.0"
        self.features = self.info["features"]
        self.stats = json.loads((root / "meta/stats.json").read_text())
        tasks = pq.read_table(root / "meta/tasks.parquet")
        pandas = json.loads(tasks.schema.metadata[b"pandas"])
        assert pandas["index_columns"] == ["task"]
        self.tasks = dict(zip(tasks["task_index"].to_pylist(), tasks["task"].to_pylist(), strict=True))
        self.episodes: list[dict[str, Any]] = []
        for path in sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet")):
            self.episodes += pq.read_table(path).to_pylist()
        paths = sorted((root / "data").glob("chunk-*/file-*.parquet"))
        self.rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
        self.columns = pq.read_schema(paths[0])
        self._frames: dict[Path, np.ndarray] = {}
        self.check()

    def check(self) -> None:
        """Everything that the layout promises."""
        info, rows = self.info, self.rows
        assert (info["total_episodes"], info["total_frames"]) == (len(self.episodes), len(rows))
        assert info["total_tasks"] == len(self.tasks)
        assert info["splits"] == {"train": f"0:{len(self.episodes)}"}
        for name, dtype in EVERY_STEP.items():
            assert self.features[name] == {"dtype": dtype, "shape": [1], "names": None}
        stored = {name for name, feature in self.features.items() if feature["dtype"] != "video"}
        assert set(self.columns.names) == stored
        for name in stored:
            self._check_type(name)
        assert [row["index"] for row in rows] == list(range(len(rows)))
        start = 0
        for number, episode in enumerate(self.episodes):
            assert episode["episode_index"] == number
            assert (episode["dataset_from_index"], episode["dataset_to_index"]) == (start, start + episode["length"])
            own = rows[start : start + episode["length"]]
            assert {row["episode_index"] for row in own} == {number}
            assert [row["frame_index"] for row in own] == list(range(len(own)))
            assert [self.tasks[row["task_index"]] for row in own] == episode["tasks"] * len(own)
            path = self.root / info["data_path"].format(
                chunk_index=episode["data/chunk_index"], file_index=episode["data/file_index"]
            )
            assert number in set(pq.read_table(path)["episode_index"].to_pylist())
            for name in self.features:
                assert {key for key in STATISTICS if episode[f"stats/{name}/{key}"] is not None} == STATISTICS
            start += episode["length"]
        for name, feature in self.features.items():
            shape = (3, 1, 1) if feature["dtype"] in ("video", "image") else tuple(feature["shape"])
            assert set(self.stats[name]) == STATISTICS
            assert all(np.shape(self.stats[name][key]) == shape for key in STATISTICS - {"count"})
            assert np.shape(self.stats[name]["count"]) == (1,)

    def _check_type(self, name: str) -> None:
        feature, kind = self.features[name], str(self.columns.field(name).type)
        if feature["dtype"] == "image":
            assert kind == "struct<bytes: binary, path: string>"
            return
        value = {"float32": "float", "float64": "double"}.get(feature["dtype"], feature["dtype"])
        size = feature["shape"][0]
        lists = [f"fixed_size_list<{which}: {value}>[{size}]" for which in ("element", "item")]
        assert kind in ([value] if size == 1 else lists)

    def frame(self, row: dict[str, Any], key: str) -> np.ndarray:
        """The frame of a step: the one of the video at the episode's start plus the step's timestamp, within 0.1 ms."""
        episode = self.episodes[row["episode_index"]]
        path = self.root / self.info["video_path"].format(
            video_key=key,
            chunk_index=episode[f"videos/{key}/chunk_index"],
            file_index=episode[f"videos/{key}/file_index"],
        )
        if path not in self._frames:
            reader = imageio_ffmpeg.read_frames(str(path))
            facts = next(reader)
            assert facts["fps"] == self.info["fps"]
            width, height = facts["size"]
            assert [height, width, 3] == self.features[key]["shape"]
            self._frames[path] = np.stack([np.frombuffer(data, np.uint8).reshape(height, width, 3) for data in reader])
        at_s = episode[f"videos/{key}/from_timestamp"] + row["timestamp"]
        index = round(at_s * self.info["fps"])
        assert abs(index / self.info["fps"] - at_s) < 1e-4
        assert at_s < episode[f"videos/{key}/to_timestamp"]
        return self._frames[path][index]
