"""Recording and reading back: nothing lost, nothing half written, damage found."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from toys import toy_action, toy_observation

from cadenza.agents.demos import DemoError, DemoRecorder, DemoSet, Feature, MismatchError, Schema

Write = Callable[..., DemoSet]

SMALL = Schema("toy", {}, 10.0, {"state": Feature("float32", (2,))}, Feature("float32", (1,)), ())


def small(recorder: DemoRecorder, steps: int = 3) -> Path:
    recorder.start(1, "a task", {})
    for step in range(steps):
        recorder.add({"state": [step, 0.5]}, [0.1 * step], timestamp_s=0.1 * step)
    return recorder.finish(True)


@pytest.mark.parametrize("pictures", ["raw", "png"])
def test_a_round_trip_loses_nothing(write_toy: Write, pictures: str) -> None:

    demos = write_toy(pictures=pictures)
    assert [(info.index, info.length, info.success, info.seed, info.task) for info in demos.episodes] == [
        (0, 8, True, 100, "task 0"),
        (1, 12, False, 101, "task 1"),
        (2, 10, True, 102, "task 0"),
    ]
    assert demos.episodes[2].metadata == {"injected": "drop", "layout": 2}
    for info in demos.episodes:
        episode = demos.load(info.index)
        for step in range(info.length):
            for key, value in toy_observation(info.index, step).items():
                assert np.array_equal(episode.observation[key][step], value), (key, step)
            assert np.array_equal(episode.action[step], toy_action(info.index, step))
        assert episode.observation["cable"].dtype == np.float64
        assert episode.observation["held"].dtype == bool
        assert episode.final_observation is not None
        for key, value in toy_observation(info.index, info.length).items():
            assert np.array_equal(episode.final_observation[key], value), key
        assert episode.reward.tolist() == list(range(info.length))
        assert episode.primitive.tolist() == [step % 3 for step in range(info.length)]
        assert episode.timestamp_s == pytest.approx(5.0 + 0.1 * np.arange(info.length))
        assert np.isnan(episode.extras["tension_n"][:2]).all()
        assert episode.extras["tension_n"][2:].tolist() == [0.5 * step for step in range(2, info.length)]
    ends = [(demos.load(index).terminated[-1], demos.load(index).truncated[-1]) for index in range(3)]
    assert ends == [(True, False), (True, False), (False, True)]


def test_jpeg_loses_a_little(write_toy: Write) -> None:

    demos = write_toy(lengths=(5,), pictures="jpeg")
    picture, true = demos.load(0).observation["wrist"][3], toy_observation(0, 3)["wrist"]
    assert picture.shape == true.shape
    assert 0 < np.abs(picture.astype(int) - true).mean() < 8


def test_the_columns_are_plain_parquet(write_toy: Write) -> None:
    """Without any code of ours."""
    demos = write_toy()
    table = pq.read_table(demos.episodes[0].path)
    assert table.num_rows == 8
    assert set(table.column_names) == {
        "observation.pose", "observation.cable", "observation.count", "observation.held", "observation.side",
        "observation.wrist", "action", "reward", "terminated", "truncated", "timestamp_s", "primitive",
        "extras.tension_n",
    }  # fmt: skip
    assert np.allclose(table["action"].to_pylist()[3], [0.3, 0.0])
    assert len(table["observation.cable"].to_pylist()[0]) == 12


def test_cameras_may_be_left_out(write_toy: Write) -> None:
    episode = write_toy().load(0, cameras=("side",))
    assert set(episode.observation) == {"pose", "cable", "count", "held", "side"}
    with pytest.raises(DemoError, match="no camera 'top'"):
        write_toy("other").load(0, cameras=("top",))


def test_the_action_that_was_meant(tmp_path: Path) -> None:
    recorder = DemoRecorder(tmp_path / "set", SMALL)
    recorder.start(0, "a task", {})
    recorder.add({"state": [0.0, 0.0]}, [0.5], timestamp_s=0.0, extras={"intended.0": 0.25})
    recorder.finish(True)
    small(recorder)
    demos = DemoSet(tmp_path / "set")
    assert demos.load(0).intended.tolist() == [[0.25]]
    assert demos.load(0).intended.dtype == np.float32
    assert np.array_equal(demos.load(1).intended, demos.load(1).action)


def test_a_set_is_continued(tmp_path: Path) -> None:
    small(DemoRecorder(tmp_path / "set", SMALL, description="first"))
    path = small(DemoRecorder(tmp_path / "set", SMALL, description="second"))
    assert path.name == "episode-000001.parquet"
    demos = DemoSet(tmp_path / "set")
    assert (len(demos), demos.steps, demos.description) == (2, 6, "first")


def test_another_schema_is_refused_with_the_reason(tmp_path: Path) -> None:
    small(DemoRecorder(tmp_path / "set", SMALL))
    other = Schema("toy", {}, 20.0, SMALL.observation, SMALL.action, ())
    with pytest.raises(MismatchError, match="rate: 10 Hz against 20 Hz"):
        DemoRecorder(tmp_path / "set", other)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DemoError, match="not empty"):
        DemoRecorder(tmp_path, SMALL)
    with pytest.raises(DemoError, match=r"no set\.json"):
        DemoSet(tmp_path)


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        ({"state": [0.0, np.nan]}, [0.0], "'state' of step 0 is not finite"),
        ({"state": [0.0, 0.0]}, [np.inf], "action of step 0 is not finite"),
        ({"state": [0.0, 0.0, 0.0]}, [0.0], r"shape \(3,\); the set has \(2,\)"),
        ({"state": [0.0, 0.0]}, [0.0, 1.0], r"shape \(2,\); the set has \(1,\)"),
        ({"states": [0.0, 0.0]}, [0.0], "state, states is too much or missing"),
        ({"state": [1j, 0.0]}, [0.0], "complex128"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, observation: Any, action: Any, words: str) -> None:
    recorder = DemoRecorder(tmp_path / "set", SMALL)
    recorder.start(0, "a task", {})
    with pytest.raises(DemoError, match=words):
        recorder.add(observation, action, timestamp_s=0.0)
    recorder.add({"state": [0.0, 0.0]}, [0.0], timestamp_s=0.0)
    assert DemoSet(recorder.finish(True).parents[1]).episodes[0].length == 1


@pytest.mark.parametrize("later", [0.5, 0.4, float("nan")])
def test_time_moves_on(tmp_path: Path, later: float) -> None:
    recorder = DemoRecorder(tmp_path / "set", SMALL)
    recorder.start(0, "a task", {})
    recorder.add({"state": [0.0, 0.0]}, [0.0], timestamp_s=0.5)
    with pytest.raises(DemoError, match="timestamp"):
        recorder.add({"state": [0.0, 0.0]}, [0.0], timestamp_s=later)
    assert recorder.steps == 1


def test_what_is_added_is_copied(tmp_path: Path) -> None:
    state = np.zeros(2, np.float32)
    recorder = DemoRecorder(tmp_path / "set", SMALL)
    recorder.start(0, "a task", {})
    for step in range(3):
        state[0] = step
        recorder.add({"state": state}, [0.0], timestamp_s=float(step))
    recorder.finish(True)
    assert DemoSet(tmp_path / "set").load(0).observation["state"][:, 0].tolist() == [0.0, 1.0, 2.0]


def test_the_order_of_calls(tmp_path: Path) -> None:
    recorder = DemoRecorder(tmp_path / "set", SMALL)
    with pytest.raises(DemoError, match="No episode is open"):
        recorder.add({"state": [0.0, 0.0]}, [0.0], timestamp_s=0.0)
    recorder.start(0, "a task", {})
    with pytest.raises(DemoError, match="open already"):
        recorder.start(0, "a task", {})
    with pytest.raises(DemoError, match="no step"):
        recorder.finish(True)
    recorder.discard()
    assert not recorder.is_open
    small(recorder)
    assert len(DemoSet(tmp_path / "set")) == 1


def test_a_full_disk_leaves_the_episode_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = DemoRecorder(tmp_path / "set", SMALL)
    small(recorder)
    recorder.start(0, "a task", {})
    recorder.add({"state": [7.0, 0.0]}, [0.0], timestamp_s=0.0)

    def full(path: Path, data: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cadenza.agents.demos.episode_file.write_bytes", full)
        with pytest.raises(DemoError, match="No space left"):
            recorder.finish(True)
    assert len(DemoSet(tmp_path / "set")) == 1
    recorder.finish(True)
    assert DemoSet(tmp_path / "set").load(1).observation["state"][0, 0] == 7.0


# ------------------------------------------------------------------ damage


def flip_a_bit(path: Path) -> None:
    """Of the last byte of the first column's page."""
    column = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 0x10
    path.write_bytes(bytes(data))


