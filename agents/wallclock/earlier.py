"""Runs of a benchmark that ended before, read back from its wallclock.csv and wallclock.json.

A run folder weighs hundreds of megabytes and is not kept; the two files hold all that tables and curves need. Runs of
several sittings can so stand in one table, each with its own versions, commit and load.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cadenza.agents.runs.metrics import read_table
from cadenza.agents.runs.settings import RunSettings
from cadenza.agents.wallclock.plan import Plan, PlannedRun, is_symphony
from cadenza.agents.wallclock.results import COLUMNS, Finished
from cadenza.envs.errors import CadenzaError

COMPARABLE = ("env_id", "minutes", "evaluate_every_minutes", "episodes", "final_episodes")
"""Settings of a plan that must be the same for its runs to stand beside others."""
_TEXTS, _COUNTS = ("agent", "phase"), ("seed", "step", "n", "survived")


def earlier_runs(folder: Path, plan: Plan) -> tuple[list[Finished], str]:
    """The runs whose report stands in ``folder``, and the command that made it.

    Raises:
        CadenzaError: no such report, a damaged one, or one whose runs cannot be compared with those of ``plan``.
    """
    try:
        record = json.loads((folder / "wallclock.json").read_text())
        rows = [_row(row) for row in read_table(folder / "wallclock.csv")]
        different = [
            f"{name}: there {record['plan'][name]!r}, here {getattr(plan, name)!r}"
            for name in COMPARABLE
            if record["plan"][name] != getattr(plan, name)
        ]
        if different:
            raise CadenzaError(f"The runs in {folder} cannot stand beside these.", "\n".join(different))
        return [_finished(run, rows, plan) for run in record["runs"]], str(record["command"])
    except OSError as error:
        raise CadenzaError(
            f"{folder} holds no report of a wall-clock benchmark: {error.strerror or error}.",
            "--beside takes a folder with wallclock.json and wallclock.csv, such as docs/results.",
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise CadenzaError(f"The report in {folder} is damaged: {error!r}.", "Leave --beside out.") from error


def _row(row: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in COLUMNS:
        text = row.get(name, "")
        if name in _TEXTS:
            found[name] = text
        elif name == "returns":
            found[name] = [float(value) for value in text.split()]
        elif name in _COUNTS:
            found[name] = int(text)
        else:
            found[name] = float(text) if text else None
    return found


def _finished(run: dict[str, Any], rows: list[dict[str, Any]], plan: Plan) -> Finished:
    agent, seed = str(run["agent"]), int(run["seed"])
    mine = [row for row in rows if (row["agent"], row["seed"]) == (agent, seed)]
    if not mine or mine[-1]["phase"] != "final" or any(row["phase"] == "final" for row in mine[:-1]):
        raise ValueError(f"wallclock.csv has not one final row, the last, for {agent}, seed {seed}")
    name, _, preset = agent.partition(":")
    settings = RunSettings(
        agent=name,
        env_id=plan.env_id,
        preset=(preset or "cpu") if is_symphony(agent) else None,
        seed=seed,
        normalize=bool(run["normalize"]),
        overrides=dict(run["overrides"]),
    )
    planned = PlannedRun(agent, seed, settings, Path())
    return Finished(planned, run, mine, run["training_motors"], run.get("preset_settings"))
