"""Two policies in turns: who drives when, blending, and that what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cadenza.controllers.bundle import BundleError, PolicyBundle
from cadenza.controllers.policy_runner import PolicyRunner
from cadenza.controllers.sequenced_runner import SequencedRunner, SteadyRule, is_sequence
from cadenza.robots.hardware.types import ImuState, JointState, RobotState

FORWARD, NOTHING = np.array([0.2, 0.0, 0.0]), np.zeros(3)


@pytest.fixture
def runner(small_bundle: Callable[[str], Path]) -> SequencedRunner:
    return SequencedRunner(PolicyBundle.load(small_bundle("walk")), PolicyBundle.load(small_bundle("stand")))


def state(runner: PolicyRunner, tilt_deg: float = 0.0, turning: float = 0.0) -> RobotState:
    joints = JointState.unknown(len(runner.home))
    joints.q[:], joints.dq[:] = runner.home, 0.0
    tilt = np.radians(tilt_deg)
    imu = ImuState(np.array([turning, 0.0, 0.0]), np.array([np.sin(tilt), 0.0, -np.cos(tilt)]), 0.0)
    return RobotState(joints, imu, 0.0)


def drive(runner: SequencedRunner, ticks: int, command: np.ndarray, **how: Any) -> list[str]:
    seen = []
    for _ in range(ticks):
        runner.step(state(runner, **how), command)
        seen.append(runner.active)
    return seen


def test_it_stands_for_a_second_before_it_walks(runner: SequencedRunner) -> None:
    """50 Hz, steady_s = 1: the 50th steady sample starts the walk."""
    assert drive(runner, 60, FORWARD) == ["stand"] * 49 + ["walk"] * 11


def test_without_a_command_it_stands(runner: SequencedRunner) -> None:
    assert set(drive(runner, 80, NOTHING)) == {"stand"}
    assert drive(runner, 2, FORWARD) == ["walk", "walk"]
    assert drive(runner, 2, NOTHING) == ["stand", "stand"]


def test_shaken_it_stands_until_it_has_been_steady_for_a_second(runner: SequencedRunner) -> None:
    assert drive(runner, 60, FORWARD)[-1] == "walk"
    assert drive(runner, 3, FORWARD, tilt_deg=10.0) == ["walk"] * 3  # between steady and shaken
    assert drive(runner, 1, FORWARD, tilt_deg=16.0) == ["stand"]
    assert set(drive(runner, 70, FORWARD, tilt_deg=10.0)) == {"stand"}
    assert set(drive(runner, 70, FORWARD, turning=2.0)) == {"stand"}
    assert drive(runner, 50, FORWARD) == ["stand"] * 49 + ["walk"]


def test_every_change_is_noted_with_its_reason(runner: SequencedRunner) -> None:
    drive(runner, 60, FORWARD)
    drive(runner, 1, FORWARD, tilt_deg=16.0)
    drive(runner, 60, FORWARD)
    drive(runner, 1, NOTHING)
    assert list(runner.notes) == [
        "walk takes over: steady for 1 s",
        "stand takes over: tilted by 16 degrees",
        "walk takes over: steady for 1 s",
        "stand takes over: no velocity is asked for",
    ]


def test_each_turn_is_the_policys_own(runner: SequencedRunner, small_bundle: Callable[[str], Path]) -> None:
    alone = PolicyRunner(PolicyBundle.load(small_bundle("stand")))
    for _ in range(20):
        ours, theirs = runner.step(state(runner), NOTHING), alone.step(state(alone), NOTHING)
        np.testing.assert_array_equal(ours.q, theirs.q)
    np.testing.assert_array_equal(runner.action, alone.action)
    np.testing.assert_array_equal(runner.sample, alone.sample)
    assert runner.watch is runner.standing.watch
    walk = PolicyRunner(PolicyBundle.load(small_bundle("walk")))
    drive(runner, 40, FORWARD)  # the 50th steady sample is the 30th of these
    for _ in range(11):
        last = walk.step(state(walk), FORWARD)
    np.testing.assert_allclose(runner.step(state(runner), FORWARD).q, walk.step(state(walk), FORWARD).q, atol=1e-12)
    assert last.finite()
    assert runner.watch is not runner.standing.watch


def test_a_change_is_blended(runner: SequencedRunner) -> None:
    drive(runner, 49, FORWARD)
    before = runner.step(state(runner), NOTHING).q.copy()
    told = [runner.step(state(runner), FORWARD).q.copy() for _ in range(12)]
    assert runner.active == "walk"
    largest = max(np.abs(told[-1] - before).max(), 1e-9)
    assert np.abs(told[0] - before).max() <= 0.2 * largest + 1e-6
    steps = np.abs(np.diff(np.array([before, *told]), axis=0)).max()
    assert steps <= 0.2 * largest + 1e-6


def test_what_is_not_finite_makes_targets_that_are_refused(runner: SequencedRunner) -> None:
    lost = state(runner)
    lost.joints.q[3] = np.nan
    assert not runner.step(lost, FORWARD).finite()
    assert not runner.finite
    blind = state(runner)
    blind.imu = ImuState.unknown()
    runner.step(blind, FORWARD)
    assert runner.active == "stand"


def test_reset_begins_standing(runner: SequencedRunner) -> None:
    assert drive(runner, 60, FORWARD)[-1] == "walk"
    runner.reset()
    assert runner.active == "stand"
    assert drive(runner, 60, FORWARD) == ["stand"] * 49 + ["walk"] * 11


def sequence(folder: Path, small_bundle: Callable[[str], Path], **more: Any) -> Path:
    for name in ("walk", "stand"):
        shutil.copytree(small_bundle(name), folder / name)
    told = {"format": "cadenza-sequence-1", "walk": "walk", "stand": "stand", **more}
    (folder / "sequence.json").write_text(json.dumps(told))
    return folder


def test_a_folder_with_a_sequence(small_bundle: Callable[[str], Path], tmp_path: Path) -> None:
    folder = sequence(tmp_path / "both", small_bundle, rule={"steady_s": 0.1})
    assert is_sequence(folder)
    assert not is_sequence(folder / "walk")
    runner = SequencedRunner.load(folder)
    assert runner.rule == SteadyRule(steady_s=0.1)
    assert drive(runner, 6, FORWARD) == ["stand"] * 4 + ["walk"] * 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"format": "x"}, "format"),
        ({"rule": {"shaken": 1}}, "names no sequence"),
        ({"rule": {"steady_deg": 40}}, "cannot be"),
        ({"walk": "nowhere"}, "no policy bundle"),
    ],
)
def test_what_does_not_fit_is_refused(
    more: dict[str, Any], said: str, small_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=said):
        SequencedRunner.load(sequence(tmp_path / "both", small_bundle, **more))


def test_it_is_deployed_as_any_policy(
    small_bundle: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cadenza.scripts.main import run

    folder = sequence(tmp_path / "both", small_bundle)
    figures = tmp_path / "run.json"
    code = run(
        ["deploy", str(folder), "--bus", "sim", "--seconds", "0.4", "--yes", "--lockstep", "--json", str(figures)]
    )
    assert code in (0, 3), capsys.readouterr()  # 3: a policy that was never trained may fall, and is stopped
    assert json.loads(figures.read_text())["active_ticks"] > 0
