"""A variant of the paper's, trained here, beside the paper's thresholds and our preset `cpu`: a table and a picture.

    python docs/results/paper_parity.py runs/parity-ed --out docs/results

The paper's numbers are steps until the average return of 25 noise-free episodes first passes a threshold (10 seeds).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib import pyplot

PAPER_ED = {5000: 227_000, 6000: 782_000, 7000: 2_060_000}
COLUMNS = ("step", "train_s", "return_mean", "return_std", "length_mean", "survived", "n", "forward_velocity_mean")


def evaluations(path: Path) -> list[dict[str, str]]:
    """Rows of a run's evaluations."""
    with path.open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("run", type=Path)
    parse.add_argument("--out", type=Path, default=Path(__file__).parent)
    told = parse.parse_args()
    rows = evaluations(told.run / "evaluations.csv")
    with (told.out / "paper-parity.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    figure, axis = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    steps = [float(row["step"]) for row in rows]
    returns = [float(row["return_mean"]) for row in rows]
    axis.plot(steps, returns, color="#d55e00", linewidth=1.8, label="ed, trained here, seed 0")
    with (Path(__file__).parent / "cpu-walking.csv").open() as file:
        ours = list(csv.DictReader(file))
    for seed in (0, 1, 2):
        found = [row for row in ours if row["run"] == f"mirrored, seed {seed}"]
        label = "cpu (ours), three seeds" if seed == 0 else None
        points = [float(row["step"]) for row in found], [float(row["return_mean"]) for row in found]
        axis.plot(*points, color="#0072b2", linewidth=1.0, alpha=0.6, label=label)
    axis.plot([PAPER_ED[5000]], [5000], "k*", markersize=11, label="ED in the paper: 5,000 at 227,000 steps")
    axis.axhline(5000, color="0.3", linewidth=0.8, linestyle=":")
    axis.set_xlim(0, max(260_000, 1.05 * steps[-1]))
    axis.set_ylim(0, 8_000)  # room for the legend
    axis.set_xlabel("environment steps")
    axis.set_ylabel("noise-free return")
    axis.set_title("cadenza/HumanoidPaper-v0")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="upper left")
    figure.savefig(told.out / "paper-parity.png", dpi=110)


if __name__ == "__main__":
    main()
