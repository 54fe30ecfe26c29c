"""Figures, curves and losses of runs written by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.wallclock.plan import PlannedRun
from cadenza.agents.wallclock.plot import plot_curves
from cadenza.agents.wallclock.results import (
    COLUMNS,
    MOTOR_TITLES,
    Finished,
    curve_of,
    figures_of,
    losses,
    write_rows,
)
from cadenza.envs.motor_metrics import METRICS


def row(phase: str, step: int, train_s: float, returns: list[float], **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = dict.fromkeys(METRICS)
    figures = {"return_mean": sum(returns) / len(returns), "return_std": 0.0, "n": len(returns), "length_mean": 5.0}
    base |= {"phase": phase, "step": step, "train_s": train_s, "returns": returns, "survived": 0, **figures}
    return {**base, "forward_velocity_mean": None, **more}


def finished(agent: str, seed: int, means: list[float], final: list[float], *, rate: int = 10, **more: Any) -> Finished:
    """Evaluations each minute; ``rate`` steps per second."""
    run = PlannedRun(agent, seed, RunSettings(agent="sac", env_id="x"), Path("nowhere"))
    rows = [row("training", 60 * rate * i, 60.0 * i + 0.1 * seed, [mean] * 4) for i, mean in enumerate(means, 1)]
    rows.append(row("final", 60 * rate * len(means), 60.0 * len(means), final, **more))
    for entry in rows:
        entry |= {"agent": agent, "seed": seed}
    return Finished(run, {}, rows, None)


def test_figures_by_hand() -> None:
    runs = [
        finished("sac", 0, [100, 1200, 3500], [0, 10, 20, 1000], forward_velocity_mean=1.0),
        finished("sac", 1, [100, 900, 1500], [10, 10, 10, 10], forward_velocity_mean=2.0),
        finished("sac", 2, [100, 200, 300], [20, 20, 20, 20], forward_velocity_mean=3.0),
    ]
    figures = figures_of(runs)
    assert (figures["steps"].value, figures["steps/s"].value) == (1800, 10)
    # 0 10 10 | 10 10 10 20 20 20 | 20 20 1000: the middle six of twelve.
    assert figures["interquartile mean at the budget"].value == 15
    assert "n = 12" in figures["interquartile mean at the budget"].text
    assert figures["mean return at the budget"].value == pytest.approx((1030 + 40 + 80) / 12)
    assert figures["mean return at the budget"].text.startswith("**96** (")
    assert figures["best evaluation"].value == pytest.approx((3500 + 1500 + 300) / 3)
    assert figures["forward velocity [m/s]"].value == 2.0
    # Reached in minutes 2 and 3 by two of the seeds: 1200 steps at 120.0 s, 1800 at 180.1 s.
    assert figures["min to 1,000"].value == pytest.approx(150.05 / 60)
    assert figures["min to 1,000"].text == "2.5 (2 of 3)"
    assert figures["steps to 1,000"].value == 1500
    assert (figures["min to 3,000"].text, figures["min to 5,000"].text) == ("3.0 (1 of 3)", "-")
    assert figures["hottest winding [°C], training"].value is None


def test_losses_are_told_from_the_data() -> None:
    ours = finished("symphony:cpu", 0, [100, 1500], [100, 100, 100, 100], winding_peak_c=30.0)
    figures = {
        "symphony:cpu": figures_of([ours]),
        "sac": figures_of([finished("sac", 0, [1100, 1200], [300, 300, 300, 300], winding_peak_c=60.0)]),
        "td3": figures_of([finished("td3", 0, [50, 60], [200, 200, 200, 200], rate=20)]),
    }
    told = losses(figures)
    assert list(told) == ["symphony:cpu"]
    assert told["symphony:cpu"] == [
        "steps: td3 2,400 against 1,200",
        "steps/s: td3 20 against 10",
        "mean return at the budget: sac 300 (300 to 300) against 100 (100 to 100)",
        "interquartile mean at the budget: sac 300 (300 to 300) against 100 (100 to 100)",
        "min to 1,000: sac 1.0 against 2.0",
        "steps to 1,000: sac 600 against 1,200",
    ]


def test_overlap_never_and_rounding() -> None:
    ours = figures_of([finished("symphony", 0, [10], [90.0, 100, 110, 120], saturated_share=0.1002)])
    theirs = figures_of([finished("tqc", 0, [1000], [95.0, 105, 115, 125], saturated_share=0.1001)])
    told = losses({"symphony": ours, "tqc": theirs})["symphony"]
    for what in ("mean return", "interquartile mean"):
        assert next(text for text in told if text.startswith(what)).endswith("though the intervals overlap")
    assert "min to 1,000: tqc 1.0 against never" in told
    assert not [text for text in told if "saturated" in text]  # 0.100 either way
    assert losses({"symphony": theirs, "tqc": ours})["symphony"] == []


def test_every_motor_metric_is_compared() -> None:
    """All but the count of shocks, which stands there per minute; in training and of the final policy."""
    assert set(MOTOR_TITLES) == set(METRICS) - {"gearbox_shocks"}
    ours = figures_of([finished("symphony", 0, [10], [1.0], **dict.fromkeys(MOTOR_TITLES, 2.0))])
    theirs = figures_of([finished("tqc", 0, [10], [1.0], **dict.fromkeys(MOTOR_TITLES, 1.0))])
    assert losses({"symphony": ours, "tqc": theirs})["symphony"] == [
        f"{title}, final policy: tqc 1.000 against 2.000" for title in MOTOR_TITLES.values()
    ]


def test_curve_joins_seeds_by_their_marks() -> None:
    curve = curve_of([finished("sac", 0, [0, 10, 20], [1]), finished("sac", 1, [10, 30], [1])], 60.0)
    assert (curve.agent, curve.seeds) == ("sac", 2)
    assert list(curve.iqm) == [5, 20]
    assert list(curve.train_s) == pytest.approx([60.05, 120.05])
    assert list(curve.steps) == [600, 1200]
    assert list(curve.low) == [0, 10]
    assert list(curve.high) == [10, 30]


def test_rows_as_csv(tmp_path: Path) -> None:
    run = finished("sac", 0, [1.5], [2.0, 4.0])
    write_rows(tmp_path / "rows.csv", [run])
    header, first, last = (tmp_path / "rows.csv").read_text().splitlines()
    assert header.split(",") == list(COLUMNS)
    assert first.startswith("sac,0,training,600,60,1.5,0,4,5,0,,")
    assert last.endswith(",2 4")


def test_the_picture_names_every_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two agents that end at the same point are both named, apart from each other and inside the picture."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    drawn: list[Any] = []
    original = Figure.savefig

    def save(figure: Any, *args: Any, **kwargs: Any) -> None:
        original(figure, *args, **kwargs)
        figure.canvas.draw()
        drawn.extend(text for axis in figure.axes for text in axis.texts)
        boxes.extend([Text.get_window_extent(text) for text in axis.texts] for axis in figure.axes)
        size.extend(figure.bbox.size)

    boxes: list[list[Any]] = []
    size: list[float] = []
    monkeypatch.setattr(Figure, "savefig", save)
    curve = curve_of([finished("sac", 0, [0, 500, 900], [1])], 60.0)
    plot_curves([curve, dataclasses.replace(curve, agent="symphony:cpu")], tmp_path / "curves.png", "title")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert sorted(text.get_text() for text in drawn) == ["sac (1)", "sac (1)", "symphony:cpu (1)", "symphony:cpu (1)"]
    for panel in boxes:
        assert not panel[0].overlaps(panel[1])
        assert all(box.x1 <= size[0] for box in panel)
