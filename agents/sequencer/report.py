"""A comparison as files: JSON, CSV, a Markdown table, a picture."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from cadenza.agents.runs.settings import provenance, write_bytes, write_json
from cadenza.agents.sequencer.comparison import METHODS, Plan, figures, read_cell

NAME = "comparison"
_COLOURS = {"script": "#56B4E9", "oracle": "#009E73", "learned": "#D55E00", "flat": "#CC79A7"}


def write_report(plan: Plan, first: str | None, command: str) -> list[Path]:
    """Write ``comparison.json``, ``.csv``, ``.md`` and ``.png`` into the plan's folder; what was written."""
    found = {"command": command, **figures(plan, first), **provenance()}
    paths = [plan.out / f"{NAME}.{ending}" for ending in ("json", "csv", "md", "png")]
    write_json(paths[0], found)
    write_bytes(paths[1], _csv(plan).encode())
    write_bytes(paths[2], markdown(found).encode())
    _plot(found, paths[3])
    return paths


def markdown_of(paths: list[Path]) -> str:
    """The tables among what :func:`write_report` wrote."""
    return next(path for path in paths if path.suffix == ".md").read_text()


def markdown(found: dict[str, Any]) -> str:
    """The tables, for a page."""
    lines = [
        "| method | stages | n | whole task, % (95 %) | each stage, % | recovered, % (95 %) | primitives | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, cells in found["methods"].items():
        for stages, cell in cells.items():
            each = " / ".join(f"{100 * part['share']:.0f}" for part in cell["by_stage"])
            used = "-" if cell["primitives_per_episode"] is None else f"{cell['primitives_per_episode']:.1f}"
            lines.append(
                f"| {method} | {stages} | {cell['success']['n']} | {_percent(cell['success'])} | {each} "
                f"| {_percent(cell['recovery'])} | {used} | {cell['duration_s']:.1f} |"
            )
    for stages, power in found["script_at_one_stage_to_the_k"].items():
        if stages != "1":
            lines.append(f"| script at 1 stage, p^{stages} | {stages} | | {_percent(power)} | | | | |")
    lines += ["", "Primitives of all episodes of a method:", ""]
    lines += ["| method | stages | primitive | attempts | success by its own judgement, % (95 %) | timeouts |"]
    lines += ["|---|---|---|---|---|---|"]
    for method, cells in found["methods"].items():
        for stages, cell in cells.items():
            for name, part in cell["primitives"].items():
                lines.append(
                    f"| {method} | {stages} | {name} | {part['attempts']} | {_percent(part['success'])} "
                    f"| {part['timeout']} |"
                )
    return "\n".join(lines) + "\n"


def _percent(part: dict[str, Any]) -> str:
    if part["share"] is None:
        return "-"
    return f"{100 * part['share']:.0f} ({100 * part['low']:.0f} to {100 * part['high']:.0f})"


def _csv(plan: Plan) -> str:
    """One row an episode."""
    text = io.StringIO()
    columns = ["method", "stages", "seed", "success", "finished", "reason", "steps", "duration_s", "primitives"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for method, stages in plan.cells():
        for result in read_cell(plan.out, method, stages)[: plan.episodes]:
            writer.writerow(
                {
                    "method": method,
                    "stages": stages,
                    "seed": result.seed,
                    "success": int(result.success),
                    "finished": sum(result.finished),
                    "reason": result.reason,
                    "steps": result.steps,
                    "duration_s": f"{result.duration_s:.2f}",
                    "primitives": " ".join(attempt.name for attempt in result.attempts),
                }
            )
    return text.getvalue()


def _plot(found: dict[str, Any], destination: Path) -> None:
    """Success over length, a line a method, with intervals, and p^k dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 4.4), constrained_layout=True)
    lengths: set[int] = set()
    methods = found["methods"]
    for index, (method, cells) in enumerate(methods.items()):
        x = [int(stages) + 0.03 * (index - len(methods) / 2) for stages in cells]
        parts = [cell["success"] for cell in cells.values()]
        y = [100 * part["share"] for part in parts]
        low = [100 * (part["share"] - part["low"]) for part in parts]
        high = [100 * (part["high"] - part["share"]) for part in parts]
        spread = [[max(0.0, value) for value in side] for side in (low, high)]
        axis.errorbar(x, y, spread, color=_COLOURS[method], marker="o", capsize=3, label=f"{method}: {METHODS[method]}")
        lengths |= {int(stages) for stages in cells}
    powers = found["script_at_one_stage_to_the_k"]
    if powers:
        axis.plot(
            [int(stages) for stages in powers], [100 * part["share"] for part in powers.values()], color="#000000",
            linestyle="--", label="(script at 1 stage)^k",
        )  # fmt: skip
    axis.set_xticks(sorted(lengths))
    axis.set(xlabel="stages", ylabel="whole task done, %", ylim=(-3, 103))
    axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    figure.savefig(destination, dpi=150)
    pyplot.close(figure)
