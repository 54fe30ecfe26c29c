"""``cadenza plot``: learning curves, and what they cost the motors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cadenza.scripts.console import escape, out
from cadenza.scripts.parse import parse


@dataclass(frozen=True)
class Plot:
    """Draw the learning curves of one or several runs on one axis.

    cadenza plot runs/first
    cadenza plot runs/symphony runs/sac --over time --out compare.png
    cadenza plot runs/symphony runs/sac --motors --out motors.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders"""
    motors: bool = False
    """draw what training and policy would have done to the motors instead of the returns"""
    out: Path | None = None
    """the picture (default: learning_curve.png, or motors.png, in the run; for several runs, here)"""
    over: Literal["steps", "time"] = "steps"
    """horizontal axis: environment steps or wall-clock"""
    title: str = ""
    """above the axis"""


def main(arguments: list[str]) -> int:
    """Parse and draw."""
    options = parse(Plot, "plot", arguments)
    from cadenza.agents.runs.motor_plot import plot_motors
    from cadenza.agents.runs.plotting import plot_runs
    from cadenza.envs.errors import CadenzaError

    if not options.runs:
        raise CadenzaError("plot needs at least one run folder.", "cadenza plot runs/first")
    folder = options.runs[0] if len(options.runs) == 1 else Path()
    destination = options.out or folder / ("motors.png" if options.motors else "learning_curve.png")
    over = "step" if options.over == "steps" else "elapsed_s"
    draw = plot_motors if options.motors else plot_runs
    draw(list(options.runs), destination, over=over, title=options.title)
    out.print(f"written: {escape(str(destination))}")
    return 0
