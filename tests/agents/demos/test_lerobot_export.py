"""LeRobotDataset v3, read back by a reader that knows only the documented layout."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_reader import LeRobotFolder
from PIL import Image
from toys import toy_action, toy_observation

from cadenza.agents.demos import DemoError, DemoSet, Feature
from cadenza.agents.demos.lerobot_export import export_lerobot
from cadenza.agents.demos.lerobot_stats import stats_of, together

Write = Callable[..., DemoSet]
CAMERAS = ("observation.images.side", "observation.images.wrist")


def test_every_step_comes_back(write_toy: Write, tmp_path: Path) -> None:
    demos = write_toy()
    found = LeRobotFolder(export_lerobot(demos, tmp_path / "out"))
    assert found.info["fps"] == 10
    assert found.tasks == {0: "task 0", 1: "task 1"}
    assert [episode["success"] for episode in found.episodes] == [True, False, True]
    assert [episode["seed"] for episode in found.episodes] == [100, 101, 102]
    assert found.features["observation.state"]["names"][:4] == ["pose.x", "pose.y", "pose.z", "cable.0"]
    for row in found.rows:
        episode, step = row["episode_index"], row["frame_index"]
        true = toy_observation(episode, step)
        state = np.concatenate([true["pose"], true["cable"].ravel(), [true["count"]], true["held"]])
        assert np.allclose(row["observation.state"], state, atol=1e-6)
        assert np.allclose(row["action"], toy_action(episode, step))
        assert row["measured_time_s"] == pytest.approx(5.0 + 0.1 * step)
        assert row["timestamp"] == pytest.approx(0.1 * step, abs=1e-5)
        assert row["primitive"] == step % 3
        last = step == found.episodes[episode]["length"] - 1
        assert row["next.done"] is last
        assert row["next.truncated"] is (last and episode == 2)
        assert row["next.success"] is (last and episode != 1)


def test_every_frame_of_the_videos_is_that_of_its_step(write_toy: Write, tmp_path: Path) -> None:
    demos = write_toy()
    found = LeRobotFolder(export_lerobot(demos, tmp_path / "out"))
    for key in CAMERAS:
        name = key.rsplit(".", 1)[1]
        every = {(e, s): toy_observation(e, s)[name].astype(float) for e in range(3) for s in range(12)}
        for row in found.rows:
            frame = found.frame(row, key).astype(float)
            nearest = min(every, key=lambda place: float(np.abs(every[place] - frame).mean()))
            assert nearest == (row["episode_index"], row["frame_index"])


def test_pictures_without_loss(write_toy: Write, tmp_path: Path) -> None:
    found = LeRobotFolder(export_lerobot(write_toy(), tmp_path / "out", videos=False))
    assert found.info["video_path"] is None
    assert not (tmp_path / "out/videos").exists()
    for row in found.rows:
        for key in CAMERAS:
            picture = np.array(Image.open(io.BytesIO(row[key]["bytes"])))
            true = toy_observation(row["episode_index"], row["frame_index"])[key.rsplit(".", 1)[1]]
            assert np.array_equal(picture, true)


def test_measured_time_is_kept(write_toy: Write, tmp_path: Path) -> None:
    """Jitter stays in the timestamps where there is no video, and beside them where frames are equally spaced."""
    demos = write_toy(jitter_s=0.01)
    measured = [demos.load(index).timestamp_s for index in range(3)]
    assert max(np.abs(np.diff(one) - 0.1).max() for one in measured) > 0.005
    pictures = LeRobotFolder(export_lerobot(demos, tmp_path / "pictures", videos=False))
    videos = LeRobotFolder(export_lerobot(demos, tmp_path / "videos"))
    for found, jittered in ((pictures, True), (videos, False)):
        for row in found.rows:
            true = measured[row["episode_index"]]
            assert row["measured_time_s"] == true[row["frame_index"]]
            at_s = true[row["frame_index"]] - true[0] if jittered else row["frame_index"] / 10
            assert row["timestamp"] == pytest.approx(at_s, abs=1e-6)
    assert videos.frame(videos.rows[5], CAMERAS[0]).shape == (32, 32, 3)


def test_a_wrong_rate_is_refused(write_toy: Write, tmp_path: Path) -> None:
    """Recorded at 20 Hz, labelled 10 Hz."""
    demos = write_toy(rate_hz=20.0)
    with pytest.raises(DemoError, match=r"recorded at 20\.00 Hz; it claims 10 Hz") as caught:
        export_lerobot(demos, tmp_path / "out")
    assert "--fps 20" in caught.value.advice
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    assert LeRobotFolder(export_lerobot(demos, tmp_path / "out", fps=20.0)).info["fps"] == 20


def test_failures_may_be_left_out(write_toy: Write, tmp_path: Path) -> None:
    found = LeRobotFolder(export_lerobot(write_toy(), tmp_path / "out", successes_only=True))
    assert [episode["source_episode"] for episode in found.episodes] == [0, 2]
    assert found.tasks == {0: "task 0"}


def test_files_have_a_limit(write_toy: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file begins with an episode, of tables as of videos; a chunk has so many files."""
    monkeypatch.setattr("cadenza.agents.demos.lerobot_export.DATA_MB", 1e-6)
    monkeypatch.setattr("cadenza.agents.demos.lerobot_export.VIDEO_MB", 1e-6)
    monkeypatch.setattr("cadenza.agents.demos.lerobot_export.CHUNK_FILES", 2)
    found = LeRobotFolder(export_lerobot(write_toy(), tmp_path / "out"))
    places = [(episode["data/chunk_index"], episode["data/file_index"]) for episode in found.episodes]
    assert places == [(0, 0), (0, 1), (1, 0)]
    assert [episode[f"videos/{CAMERAS[0]}/from_timestamp"] for episode in found.episodes] == [0.0, 0.0, 0.0]
    assert len(list((tmp_path / "out/videos").glob("*/chunk-*/file-*.mp4"))) == 6
    assert found.frame(found.rows[-1], CAMERAS[1]).shape == (32, 48, 3)


