"""docs/slim.md says of skills what was measured."""

from __future__ import annotations

import json
from pathlib import Path

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
RESULTS = json.loads((DOCS / "results/slim.json").read_text())["runs"]


def cells_of_row(first: str) -> list[str]:
    """The cells of the page's table row that begins so, without marks."""
    rows = [line for line in (DOCS / "slim.md").read_text().splitlines() if line.startswith(f"| {first}")]
    assert len(rows) == 1, rows
    return [cell.strip().replace("**", "") for cell in rows[0].strip("|").split("|")][1:]


@pytest.mark.parametrize("preset", sorted({run["preset"] for run in RESULTS}))
def test_the_table_of_presets_is_the_measured_one(preset: str) -> None:
    group = Group(preset, [run for run in RESULTS if run["preset"] == preset])
    assert len(group.results) == 3
    for shown, (name, scale, digits, unit) in zip(cells_of_row(f"`{preset}`, "), COLUMNS, strict=True):
        figure = group.figure(name)
        assert figure is not None
        value, low, high = (f"{scale * number:.{digits}f}" for number in figure.to_list())
        assert shown == f"{value}{unit} ({low} to {high})", (preset, name)


SHORTER = [
    run
    for name in ("slim-400k", "slim-others")
    for run in json.loads((DOCS / f"results/{name}.json").read_text())["runs"]
]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_table_of_all_presets_is_the_measured_one(preset: str) -> None:
    group = Group(preset, [run for run in SHORTER if run["preset"] == preset])
    assert sorted(run["seed"] for run in group.results) == [0, 1, 2]
    columns = ("coverage", 100, 0, " %"), ("displacement_m", 100, 0, " cm"), *COLUMNS[3:4]
    columns += ("violations_per_1000", 1, 0, ""), ("peak_force_n", 1, 0, " N")
    for shown, (name, scale, digits, unit) in zip(cells_of_row(f"400k: `{preset}` "), columns, strict=True):
        figure = group.figure(name)
        assert figure is not None
        value, low, high = (f"{scale * number:.{digits}f}" for number in figure.to_list())
        assert shown == f"{value}{unit} ({low} to {high})", (preset, name)


LIMITED = json.loads((DOCS / "results/slim-object-limit.json").read_text())["runs"]


@pytest.mark.parametrize("preset", sorted({run["preset"] for run in LIMITED}))
def test_the_table_with_a_limit_on_what_presses_the_object_is_the_measured_one(preset: str) -> None:
    group = Group(preset, [run for run in LIMITED if run["preset"] == preset])
    assert sorted(run["seed"] for run in group.results) == [0, 1, 2]
    columns = [column for column in COLUMNS if column[0] != "cells"]
    columns.insert(4, ("violations_per_1000_object_force", 1, 1, ""))
    for shown, (name, scale, digits, unit) in zip(cells_of_row(f"limited: `{preset}`, "), columns, strict=True):
        figure = group.figure(name)
        assert figure is not None
        value, low, high = (f"{scale * number:.{digits}f}" for number in figure.to_list())
        assert shown == f"{value}{unit} ({low} to {high})", (preset, name)


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
