"""docs/slim.md says of skills what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents.slim.comparison import Group
from cadenza.agents.slim.presets import PRESETS

DOCS = Path(__file__).parents[3] / "docs"
COLUMNS = (
    ("coverage", 100, 0, " %"),
    ("cells", 1, 0, ""),
    ("displacement_m", 100, 0, " cm"),
    ("consistency", 1, 2, ""),
    ("violations_per_1000", 1, 1, ""),
    ("peak_force_n", 1, 0, " N"),
    ("object_force_n", 1, 0, " N"),
)


def runs_of(name: str) -> list[dict[str, Any]]:
    """The runs of a comparison in docs/results."""
    runs: list[dict[str, Any]] = json.loads((DOCS / f"results/{name}.json").read_text())["runs"]
    return runs


RESULTS = runs_of("slim")


def cells_of_row(first: str) -> list[str]:
    """The cells of the page's table row that begins so, without marks."""
    rows = [line for line in (DOCS / "slim.md").read_text().splitlines() if line.startswith(f"| {first}")]
    assert len(rows) == 1, rows
    return [cell.strip().replace("**", "") for cell in rows[0].strip("|").split("|")][1:]


Columns = Sequence[tuple[str, int, int, str]]


def check_row(first: str, runs: list[dict[str, Any]], preset: str, columns: Columns) -> None:
    """The row that begins so has the mean and interval over three seeds of these runs."""
    group = Group(preset, [run for run in runs if run["preset"] == preset])
    assert sorted(run["seed"] for run in group.results) == [0, 1, 2]
    for shown, (name, scale, digits, unit) in zip(cells_of_row(first), columns, strict=True):
        figure = group.figure(name)
        assert figure is not None
        value, low, high = (f"{scale * number:.{digits}f}" for number in figure.to_list())
        assert shown == f"{value}{unit} ({low} to {high})", (preset, name)


@pytest.mark.parametrize("preset", sorted({run["preset"] for run in RESULTS}))
def test_the_table_of_presets_is_the_measured_one(preset: str) -> None:
    check_row(f"`{preset}`, ", RESULTS, preset, COLUMNS)


SHORTER = runs_of("slim-400k") + runs_of("slim-others")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_table_of_all_presets_is_the_measured_one(preset: str) -> None:
    columns = ("coverage", 100, 0, " %"), ("displacement_m", 100, 0, " cm"), ("consistency", 1, 2, "")
    check_row(
        f"400k: `{preset}` ", SHORTER, preset,
        (*columns, ("violations_per_1000", 1, 0, ""), ("peak_force_n", 1, 0, " N")),
    )  # fmt: skip


LIMITED = runs_of("slim-object-limit")


@pytest.mark.parametrize("preset", sorted({run["preset"] for run in LIMITED}))
def test_the_table_with_a_limit_on_what_presses_the_object_is_the_measured_one(preset: str) -> None:
    columns = [column for column in COLUMNS if column[0] != "cells"]
    columns.insert(4, ("violations_per_1000_object_force", 1, 1, ""))
    check_row(f"limited: `{preset}`, ", LIMITED, preset, columns)


@pytest.mark.parametrize(
    ("row", "task", "name", "scale", "unit"),
    [
        ("`position`: within", "position", "success", 100, " %"),
        ("`position`: error", "position", "final_error_m", 100, " cm"),
        ("`circle`: mean", "circle", "mean_error_m", 100, " cm"),
        ("`lemniscate`: mean", "lemniscate", "mean_error_m", 100, " cm"),
    ],
)
def test_the_table_of_tasks_is_the_measured_one(row: str, task: str, name: str, scale: int, unit: str) -> None:
    results = json.loads((DOCS / "results/slim-downstream.json").read_text())[task]["results"]
    for shown, one in zip(cells_of_row(row), ("high level (ppo)", "zero-shot", "random skills"), strict=True):
        value, low, high = (f"{scale * number:.0f}" for number in results[one][name])
        assert shown == f"{value}{unit} ({low} to {high})"