def test_odd_pictures_are_refused_as_video(write_toy: Write, tmp_path: Path) -> None:
    from toys import toy_schema

    from cadenza.agents.demos import DemoRecorder

    schema = toy_schema(observation={"side": Feature("uint8", (33, 32, 3))}, cameras=("side",))
    recorder = DemoRecorder(tmp_path / "odd", schema)
    recorder.start(0, "a task", {})
    recorder.add({"side": np.zeros((33, 32, 3), np.uint8)}, [0.0, 0.0], timestamp_s=0.0)
    recorder.finish(True)
    with pytest.raises(DemoError, match="even sides") as caught:
        export_lerobot(DemoSet(tmp_path / "odd"), tmp_path / "out")
    assert "--images" in caught.value.advice
    found = LeRobotFolder(export_lerobot(DemoSet(tmp_path / "odd"), tmp_path / "out", videos=False))
    assert "observation.state" not in found.features


def test_nothing_is_overwritten(write_toy: Write, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(DemoError, match="exists already"):
        export_lerobot(write_toy(), tmp_path / "out")
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


def test_statistics_by_hand() -> None:
    first, second = stats_of(np.array([1.0, 3.0])), stats_of(np.array([5.0, 5.0, 5.0, 9.0]))
    assert (first["mean"].tolist(), first["std"].tolist(), first["count"].tolist()) == ([2.0], [1.0], [2])
    assert first["q50"].tolist() == [2.0]
    whole: dict[str, Any] = together([first, second])
    values = [1.0, 3.0, 5.0, 5.0, 5.0, 9.0]
    assert (whole["min"][0], whole["max"][0], whole["count"][0]) == (1.0, 9.0, 6)
    assert whole["mean"][0] == pytest.approx(np.mean(values))
    assert whole["std"][0] == pytest.approx(np.std(values))
    assert whole["q50"][0] == pytest.approx((2 * 2.0 + 4 * 5.0) / 6)
    picture = np.zeros((3, 4, 4, 3), np.uint8)
    picture[..., 1] = 255
    of_pictures = stats_of(picture)
    assert of_pictures["mean"].ravel().tolist() == [0.0, 1.0, 0.0]
    assert of_pictures["mean"].shape == (3, 1, 1)
