"""A robot's log becomes demonstrations: what was measured, when it was measured, and nothing made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.agents.demos import DemoError, DemoSet, MismatchError
from cadenza.agents.demos.from_log import record_log
from cadenza.controllers.log_summary import RunLog
from cadenza.controllers.telemetry import TIMINGS

STATES = ["homing", "active", "active", "active", "stopping", "active", "active"]


def log_by_hand(**given: Any) -> RunLog:
    count = len(STATES)
    numbers = np.arange(2.0 * count).reshape(count, 2)
    unknown = np.full((count, 2), np.nan)
    joints = dict.fromkeys(("requested_q", "sent_q", "tau", "temperature", "voltage", "age"), unknown)
    joints |= {"applied_q": numbers + 0.5, "q": numbers, "dq": -numbers}
    settings: dict[str, Any] = {
        "path": Path("hand.mcap"), "metadata": {"robot": "hand", "bundle": "walk"}, "joint_names": ("a", "b"),
        "period_s": 0.02, "complete": True, "time_s": np.array([0.0, 0.02, 0.041, 0.06, 0.08, 0.1, 0.12]),
        "state": STATES, "limited_by": np.zeros((count, 2), dtype=np.int64),
        "fault": np.zeros((count, 2), dtype=np.int64), "loop": {name: np.full(count, 0.25) for name in TIMINGS},
        "gravity": np.tile([0.0, 0.0, -1.0], (count, 1)), "command": np.tile([0.1, 0.0, 0.0], (count, 1)),
        "beyond_bounds": np.zeros(count), "events": [], "gyro": np.zeros((count, 3)), "action": numbers,
    }  # fmt: skip
    return RunLog(**{**settings, **given, "joints": joints | given.get("joints", {})})


def read(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadenza.agents.demos.from_log.read_log", lambda path: log)


def test_each_stretch_is_an_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(log_by_hand(), monkeypatch)
    told = record_log(Path("hand.mcap"), tmp_path / "set")
    assert (told.episodes, told.steps, told.left_out) == (2, 5, 0)
    demos = DemoSet(tmp_path / "set")
    assert demos.schema.rate_hz == 50.0
    assert demos.schema.action.names == ("a", "b")
    first = demos.load(0)
    assert first.timestamp_s.tolist() == [0.02, 0.041, 0.06]
    assert first.observation["joint_position"].tolist() == [[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]
    assert first.action.tolist() == [[2.5, 3.5], [4.5, 5.5], [6.5, 7.5]]
    assert first.truncated.tolist() == [False, False, True]
    assert (first.info.task, first.info.seed) == ("walk", None)
    assert demos.load(1).timestamp_s.tolist() == [0.1, 0.12]


def test_what_was_sent_comes_before_what_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = np.full((len(STATES), 2), np.nan)
    sent[2] = 9.0
    read(log_by_hand(joints={"sent_q": sent}), monkeypatch)
    record_log(Path("hand.mcap"), tmp_path / "set")
    assert DemoSet(tmp_path / "set").load(0).action.tolist() == [[2.5, 3.5], [9.0, 9.0], [6.5, 7.5]]


def test_ticks_that_were_not_read_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    q = np.arange(2.0 * len(STATES)).reshape(-1, 2)
    q[2, 1] = np.nan
    read(log_by_hand(joints={"q": q}), monkeypatch)
    assert record_log(Path("hand.mcap"), tmp_path / "set").left_out == 1
    assert DemoSet(tmp_path / "set").load(0).timestamp_s.tolist() == [0.02, 0.06]


def test_a_robot_without_inertial_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.full((len(STATES), 3), np.nan)
    read(log_by_hand(gravity=nothing, gyro=nothing), monkeypatch)
    record_log(Path("hand.mcap"), tmp_path / "set")
    assert list(DemoSet(tmp_path / "set").schema.observation) == ["joint_position", "joint_velocity", "command"]


def test_logs_of_one_robot_make_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(log_by_hand(), monkeypatch)
    record_log(Path("one.mcap"), tmp_path / "set")
    record_log(Path("two.mcap"), tmp_path / "set", task="again")
    assert [info.metadata["log"] for info in DemoSet(tmp_path / "set").episodes] == 2 * ["one.mcap"] + 2 * ["two.mcap"]
    read(log_by_hand(period_s=0.01), monkeypatch)
    with pytest.raises(MismatchError, match="rate: 50 Hz against 100 Hz"):
        record_log(Path("three.mcap"), tmp_path / "set")


def test_a_log_in_which_nothing_was_driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(log_by_hand(state=["homing"] * len(STATES)), monkeypatch)
    with pytest.raises(DemoError, match="never drove"):
        record_log(Path("hand.mcap"), tmp_path / "set")