def test_damaged_files_are_reported_and_left_out(write_toy: Write, tmp_path: Path) -> None:
    demos = write_toy(lengths=(6, 6, 6, 6, 6))
    paths = [info.path for info in demos.episodes]
    paths[0].write_bytes(paths[0].read_bytes()[:-20])  # cut off
    paths[1].write_bytes(b"")
    flip_a_bit(paths[2])
    shutil.copy(write_toy("other", lengths=(6,), env_settings={"clips": 3}).episodes[0].path, paths[3])
    (paths[4].parent / "mine.parquet").write_bytes(b"PAR1")
    found = DemoSet(demos.folder)
    assert [info.index for info in found.episodes] == [4]
    reasons = {path.name: reason for path, reason in found.corrupt}
    assert set(reasons) == {*(path.name for path in paths[:4]), "mine.parquet"}
    assert "another set" in reasons[paths[3].name]
    assert "clips" in reasons[paths[3].name]
    assert all(reasons.values())
    assert np.array_equal(found.load(4).action, demos.load(4).action)
    with pytest.raises(DemoError, match="no whole episode 2"):
        found.load(2)


def test_every_flipped_byte_of_the_columns_is_found(tmp_path: Path) -> None:
    """Of a small file, one after the other: it is found, or it was in a place that holds no data."""
    path = small(DemoRecorder(tmp_path / "set", SMALL), steps=6)
    whole = path.read_bytes()
    true = DemoSet(tmp_path / "set").load(0)
    missed = []
    for place in range(0, len(whole), 37):
        data = bytearray(whole)
        data[place] ^= 0xFF
        path.write_bytes(bytes(data))
        found = DemoSet(tmp_path / "set")
        if found.corrupt:
            continue
        episode = found.load(0)
        same = np.array_equal(episode.observation["state"], true.observation["state"])
        same &= np.array_equal(episode.action, true.action) and np.array_equal(episode.timestamp_s, true.timestamp_s)
        if not same:
            missed.append(place)
    assert missed == []


