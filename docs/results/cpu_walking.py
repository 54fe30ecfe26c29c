"""Three seeds of `cpu` with mirrored batches until they walk, beside the run of before: one table (CSV), one picture.

    python docs/results/cpu_walking.py runs --out docs/results

Reads ``RUNS/walk-mirror-SEED`` and, for the preset without mirrored batches, docs/results/walker-evaluations.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib import pyplot

SEEDS = (0, 1, 2)
COLUMNS = ("run", "step", "train_s", "return_mean", "return_std", "survived", "n", "forward_velocity_mean")
COLOURS = ("#0072b2", "#009e73", "#cc79a7")


def evaluations(path: Path) -> list[dict[str, str]]:
    """Rows of a run's evaluations."""
    with path.open() as file:
        return list(csv.DictReader(file))


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("runs", type=Path)
    parse.add_argument("--out", type=Path, default=Path(__file__).parent)
    parse.add_argument("--most-steps", type=int, default=440_000)
    told = parse.parse_args()
    here = Path(__file__).parent
    runs = {
        "not mirrored, seed 0": (evaluations(here / "walker-evaluations.csv"), {"color": "0.6", "linewidth": 1.2}),
        **{
            f"mirrored, seed {seed}": (
                evaluations(told.runs / f"walk-mirror-{seed}" / "evaluations.csv"),
                {"color": COLOURS[seed], "linewidth": 1.8},
            )
            for seed in SEEDS
        },
    }
    figure, axes = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    with (told.out / "cpu-walking.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        table.writeheader()
        for label, (found, line) in runs.items():
            rows = [row for row in found if int(row["step"]) <= told.most_steps]
            for row in rows:
                table.writerow({"run": label, **row})
            steps = [float(row["step"]) for row in rows]
            for axis, name in zip(axes, ("return_mean", "forward_velocity_mean"), strict=True):
                axis.plot(steps, [float(row[name]) for row in rows], label=label, **line)
    names, lines = ("noise-free return", "forward velocity, m/s"), ((5000, 6000), (0.7,))
    for axis, name, marks in zip(axes, names, lines, strict=True):
        axis.set_ylabel(name)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        for mark in marks:
            axis.axhline(mark, color="0.3", linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False)
    axes[0].set_title("cadenza/HumanoidPaper-v0, preset cpu, one core each")
    axes[1].set_xlabel("environment steps")
    figure.savefig(told.out / "cpu-walking.png", dpi=120)


if __name__ == "__main__":
    main()
