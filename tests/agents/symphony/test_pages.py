"""Pages on Symphony say what was measured."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path


def test_the_table_of_critics_is_the_measured_one() -> None:
    docs = Path(__file__).parents[3] / "docs"
    found = json.loads((docs / "results/critics-panda-play.json").read_text())
    page = (docs / "symphony.md").read_text()
    for way, means in found["means"].items():
        cells = [
            cell.strip(" *`") for cell in next(x for x in page.splitlines() if x.startswith(f"| `{way}` |")).split("|")
        ]
        rows = sorted((row for row in found["rows"] if row["critics"] == way), key=lambda row: row["seed"])
        assert cells[2] == f"{means['reach']:.2f}"
        assert cells[3] == ", ".join(f"{row['reach']:.2f}" for row in rows)
        assert cells[4] == f"{means['safety']:.2f}"
        assert cells[5] == ", ".join(f"{row['safety']:.2f}" for row in rows)


def test_the_table_of_the_papers_ed_is_the_measured_one() -> None:
    results = Path(__file__).parents[3] / "docs" / "results"
    with (results / "paper-parity.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    page = (results / "paper-parity.md").read_text()
    told = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| (\d+) \| ([\d.]+) m/s \|$", page, re.MULTILINE)
    assert len(told) >= 4
    for step, mean, length, velocity in told:
        row = rows[int(step.replace(",", ""))]
        assert mean == f"{float(row['return_mean']):,.0f}"
        assert length == f"{float(row['length_mean']):.0f}"
        assert velocity == f"{float(row['forward_velocity_mean']):.2f}"
        assert row["n"] == "25"
