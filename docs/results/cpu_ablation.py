"""What each change of `cpu` is worth: the runs' evaluations in one table (CSV) and one picture.

    python docs/results/cpu_ablation.py runs --out docs/results

Reads ``RUNS/ablation-NAME`` for the arms below, which have seed 0. The rows of the preset itself, three seeds whose
spread says what a difference is worth, are kept from docs/results/cpu-ablation.csv: they are the wall-clock benchmark's
of before batches were mirrored.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from matplotlib import pyplot

ARMS = {
    "preset": "preset cpu",
    "preset, seed 1": "the same, seeds 1 and 2",
    "preset, seed 2": "_",
    "normalize": "observations not normalised",
    "prefill": "exploration repeated to fill the buffer",
    "age": "every age drawn alike",
    "updates": "two updates a step",
    "mirror": "mirrored batches",
}
COLUMNS = ("arm", "step", "train_s", "return_mean", "return_std", "n", "forward_velocity_mean")


def rows_of(arm: str, runs: Path) -> list[dict[str, str]]:
    """Evaluations of one arm; none where it has not been run."""
    if arm.startswith("preset"):
        with (Path(__file__).parent / "cpu-ablation.csv").open() as file:
            return [row for row in csv.DictReader(file) if row["arm"] == arm]
    path = runs / f"ablation-{arm}" / "evaluations.csv"
    if not path.is_file():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("runs", type=Path)
    parse.add_argument("--out", type=Path, default=Path(__file__).parent)
    parse.add_argument("--most-steps", type=int, default=120_000)
    told = parse.parse_args()
    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    arms = {arm: rows_of(arm, told.runs) for arm in ARMS}  # before the table is written anew
    with (told.out / "cpu-ablation.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        table.writeheader()
        for arm, label in ARMS.items():
            rows = [row for row in arms[arm] if int(row["step"]) <= told.most_steps]
            for row in rows:
                table.writerow({**row, "arm": arm})
            if rows:
                line: dict[str, Any] = {"linewidth": 1.5}
                if arm.startswith("preset"):
                    line = {"linewidth": 2.5 if arm == "preset" else 1.0, "color": "#d55e00"}
                steps, returns = ([float(row[name]) for row in rows] for name in ("step", "return_mean"))
                axis.plot(steps, returns, label=label, **line)
    axis.set(
        xlabel="environment steps",
        ylabel="noise-free return",
        title="cadenza/HumanoidPaper-v0, one core each, seed 0 where nothing else is said",
    )
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(told.out / "cpu-ablation.png", dpi=120)


if __name__ == "__main__":
    main()
