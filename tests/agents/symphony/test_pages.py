"""docs/symphony.md says of the comparison of critics what was measured."""

from __future__ import annotations

import json
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
