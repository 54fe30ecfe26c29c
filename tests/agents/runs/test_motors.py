"""What a run writes about its motors, that a resumed run writes the same, and the pictures of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cadenza.agents.runs.evaluation import evaluate
from cadenza.agents.runs.metrics import read_table
from cadenza.agents.runs.motor_plot import PANELS, plot_motors
from cadenza.agents.runs.motors import training_totals
from cadenza.agents.runs.plotting import COLOURS
from cadenza.agents.runs.policies import open_policy
from cadenza.agents.runs.settings import RunFolder, RunSettings
from cadenza.agents.runs.training import EVALUATION_SEED, resume, train
from cadenza.envs.errors import CadenzaError
from cadenza.envs.motor_metrics import COMMAND_METRICS, METRICS
from cadenza.envs.motor_watch import BLOCK
from cadenza.envs.registration import make_env

Tiny = Callable[..., RunSettings]
CLOCKS = ("elapsed_s", "train_s")


def rows_of(run: Path) -> list[dict[str, str]]:
    rows = read_table(run / "motors.csv")
    return [{name: value for name, value in row.items() if name not in CLOCKS} for row in rows]


def test_what_a_run_writes(tiny: Tiny, run_dir: Path) -> None:
    settings = tiny("sac", "Hopper-v5", total_steps=440, evaluate_every=200, n_envs=2)
    train(settings, run_dir)
    rows = rows_of(run_dir)
    assert [int(row["step"]) for row in rows] == [200, 400, 440]
    # Two robots of 0.008 s a step: their times add up.
    assert [float(row["seconds"]) for row in rows] == pytest.approx([1.6, 1.6, 0.32])
    assert [float(row["total_seconds"]) for row in rows] == pytest.approx([1.6, 3.2, 3.52])
    shocks = np.cumsum([int(row["gearbox_shocks"]) for row in rows])
    assert [int(row["total_gearbox_shocks"]) for row in rows] == shocks.tolist()
    assert shocks[0] > 0
    peaks = [float(row["winding_peak_c"]) for row in rows]
    assert 25 < peaks[0] <= peaks[1] <= peaks[2]
    assert {row["hottest_joint"] for row in rows} <= {"thigh_joint", "leg_joint", "foot_joint"}
    assert set(METRICS) <= rows[0].keys()
    assert {"motors/total_saturated_share", "evaluation/saturated_share"} <= read_table(run_dir / "progress.csv")[
        0
    ].keys()
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    assert {f"motors/{name}" for name in METRICS} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("motors/winding_peak_c")] == [200, 400, 440]
    totals = training_totals(run_dir / "motors.csv")
    assert totals is not None
    assert totals["seconds"] == pytest.approx(3.52)
    assert totals["gearbox_shocks"] == shocks[-1]
    assert totals.keys() == {"seconds", *METRICS}


def test_evaluations_tell_of_their_own_motors(tiny: Tiny, run_dir: Path) -> None:
    """The columns are those of the same episodes played again, from cold."""
    train(tiny("sac", "Hopper-v5", total_steps=80, evaluate_every=50), run_dir)
    best = json.loads((run_dir / "best" / "evaluation.json").read_text())
    again = evaluate(open_policy(run_dir).act, make_env("Hopper-v5"), episodes=1, seed=EVALUATION_SEED).motors
    assert again is not None
    assert again == best["motors"]
    (row,) = (row for row in read_table(run_dir / "evaluations.csv") if int(row["step"]) == best["step"])
    told = {name: float(row[name]) for name in METRICS if row.get(name)}
    assert told == {name: again[name] for name in METRICS if again[name] is not None}
    assert len(told) >= len(METRICS) - 1  # an episode of less than 16 steps has no spectrum
    assert again["steps"] == sum(best["lengths"])
    assert list(again["joints"]) == ["thigh_joint", "leg_joint", "foot_joint"]


def test_without_mujoco_the_torques_have_no_columns(tiny: Tiny, run_dir: Path) -> None:
    train(tiny("sac"), run_dir)
    for table in ("motors.csv", "evaluations.csv"):
        there = read_table(run_dir / table)[0].keys()
        assert set(METRICS) & there == set(COMMAND_METRICS)


def test_without_evaluations_rows_come_with_the_checkpoints(tiny: Tiny, run_dir: Path) -> None:
    train(tiny("sac", evaluate_every=0, checkpoint_every=50, total_steps=120), run_dir)
    assert [int(row["step"]) for row in rows_of(run_dir)] == [50, 100, 120]
    assert training_totals(run_dir / "motors.csv").keys() == {"seconds", *COMMAND_METRICS}  # type: ignore[union-attr]
    assert training_totals(run_dir / "nowhere.csv") is None


@pytest.mark.parametrize(
    ("agent", "n_envs"),
    [
        ("sac", 2),
        ("ppo", 1),
        pytest.param("sac", 1, marks=pytest.mark.slow),
        pytest.param("ppo", 2, marks=pytest.mark.slow),
        pytest.param("symphony", 1, marks=pytest.mark.slow),
    ],
)
def test_resumed_it_is_the_unbroken_run(
    agent: str, n_envs: int, tiny: Tiny, interrupt_at: Any, same_runs: Any, tmp_path: Path
) -> None:
    """Stopped in the middle of a block, of an episode and of an interval; blocks fill up before and after."""
    overrides = {"sac": {"train_freq": 50, "learning_starts": 100}, "ppo": {"n_steps": 64}}.get(agent, {})
    steps = n_envs * (2 * BLOCK + 100)
    settings = tiny(
        agent, "Hopper-v5", total_steps=steps, n_envs=n_envs, evaluate_every=400, checkpoint_every=300,
        overrides=overrides,
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(settings, whole)
    assert train(settings, broken, interrupt_at(BLOCK // 2 + 3)).interrupted
    assert resume(broken, interrupt_at(n_envs * BLOCK + 150)).interrupted
    resume(broken)
    same_runs(whole, broken)
    assert rows_of(broken) == rows_of(whole)
    assert float(rows_of(whole)[-1]["total_seconds"]) >= steps * 0.008


# ------------------------------------------------------------------ pictures


def run_with(path: Path, settings: RunSettings, rows: int, *, columns: tuple[str, ...] = METRICS) -> Path:
    folder = RunFolder(path)
    folder.create(settings)
    head = ",".join(["step", "elapsed_s", "seconds", *columns])
    lines = [",".join(map(str, [100 * row, row, 10.0, *[0.1 * row] * len(columns)])) for row in range(1, rows + 1)]
    for table in (folder.motors, folder.evaluations):
        table.write_text("\n".join([head, *lines]) + "\n" if rows else "")
    return path


@pytest.mark.parametrize("over", ["step", "elapsed_s"])
def test_picture(over: str, tiny: Tiny, tmp_path: Path) -> None:
    runs = [
        run_with(tmp_path / "all", tiny(), 4),
        run_with(tmp_path / "commands", tiny("sac"), 3, columns=COMMAND_METRICS),
        run_with(tmp_path / "nothing", tiny("ppo"), 0),
    ]
    picture = tmp_path / "new" / "motors.png"
    plot_motors(runs, picture, over=over, title="Three runs")
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape == (962, 2600, 3)  # 20 x 7.4 inches at 130 dots

    def pixels(colour: str, rows: slice) -> int:
        wanted = [int(colour[index : index + 2], 16) for index in (5, 3, 1)]  # BGR
        return int((np.abs(image[rows].astype(int) - wanted).sum(-1) < 60).sum())

    upper, lower = slice(0, 430), slice(430, 830)  # the legend is below
    assert pixels(COLOURS[0], upper) > 100
    assert pixels(COLOURS[0], lower) > 100
    assert pixels(COLOURS[1], upper) > 100
    assert pixels(COLOURS[1], lower) == 0


def test_every_metric_has_a_panel() -> None:
    assert {panel.metric for panel in PANELS} == set(METRICS) - {"gearbox_shocks"}  # it has one per minute


def test_nothing_to_draw(tiny: Tiny, tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", tiny(), 0)
    with pytest.raises(CadenzaError, match="no run has figures of its motors"):
        plot_motors([run], tmp_path / "motors.png")
    with pytest.raises(CadenzaError, match="is not a run"):
        plot_motors([tmp_path], tmp_path / "motors.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(CadenzaError, match="Cannot write"):
        plot_motors([run_with(tmp_path / "other", tiny(), 2)], tmp_path / "file" / "motors.png")