def test_damage_that_comes_while_reading_is_left_out_too(write_toy: Write) -> None:
    demos = write_toy(lengths=(6, 6, 6))
    flip_a_bit(demos.episodes[1].path)
    assert [episode.info.index for episode in demos.read()] == [0, 2]
    assert [path.name for path, _ in demos.corrupt] == ["episode-000001.parquet"]
    with pytest.raises(DemoError, match="damaged"):
        demos.load(1)


CHILD = """
import sys
from pathlib import Path
from cadenza.agents.demos import DemoRecorder, Feature, Schema
schema = Schema("toy", {}, 10.0, {"state": Feature("float32", (2000,))}, Feature("float32", (1,)), ())
recorder = DemoRecorder(Path(sys.argv[1]), schema)
import numpy as np
random = np.random.default_rng(0)
for episode in range(100_000):
    recorder.start(episode, "a task", {})
    for step in range(20):
        recorder.add({"state": random.normal(size=2000)}, [0.0], timestamp_s=float(step))
    recorder.finish(True)
    print(episode, flush=True)
"""


def test_a_killed_recording_loses_at_most_the_open_episode(tmp_path: Path) -> None:
    """SIGKILL at moments that nobody chose."""
    stored = 0
    for delay_s in (0.013, 0.029, 0.041):
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "set")], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        told = 1 + len(process.stdout.read().split())
        process.wait()
        demos = DemoSet(tmp_path / "set")
        assert demos.corrupt == []
        assert stored + told <= len(demos) <= stored + told + 1  # one may be renamed and not yet told
        stored = len(demos)
    assert stored >= 3


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DemoError) as caught:
        DemoRecorder(tmp_path / "set", SMALL)
    assert "pip install" in caught.value.advice
    assert "cadenza[demos]" in caught.value.advice
