"""Reports of earlier sittings: read back whole, shown beside new runs, refused where they cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cadenza.agents.wallclock.earlier import earlier_runs
from cadenza.agents.wallclock.plan import Plan
from cadenza.agents.wallclock.report import write_report
from cadenza.agents.wallclock.results import write_rows
from cadenza.envs.errors import CadenzaError

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"


def plan(out: Path, **changes: Any) -> Plan:
    return Plan(out=out, **{"agents": ("ppo",), "seeds": 1, **changes})


def test_a_report_is_read_back_whole(tmp_path: Path) -> None:
    runs, command = earlier_runs(RESULTS, plan(tmp_path))
    record = json.loads((RESULTS / "wallclock.json").read_text())
    assert command == record["command"]
    assert [(run.run.agent, run.run.seed) for run in runs] == [(run["agent"], run["seed"]) for run in record["runs"]]
    write_rows(tmp_path / "again.csv", runs)
    assert sorted((tmp_path / "again.csv").read_text().splitlines()) == sorted(
        (RESULTS / "wallclock.csv").read_text().splitlines()
    )


def test_earlier_runs_stand_in_the_same_tables(tmp_path: Path) -> None:
    written = write_report(plan(tmp_path), "cadenza bench wallclock --agents ppo", RESULTS)
    assert {path.name for path in written} == {f"wallclock.{suffix}" for suffix in ("csv", "png", "md", "json")}
    page = (tmp_path / "wallclock.md").read_text()
    assert "| symphony:cpu | 0, 1, 2 |" in page
    assert "cadenza bench wallclock --agents ppo" in page
    assert "runs are still to come" in page, "ppo has not run here"
    shown = json.loads((tmp_path / "wallclock.json").read_text())
    assert shown["planned"] == shown["finished"] + 1


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CadenzaError, match="cannot stand beside") as refused:
        earlier_runs(RESULTS, plan(tmp_path, minutes=5))
    assert "minutes: there 20.0, here 5" in str(refused.value.advice)
    with pytest.raises(CadenzaError, match="holds no report"):
        earlier_runs(tmp_path, plan(tmp_path))
    (tmp_path / "wallclock.csv").write_text("agent,seed\n")
    (tmp_path / "wallclock.json").write_text('{"plan": {}}')
    with pytest.raises(CadenzaError, match="damaged"):
        earlier_runs(tmp_path, plan(tmp_path))
