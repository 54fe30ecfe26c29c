"""Figures of a set, worked out by hand; pictures of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from toys import toy_observation

from cadenza.agents.demos import DemoError, DemoRecorder, DemoSet, Feature, Schema
from cadenza.agents.demos.inspection import inspect_set
from cadenza.agents.demos.pictures import film_episode, plot_set
from cadenza.envs.rendering.video import read_frames, video_info

Write = Callable[..., DemoSet]


def by_hand(folder: Path, rate_hz: float) -> DemoSet:
    schema = Schema("toy", {}, rate_hz, {"state": Feature("float32", (2,), ("x", "y"))}, Feature("float32", (1,)), ())
    recorder = DemoRecorder(folder, schema)
    for values, success in (((1.0, 3.0), True), ((5.0, 5.0, 6.0), False)):
        recorder.start(None, "a task", {})
        for step, value in enumerate(values):
            recorder.add({"state": [value, 7.0]}, [-value], timestamp_s=0.05 * step, primitive=int(value > 4))
        recorder.finish(success)
    return DemoSet(folder)


def test_figures_by_hand(tmp_path: Path) -> None:
    found = inspect_set(by_hand(tmp_path / "set", 20.0))
    assert (found.episodes, found.successes, found.steps) == (2, 1, 5)
    assert found.lengths.tolist() == [2, 3]
    assert found.primitives == {0: 2, 1: 3}
    assert found.tasks == {"a task": 2}
    assert found.measured_hz == pytest.approx(20.0)
    assert not found.rate_is_off
    x, y, action = found.ranges
    assert (x.name, y.name, action.name) == ("state.x", "state.y", "action.0")
    assert (x.low, x.high, x.mean) == (1.0, 6.0, pytest.approx(4.0))
    assert x.std == pytest.approx(np.std([1, 3, 5, 5, 6]))
    assert (action.low, action.high) == (-6.0, -1.0)
    assert y.constant
    assert not x.constant


def test_primitives_have_the_names_that_the_episodes_tell(tmp_path: Path) -> None:
    demos = by_hand(tmp_path / "set", 20.0)
    assert inspect_set(demos).name_of(1) == "1"
    recorder = DemoRecorder(demos.folder, demos.schema)
    recorder.start(None, "a task", {"primitive_names": ["go", "hold"]})
    recorder.add({"state": [1.0, 7.0]}, [0.0], timestamp_s=0.0, primitive=1)
    recorder.finish(True)
    found = inspect_set(DemoSet(demos.folder))
    assert [found.name_of(number) for number in (0, 1, 2, -1)] == ["go", "hold", "2", "-1"]
    assert found.to_json()["primitive_names"] == ["go", "hold"]


def test_a_rate_that_was_not_kept_is_pointed_out(tmp_path: Path) -> None:
    found = inspect_set(by_hand(tmp_path / "set", 10.0))
    assert found.rate_is_off
    assert found.to_json()["measured_hz"] == pytest.approx(20.0)


def test_an_empty_set_has_figures_too(tmp_path: Path) -> None:
    demos = by_hand(tmp_path / "set", 10.0)
    for info in demos.episodes:
        info.path.write_bytes(b"nothing")
    found = inspect_set(DemoSet(demos.folder))
    assert (found.episodes, len(found.corrupt), found.rate_is_off) == (0, 2, False)
    with pytest.raises(DemoError, match="no whole episode"):
        plot_set(found, DemoSet(demos.folder), tmp_path / "p.png")


def test_a_picture_of_the_set(write_toy: Write, tmp_path: Path) -> None:
    demos = write_toy(jitter_s=0.01)
    plot_set(inspect_set(demos), demos, tmp_path / "new/p.png")
    picture = cv2.imread(str(tmp_path / "new/p.png"))
    assert picture is not None
    assert picture.std() > 10


def test_a_film_shows_all_cameras_at_the_measured_rate(write_toy: Write, tmp_path: Path) -> None:
    demos = write_toy(rate_hz=20.0)
    assert film_episode(demos, 1, tmp_path / "f.mp4") == 12
    facts = video_info(tmp_path / "f.mp4")
    assert facts["fps"] == pytest.approx(20.0)
    scale = facts["size"][1] // 32
    assert facts["size"] == (80 * scale, 32 * scale)
    frame = read_frames(tmp_path / "f.mp4", [5])[0][::scale, ::scale].astype(float)
    true = np.concatenate([toy_observation(1, 5)["side"], toy_observation(1, 5)["wrist"]], axis=1)
    assert np.abs(frame - true).mean() < 12


def test_without_a_camera_there_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no camera"):
        film_episode(by_hand(tmp_path / "set", 10.0), 0, tmp_path / "f.mp4")
